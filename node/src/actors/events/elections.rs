//! The ear for others: their events for whoever shows them, and the elections that they call.
//!
//! Celery's workers wait in an election for everybody whose heartbeat they hear, so a node that beats has to take part
//! (`celery/worker/consumer/gossip.py`).

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use umbel_proto::{
    Envelope, Event, Limits, Signature, Value,
    event::{Action, WorkerElect, WorkerElectAck},
};
use umbel_scheduler::election::{Alive, Bid, Elected, Elections};

use super::{
    super::{Shared, chance::Backoff},
    send,
};
use crate::{
    brokers::fanout::{Fanout, Heard, Listen, Listener},
    clock,
    control::EVENT_EXCHANGE,
};

/// The version of the procedure.
const CVER: i64 = 1;

struct Ear {
    shared: Arc<Shared>,
    fanout: Arc<dyn Fanout>,
    elections: Elections,
    alive: Alive,
}

/// Hears others for ever.
pub(super) async fn hear(shared: Arc<Shared>, fanout: Arc<dyn Fanout>) {
    let pattern = if shared.telling.description.hears_tasks { "#" } else { "worker.#" };
    let queue = format!("celeryev.{}", uuid::Uuid::new_v4()).into();
    let what = Listen::Topics { exchange: EVENT_EXCHANGE.to_owned(), queue, pattern: pattern.to_owned() };
    let mut backoff = Backoff::by_link();
    let mut listener = loop {
        match fanout.listen(what.clone()).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::debug!("events of others cannot be heard now: {error}");
                sleep(backoff.next()).await;
            }
        }
    };
    let called = shared.telling.called.clone();
    let mut called = called.lock().await;
    let mut leaving = shared.telling.leaving();
    let mut ear = Ear { shared, fanout, elections: Elections::default(), alive: Alive::default() };
    loop {
        tokio::select! {
            () = &mut leaving => break,
            heard = listener.next() => match heard {
                Heard::Message(Ok(envelope)) => ear.message(&envelope).await,
                Heard::Message(Err(error)) => tracing::debug!("an event cannot be read: {error}"),
                Heard::Missed(count) => tracing::debug!(count, "events of others came too fast; some were dropped"),
            },
            Some(call) = called.recv() => {
                ear.elections.call(&call.id);
                let elect = WorkerElect { id: call.id, topic: call.topic, action: call.action, cver: CVER };
                send(&ear.shared, &*ear.fanout, Action::WorkerElect(elect)).await;
            }
        }
    }
    close(listener).await;
    std::future::pending().await
}

async fn close(listener: Box<dyn Listener>) {
    if let Err(error) = listener.close().await {
        tracing::debug!("the listener for events could not be closed: {error}");
    }
}

impl Ear {
    async fn message(&mut self, envelope: &Envelope) {
        match Event::parse(&envelope.body, Limits::default()) {
            Ok(events) => {
                for event in events {
                    self.event(event).await;
                }
            }
            Err(error) => tracing::debug!("an event cannot be understood: {error}"),
        }
    }

    async fn event(&mut self, event: Event) {
        let own = event.hostname == self.shared.node.as_str();
        if !own && !matches!(event.action, Action::TaskSent(_)) {
            self.shared.telling.clock.adjust(event.clock.unwrap_or(0));
        }
        match &event.action {
            Action::WorkerOnline(state) | Action::WorkerHeartbeat(state) => {
                let silence = Duration::try_from_secs_f64(state.freq * 2.0).unwrap_or(super::BEAT * 2);
                let until = clock::now().saturating_add(i64::try_from(silence.as_millis()).unwrap_or(i64::MAX));
                self.alive.heard(&event.hostname, until);
            }
            Action::WorkerOffline(_) => self.alive.left(&event.hostname),
            Action::WorkerElect(elect) => {
                let who = format!("{}.{}", event.hostname, event.pid.unwrap_or_default());
                let bid = Bid { clock: event.clock.unwrap_or(0), who, topic: elect.topic.clone(), action: elect.action.clone() };
                self.elections.bid(&elect.id, bid);
                send(&self.shared, &*self.fanout, Action::WorkerElectAck(WorkerElectAck { id: elect.id.clone() })).await;
            }
            Action::WorkerElectAck(ack) => {
                let alive = self.alive.at(clock::now()).count().max(1);
                if let Some(Elected { winner }) = self.elections.acknowledged(&ack.id, &event.hostname, alive) {
                    self.elected(&ack.id, winner).await;
                }
            }
            _ => {}
        }
        if !own {
            // An error means that nobody wants to know.
            let _ = self.shared.telling.heard.send(Arc::new(event));
        }
    }

    /// An election that this node called has been concluded: everybody concludes the same, and the winner acts.
    async fn elected(&self, id: &str, winner: Bid) {
        let myself = format!("{}.{}", self.shared.node, std::process::id());
        if winner.who != myself {
            tracing::info!(election = id, winner = winner.who, "another node was elected");
            return;
        }
        tracing::info!(election = id, topic = winner.topic, "this node was elected");
        match winner.topic.as_str() {
            "task" => self.apply(winner.action).await,
            topic => tracing::warn!(topic, "an election about something that is not known here"),
        }
    }

    async fn apply(&self, action: Value) {
        let signature: Signature = match Signature::from_value(&action) {
            Ok(signature) => signature,
            Err(error) => return tracing::warn!("what this node was elected to do cannot be understood: {error}"),
        };
        if let Err(error) = self.shared.client.submit(signature).await {
            tracing::warn!("what this node was elected to send could not be sent: {error}");
        }
    }
}
