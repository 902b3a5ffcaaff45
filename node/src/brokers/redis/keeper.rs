//! What keeps a session alive, and the common house in order.
//!
//! **What it owns.** One task per session: it renews the lease, brings back what dead nodes held the moment their leases end,
//! moves what is due when it has the schedule's clock, restores what Celery's dead workers left, and takes back deliveries that
//! were dropped. **Who sends to it.** [`Returns`]. **What bounds it.** One renewal a second at most; returns by the credits that
//! deliveries hold. **When it dies.** With the session's last subscription: the lease then ends by itself.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use redis::Value;
use tokio::{sync::mpsc, time::sleep_until};
use umbel_scheduler::membership;

use super::{
    super::{Held, Returns},
    Shared,
    session::Session,
};
use crate::redis::{answer, error::RedisError, script::Script};

static RENEW: Script =
    Script::new("renew", concat!(include_str!("../../redis/scripts/pulse.lua"), include_str!("../../redis/scripts/renew.lua")));

/// The longest time between two renewals.
const RENEW_MAX: Duration = Duration::from_secs(1);

/// The same for a session that holds nothing: what others expect of everybody who lives.
const RENEW_IDLE_MAX: Duration = Duration::from_millis(membership::RENEWAL_MAX_MS.unsigned_abs());

/// How long a schedule's clock may be late before other sessions move what is due.
const CLOCK_GRACE: Duration = Duration::from_millis(300);

/// How often Celery's stale messages are looked for: kombu's interval times its throttle.
const SWEEP: Duration = Duration::from_secs(100);

/// How long any of that takes at a time, however much there is of it: the lease is renewed in between.
const STINT: Duration = Duration::from_millis(200);

/// Starts the keeper of a session.
pub(super) fn start(shared: &Arc<Shared>, session: &Arc<Session>) {
    crate::task::spawn(keep(Arc::downgrade(shared), Arc::downgrade(session)));
}

/// A way to give deliveries back without waiting.
pub(super) fn returns(shared: &Arc<Shared>, session: &Arc<Session>) -> Returns {
    let (returns, mut receiver) = Returns::new();
    let (shared, session) = (Arc::downgrade(shared), Arc::downgrade(session));
    crate::task::spawn(async move {
        while let Some(first) = receiver.recv().await {
            let mut held = vec![first];
            drain(&mut receiver, &mut held);
            let Some(shared) = shared.upgrade() else { return };
            take_back(&shared, &session, held).await;
        }
    });
    returns
}

fn drain(receiver: &mut mpsc::UnboundedReceiver<Held>, held: &mut Vec<Held>) {
    while held.len() < 500 {
        match receiver.try_recv() {
            Ok(next) => held.push(next),
            Err(_) => return,
        }
    }
}

/// Gives deliveries back, trying again while the node lives; afterwards the lease does it.
async fn take_back(shared: &Arc<Shared>, session: &Weak<Session>, held: Vec<Held>) {
    let mut held = held;
    held.retain(|held| shared.may_hold(&held.tag, held.attempt));
    let tags: Vec<String> = held.into_iter().map(|held| held.tag.as_str().to_owned()).collect();
    loop {
        match shared.give_back(&tags).await {
            Ok(()) => return,
            Err(error) if error.is_transient() && session.strong_count() > 0 => {
                tracing::debug!("deliveries cannot be given back now: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => {
                // Not refreshed any more: whoever looks for what nobody acknowledged finds them.
                shared.let_go(tags.iter().map(String::as_str));
                tracing::warn!("deliveries cannot be given back, the lease or the visibility timeout will do it: {error}");
                return;
            }
        }
    }
}

/// What a renewal says.
#[derive(Debug)]
struct Renewal {
    ours: bool,
    /// Until another session's lease ends.
    next_end: Option<Duration>,
    has_clock: bool,
    /// Until the schedule is due.
    next_due: Option<Duration>,
}

async fn renew(shared: &Shared, session: &Session) -> Result<Renewal, RedisError> {
    let asked = Instant::now();
    let name = session.name();
    let mut call = RENEW.call(5);
    call.arg(shared.keys.leases()).arg(shared.keys.kombu.unacked_index()).arg(shared.keys.clock()).arg(shared.keys.schedules());
    call.arg(shared.keys.pulse()).arg(&*name).arg(session.lease_ms()).arg(shared.held_by(&name));
    let answer = answer::list(shared.link.script(&RENEW, &call).await?, "a renewal")?;
    let number = |at: usize| answer::int(answer.get(at)).ok_or_else(|| RedisError::strange("a renewal"));
    let now = number(1)?;
    if number(0)? == 0 {
        return Ok(Renewal { ours: false, next_end: None, has_clock: false, next_due: None });
    }
    session.is_sure(asked);
    let until = |at: i64| (at >= 0).then(|| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)));
    Ok(Renewal { ours: true, next_end: until(number(2)?), has_clock: number(3)? == 1, next_due: until(number(4)?) })
}

async fn keep(shared: Weak<Shared>, session: Weak<Session>) {
    let Some(mut schedule) = shared.upgrade().map(|shared| shared.tracking.schedule()) else { return };
    let mut plan = Plan::new();
    loop {
        {
            let (Some(shared), Some(session)) = (shared.upgrade(), session.upgrade()) else { return };
            if session.is_closed() {
                return;
            }
            if let Err(error) = plan.carry_out(&shared, &session).await {
                // A server that comes back may have forgotten what it answered last.
                session.doubt();
                tracing::debug!(node = %session.node, "the lease cannot be looked after now: {error}");
            }
        }
        tokio::select! {
            () = sleep_until(plan.next().into()) => {}
            changed = schedule.changed(), if plan.has_clock => match changed {
                Ok(()) => plan.look_at_schedule = true,
                Err(_) => return,
            },
        }
    }
}

/// What is to be done when.
#[derive(Debug)]
struct Plan {
    renew_at: Instant,
    rescue_at: Option<Instant>,
    promote_at: Option<Instant>,
    sweep_at: Instant,
    has_clock: bool,
    look_at_schedule: bool,
}

impl Plan {
    fn new() -> Self {
        let now = Instant::now();
        Self { renew_at: now, rescue_at: None, promote_at: None, sweep_at: now, has_clock: false, look_at_schedule: false }
    }

    fn next(&self) -> Instant {
        [Some(self.renew_at), self.rescue_at, self.promote_at, Some(self.sweep_at)].into_iter().flatten().min().unwrap_or(self.renew_at)
    }

    async fn carry_out(&mut self, shared: &Arc<Shared>, session: &Session) -> Result<(), RedisError> {
        if self.renew_at <= Instant::now() {
            self.renew_at = Instant::now() + session.lease.min(RENEW_MAX) / 8;
            self.renew(shared, session).await?;
        }
        // What is done besides has a time to be tried again at before it is begun: should it fail, the lease is renewed all the same.
        if self.rescue_at.is_some_and(|at| at <= Instant::now()) {
            self.rescue_at = Some(Instant::now() + CLOCK_GRACE);
            // Where somebody else is at it, and dies, the next renewal tells again.
            if shared.rescue(Some(STINT)).await? {
                self.rescue_at = None;
            }
        }
        if self.look_at_schedule {
            self.look_at_schedule = false;
            self.promote_at = shared.next_due().await?.map(|until| Instant::now() + until);
        }
        if self.promote_at.is_some_and(|at| at <= Instant::now()) {
            self.promote_at = Some(Instant::now() + CLOCK_GRACE);
            self.promote_at = shared.promote(Some(STINT)).await?.map(|until| Instant::now() + until.max(Duration::from_millis(1)));
        }
        if self.sweep_at <= Instant::now() {
            self.sweep_at = Instant::now() + SWEEP;
            if !shared.sweep(STINT).await? {
                self.sweep_at = Instant::now() + CLOCK_GRACE;
            }
        }
        Ok(())
    }

    async fn renew(&mut self, shared: &Arc<Shared>, session: &Session) -> Result<(), RedisError> {
        let begun = Instant::now();
        let renewal = renew(shared, session).await?;
        if !renewal.ours && !session.is_closed() {
            session.begin_anew(shared).await?;
        }
        let now = Instant::now();
        // Two renewals fit into the shortest usual lease, with time to spare for a slow answer. Who holds nothing loses nothing.
        let pause = if shared.holds_none() { (session.lease / 2).min(RENEW_IDLE_MAX) } else { (session.lease * 2 / 5).min(RENEW_MAX) };
        self.renew_at = begun + pause;
        self.rescue_at = renewal.next_end.map(|until| now + until + Duration::from_millis(1)).filter(|at| *at <= self.renew_at);
        let had_clock = std::mem::replace(&mut self.has_clock, renewal.has_clock);
        let grace = if renewal.has_clock { Duration::ZERO } else { CLOCK_GRACE };
        self.promote_at = renewal.next_due.map(|until| now + until + grace);
        if renewal.has_clock && !had_clock {
            // From now on the server tells when something is due earlier.
            self.look_at_schedule = true;
        }
        Ok(())
    }
}

impl Shared {
    /// Until the schedule is due next; the server tells when that changes.
    async fn next_due(&self) -> Result<Option<Duration>, RedisError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.schedules()).arg(0).arg(0).arg("WITHSCORES");
        let first: Value = self.tracking.read(&command).await?;
        let due = match answer::list(first, "a look at the schedule")?.as_slice() {
            [] => None,
            // RESP3 pairs members and scores.
            [Value::Array(pair)] => answer::int(pair.get(1)),
            [_, score] => answer::int(Some(score)),
            _ => return Err(RedisError::strange("a look at the schedule")),
        };
        Ok(due.map(|due| Duration::from_millis(u64::try_from(due - crate::clock::now()).unwrap_or(0))))
    }
}
