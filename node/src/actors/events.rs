//! Events: tells Celery's monitors how the node is, and what becomes of its tasks if somebody wants to know; hears what other
//! workers tell.
//!
//! **What it owns.** Four loops, each a task that ends with it: the heartbeat; events of tasks, made of facts
//! ([`crate::facts`]), so that log, metrics and events agree; events of what beat sends, where they are asked for; and the ear for
//! others. **Who sends to it.** Its loops, by ending.
//! **What it sends on.** Events to the broker; those of others to whoever subscribed ([`Telling`](crate::telling::Telling)).
//!
//! **What bounds it.** Facts wait in their ring, where the oldest are dropped for who lags; a list carries at most [`BATCH`]
//! events. While events of tasks are off, it does not subscribe, and facts cost nothing more.
//!
//! **When it dies**, or the broker is away, events are lost, as Celery's are, and nothing else.

mod elections;
mod making;

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::broadcast::error::{RecvError, TryRecvError},
    time::{interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{
    Envelope, Event, Map,
    event::{Action, MULTI},
};

use super::{Shared, cast, supervisor::SupervisorMsg};
use crate::{
    brokers::fanout::{Address, Fanout},
    control::EVENT_EXCHANGE,
};

/// The time between heartbeats. Others take a node for dead that is silent for twice as long.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
/// The most events of tasks in one message.
const BATCH: usize = 200;
/// How long the first event of a batch waits for others.
const LINGER: Duration = Duration::from_millis(10);
/// How long saying farewell may take.
const FAREWELL: Duration = Duration::from_millis(300);

/// The actor.
pub(crate) struct Events;

/// What it is started with.
pub(crate) struct EventsArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) supervisor: ActorRef<SupervisorMsg>,
}

/// What it is told.
pub(crate) enum EventsMsg {
    /// A loop has ended, which it should not.
    Ended(String),
}

pub(crate) struct State {
    _loops: [AbortOnDropHandle<()>; 4],
}

impl Actor for Events {
    type Msg = EventsMsg;
    type State = State;
    type Arguments = EventsArgs;

    async fn pre_start(&self, myself: ActorRef<EventsMsg>, args: EventsArgs) -> Result<State, ActorProcessingErr> {
        let EventsArgs { shared, supervisor } = args;
        let Some(fanout) = shared.broker.fanout() else {
            let nothing = || AbortOnDropHandle::new(crate::task::spawn(std::future::pending()));
            return Ok(State { _loops: [nothing(), nothing(), nothing(), nothing()] });
        };
        let beating = keep("heartbeat", &myself, beat(shared.clone(), fanout.clone(), supervisor));
        let telling = keep("events of tasks", &myself, tell(shared.clone(), fanout.clone()));
        let sending = keep("events of beat", &myself, tell_sent(shared.clone(), fanout.clone()));
        let hearing = keep("events of others", &myself, elections::hear(shared, fanout));
        Ok(State { _loops: [beating, telling, sending, hearing] })
    }

    async fn handle(&self, _: ActorRef<EventsMsg>, message: EventsMsg, _: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            EventsMsg::Ended(why) => Err(why.into()),
        }
    }
}

/// Runs a loop, and tells the actor if it ends.
fn keep(what: &'static str, myself: &ActorRef<EventsMsg>, run: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    let myself = myself.clone();
    AbortOnDropHandle::new(crate::task::spawn(async move {
        // Dropped with this task, and the inner one with it.
        let run = AbortOnDropHandle::new(crate::task::spawn(run));
        let why = match run.await {
            Ok(()) => format!("the loop of {what} ended"),
            Err(error) => format!("the loop of {what}: {error}"),
        };
        cast(&myself, EventsMsg::Ended(why));
    }))
}

/// Says that the node is there, that it is alive, and (by [`farewell`]) that it goes.
async fn beat(shared: Arc<Shared>, fanout: Arc<dyn Fanout>, supervisor: ActorRef<SupervisorMsg>) {
    let mut beats = shared.telling.beats.subscribe();
    let mut due = interval(BEAT);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    due.tick().await;
    let online = Action::WorkerOnline(making::state(&shared, 0));
    send(&shared, &*fanout, online).await;
    loop {
        tokio::select! {
            _ = due.tick() => {}
            changed = beats.changed() => if changed.is_err() { return },
        }
        let active = making::active(&supervisor).await;
        send(&shared, &*fanout, Action::WorkerHeartbeat(making::state(&shared, active))).await;
    }
}

/// Says that the node goes. Whoever does not hear it will find out by its silence.
pub(crate) async fn farewell(shared: &Shared) {
    shared.telling.leave();
    if let Some(fanout) = shared.broker.fanout() {
        let offline = Action::WorkerOffline(making::state(shared, 0));
        let said = timeout(FAREWELL, async { tokio::join!(send(shared, &*fanout, offline), shared.telling.control_closed()) });
        if said.await.is_err() {
            tracing::debug!("there was no time to say farewell to Celery's monitors");
        }
    }
}

/// Sends one event.
async fn send(shared: &Shared, fanout: &dyn Fanout, action: Action) {
    let event = making::event(shared, action, None);
    let key = event.routing_key();
    post(shared, fanout, key, event.write()).await;
}

async fn post(shared: &Shared, fanout: &dyn Fanout, key: String, body: Vec<u8>) {
    let envelope = Envelope {
        body: body.into(),
        content_type: "application/json".to_owned(),
        content_encoding: "utf-8".to_owned(),
        headers: Map::from_iter([("hostname".to_owned(), shared.node.as_str().into())]),
        properties: Map::new(),
    };
    for sent in fanout.send(vec![(Address::Topic { exchange: EVENT_EXCHANGE.to_owned(), key }, envelope)]).await {
        if let Err(error) = sent {
            tracing::debug!("events could not be sent: {error}");
        }
    }
}

/// Tells what becomes of tasks, while that is wanted.
async fn tell(shared: Arc<Shared>, fanout: Arc<dyn Fanout>) {
    let mut wanted = shared.telling.tasks.subscribe();
    loop {
        if wanted.wait_for(|on| *on).await.is_err() {
            return;
        }
        let mut facts = shared.facts.subscribe();
        let mut batch: Vec<Event> = Vec::new();
        while *wanted.borrow_and_update() {
            let first = tokio::select! {
                first = facts.recv() => first,
                changed = wanted.changed() => if changed.is_err() { return } else { continue },
            };
            match first {
                Ok(fact) => batch.extend(making::of_fact(&shared, &fact)),
                Err(RecvError::Lagged(count)) => tracing::warn!(count, "events of tasks were dropped: the broker takes them too slowly"),
                Err(RecvError::Closed) => return,
            }
            tokio::time::sleep(LINGER).await;
            loop {
                match facts.try_recv() {
                    Ok(fact) => batch.extend(making::of_fact(&shared, &fact)),
                    Err(TryRecvError::Lagged(count)) => {
                        tracing::warn!(count, "events of tasks were dropped: the broker takes them too slowly");
                    }
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
                if batch.len() >= BATCH {
                    flush(&shared, &*fanout, &mut batch).await;
                }
            }
            flush(&shared, &*fanout, &mut batch).await;
        }
    }
}

/// Tells of scheduled tasks that are sent, as a client of Celery's does that is told to (`celery/app/amqp.py`).
async fn tell_sent(shared: Arc<Shared>, fanout: Arc<dyn Fanout>) {
    let Some(beat) = shared.beat.as_ref().filter(|_| shared.telling.description.sent_events) else {
        return std::future::pending().await;
    };
    let mut sent = beat.sent.subscribe();
    let mut batch: Vec<Event> = Vec::new();
    loop {
        match sent.recv().await {
            Ok(first) => batch.push(making::of_sent(&shared, &first)),
            Err(RecvError::Lagged(count)) => {
                tracing::warn!(count, "events of scheduled tasks were dropped: the broker takes them too slowly")
            }
            Err(RecvError::Closed) => return,
        }
        while batch.len() < BATCH
            && let Ok(more) = sent.try_recv()
        {
            batch.push(making::of_sent(&shared, &more));
        }
        flush(&shared, &*fanout, &mut batch).await;
    }
}

async fn flush(shared: &Shared, fanout: &dyn Fanout, batch: &mut Vec<Event>) {
    if !batch.is_empty() {
        post(shared, fanout, MULTI.to_owned(), Event::write_all(batch)).await;
        batch.clear();
    }
}
