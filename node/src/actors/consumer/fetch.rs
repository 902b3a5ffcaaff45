//! The fetch loop: waits for room, asks for at most that much, makes claims of what comes.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use ractor::ActorRef;
use tokio::{
    sync::{Mutex, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{DecodeError, Invocation, Limits, QueueName};

use super::{
    super::{Credits, Shared, cast, chance::Backoff, guarded, panic_text},
    ConsumerMsg,
};
use crate::{
    brokers::{BrokerError, Delivery, Returns, Subscription},
    claim::{Claim, Credit, Debt},
    ledgers::{Stamp, Taken},
};

/// Where the subscription sits. The lock is a baton rather than protection for data: the loop has it for as long as it
/// lives, the loop of the next consumer takes it over, and at the very end the supervisor, who closes it.
pub(crate) type Seat = Arc<Mutex<Option<Seated>>>;

/// A subscription and the queues it takes from.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) queues: Vec<QueueName>,
}

/// How long fewer than a batch of credits may wait to become one.
const BATCH_WAIT: Duration = Duration::from_millis(2);

/// How the loop is getting on: which fetch it is waiting in, for the stall watch. Odd while it waits for the broker.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// The number of the fetch that is under way, if one is.
    pub(crate) fn waiting(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|count| count % 2 == 1)
    }

    fn begins(&self) {
        self.0.fetch_or(1, Ordering::Relaxed);
    }

    fn ends(&self) {
        self.0.store((self.0.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Relaxed);
    }
}

/// Starts the loop; `anew` gives the old subscription up first.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    seat: Seat,
    pace: Arc<Pace>,
    consumer: ActorRef<ConsumerMsg>,
    anew: bool,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(crate::task::spawn(async move {
        let mut subscription = seat.lock_owned().await;
        if anew {
            *subscription = None;
        }
        let run = AssertUnwindSafe(run(&shared, &mut subscription, &pace, &consumer)).catch_unwind().await;
        if let Err(panic) = run {
            cast(&consumer, ConsumerMsg::FetchDied(panic_text(&*panic)));
        }
    }))
}

async fn run(shared: &Shared, seat: &mut Option<Seated>, pace: &Pace, consumer: &ActorRef<ConsumerMsg>) {
    let mut backoff = Backoff::by_link();
    let mut queues = shared.queues.subscribe();
    loop {
        match fetch(shared, seat, pace, &mut queues).await {
            Ok(None) => {}
            Ok(Some((deliveries, returns))) => {
                backoff.reset();
                shared.links.broker.up();
                let mut claims = claims(deliveries, &returns, &shared.credits.semaphore);
                find_ended(shared, &mut claims).await;
                if !claims.is_empty() {
                    cast(consumer, ConsumerMsg::Fetched(claims));
                }
            }
            Err(error) => {
                if matches!(error, BrokerError::Closed) {
                    *seat = None;
                }
                shared.links.broker.down(&error.to_string());
                sleep(backoff.next()).await;
            }
        }
    }
}

/// Fetches once; `None` when the node takes from other queues from now on.
async fn fetch(
    shared: &Shared,
    seat: &mut Option<Seated>,
    pace: &Pace,
    queues: &mut watch::Receiver<Vec<QueueName>>,
) -> Result<Option<(Vec<Delivery>, Returns)>, BrokerError> {
    let wanted = queues.borrow_and_update().clone();
    if wanted.is_empty() {
        rest(seat).await?;
        // Nothing to take from, until there is; the node lives as long as its shared state.
        let _ = queues.changed().await;
        return Ok(None);
    }
    let subscription = &mut take_from(shared, seat, wanted).await?.subscription;
    let room = room(&shared.credits).await;
    if queues.has_changed().unwrap_or(false) {
        // A take that has begun goes on, perhaps from a queue that is not wanted any more.
        return Ok(None);
    }
    shared.faults.hit("consumer.fetch");
    pace.begins();
    let fetching = AssertUnwindSafe(subscription.fetch(room)).catch_unwind();
    let fetched = tokio::select! {
        biased;
        fetched = fetching => Some(fetched),
        Ok(()) = queues.changed() => None,
    };
    pace.ends();
    match fetched {
        None => Ok(None),
        Some(Ok(fetched)) => Ok(Some((fetched?, subscription.returns()))),
        Some(Err(panic)) => {
            // Nobody knows what state it is in.
            *seat = None;
            resume_unwind(panic)
        }
    }
}

/// Has a subscription that takes from `wanted`.
async fn take_from<'a>(shared: &Shared, seat: &'a mut Option<Seated>, wanted: Vec<QueueName>) -> Result<&'a mut Seated, BrokerError> {
    let stays = match seat {
        Some(seated) if seated.queues == wanted => true,
        Some(seated) => match seated.subscription.take_from(&wanted).await {
            Ok(()) => {
                tracing::info!(queues = ?wanted, "taking from other queues");
                seated.queues.clone_from(&wanted);
                true
            }
            Err(BrokerError::Refused { reason, .. }) => {
                tracing::debug!("the subscription cannot change its queues, so there will be a new one: {reason}");
                false
            }
            Err(error) => return Err(error),
        },
        None => false,
    };
    if !stays {
        // The old one is dropped when the new one is there: what it took stays the node's.
        *seat = Some(Seated { subscription: subscribe(shared).await?, queues: wanted });
    }
    seat.as_mut().ok_or(BrokerError::Closed)
}

/// Has a subscription take nothing until there are queues again. One that keeps its queues gives back by itself what nobody fetches.
async fn rest(seat: &mut Option<Seated>) -> Result<(), BrokerError> {
    let Some(seated) = seat.as_mut().filter(|seated| !seated.queues.is_empty()) else { return Ok(()) };
    match seated.subscription.take_from(&[]).await {
        Ok(()) => seated.queues.clear(),
        Err(BrokerError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Subscribes as this node.
pub(crate) async fn subscribe(shared: &Shared) -> Result<Box<dyn Subscription>, BrokerError> {
    shared.subscribe().await
}

/// Waits until there is room for a message that placement allows, and a moment longer for a batch of them. Only this loop takes
/// credits, so what is free now is still free when the messages come.
async fn room(credits: &Credits) -> u32 {
    let semaphore = &credits.semaphore;
    let mut offer = credits.offer.subscribe();
    loop {
        // In this order: a pool that changes its size meanwhile says so through the offer, after the total.
        let allowed = offer.borrow_and_update().messages;
        let total = credits.total();
        let allowed = allowed.min(total);
        // What placement does not allow has to be free on top.
        let withheld = total - allowed;
        if allowed == 0 {
            // An error is the end of the node.
            let _ = offer.changed().await;
            continue;
        }
        let batch = withheld.saturating_add(credits.batch().min(allowed));
        if semaphore.available_permits() < batch as usize {
            // What came together goes back at once: the claims take their credits when there are claims.
            let _ = timeout(BATCH_WAIT, semaphore.acquire_many(batch)).await;
            tokio::select! {
                _ = semaphore.acquire_many(withheld.saturating_add(1)) => {}
                _ = offer.changed() => continue,
            }
        }
        let free = u32::try_from(semaphore.available_permits()).unwrap_or(u32::MAX);
        return free.saturating_sub(withheld).clamp(1, super::FETCH_MAX);
    }
}

/// Asks of which messages there is nothing left to run, among those that may not be the first of their kind. Until there is an
/// answer none of them runs.
async fn find_ended(shared: &Shared, claims: &mut [Claim]) {
    let mut asked = Vec::new();
    let mut taken = Vec::new();
    for claim in claims.iter_mut() {
        let Ok(invocation) = claim.invocation.clone() else { continue };
        let again = claim.debt.held().attempt > 1 || claim.lost;
        if again || Stamp::is_on(&invocation) {
            taken.push(Taken { invocation, again });
            asked.push(claim);
        }
    }
    if taken.is_empty() {
        return;
    }
    let mut backoff = Backoff::by_link();
    loop {
        match shared.ledger.ended(&taken).await {
            Ok(ended) => {
                shared.links.ledger.up();
                return asked.into_iter().zip(ended).for_each(|(claim, ended)| claim.ended = ended);
            }
            Err(error) if error.is_transient() => shared.links.ledger.down(&error.to_string()),
            Err(error) => return tracing::error!(%error, "whether tasks that came again have ended cannot be found out; they run again"),
        }
        sleep(backoff.next()).await;
    }
}

fn claims(mut deliveries: Vec<Delivery>, returns: &Returns, credits: &Arc<Semaphore>) -> Vec<Claim> {
    let mut permits = loop {
        let fits = deliveries.len().min(credits.available_permits());
        let taken = credits.clone().try_acquire_many_owned(u32::try_from(fits).unwrap_or(u32::MAX));
        if let Ok(permits) = taken {
            break permits;
        }
        // A pool that has shrunk took some of them just now.
    };
    // The room was larger when they were asked for. What does not fit any more goes back.
    for delivery in deliveries.drain(permits.num_permits()..) {
        tracing::debug!(tag = delivery.held.tag.as_str(), "there is no room any more for a message that was asked for");
        returns.give_back(delivery.held);
    }
    deliveries
        .into_iter()
        .filter_map(|delivery| {
            let credit = Credit::new(permits.split(1)?);
            let Delivery { held, crashes, lost, envelope } = delivery;
            let invocation = envelope.and_then(|envelope| {
                guarded(|| Invocation::decode(&envelope, Limits::default()))
                    .unwrap_or_else(|panic| Err(DecodeError::new("message", format!("the decoder panicked: {panic}"))))
            });
            let debt = Debt::new(held, returns.clone());
            Some(Claim { invocation: invocation.map(Arc::new), debt, begun: false, crashes, lost, ended: None, credit })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use umbel_scheduler::placement::{Offer, Why};

    use super::*;

    /// Goal: the loop waits for a batch while the rest is busy, but never longer than a moment for less than one.
    #[tokio::test(start_paused = true)]
    async fn room_is_what_is_free() {
        let credits = Credits::new(8, 2, 1_000);
        assert_eq!(room(&credits).await, 16);
        let held = credits.semaphore.clone().try_acquire_many_owned(15).unwrap();
        assert_eq!(room(&credits).await, 1);
        drop(held);
        let all = credits.semaphore.clone().try_acquire_many_owned(16).unwrap();
        let mut waiting = std::pin::pin!(room(&credits));
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        drop(all);
        assert_eq!(waiting.await, 16);
        assert_eq!(credits.semaphore.available_permits(), 16);
    }

    /// Goal: what placement does not allow is not fetched, and a change of mind is heard at once.
    #[tokio::test(start_paused = true)]
    async fn placement_is_obeyed() {
        let credits = Credits::new(4, 4, 1_000);
        let allow = |messages| credits.offer.send_replace(Offer { messages, why: Why::OthersBusy });
        allow(4);
        assert_eq!(room(&credits).await, 4);
        let held = credits.semaphore.clone().try_acquire_many_owned(4).unwrap();
        let mut waiting = std::pin::pin!(room(&credits));
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "it holds what it may");
        allow(16);
        assert_eq!(waiting.await, 12);
        allow(0);
        drop(held);
        let mut waiting = std::pin::pin!(room(&credits));
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "it may hold nothing");
        allow(1);
        assert_eq!(waiting.await, 1);
    }

    /// Goal: the pace tells one waiting from the next.
    #[test]
    fn pace_tells_fetches_apart() {
        let pace = Pace::default();
        assert_eq!(pace.waiting(), None);
        pace.begins();
        let first = pace.waiting();
        assert!(first.is_some());
        pace.ends();
        assert_eq!(pace.waiting(), None);
        pace.begins();
        assert_ne!(pace.waiting(), first);
    }
}
