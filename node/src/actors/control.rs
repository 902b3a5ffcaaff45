//! Remote control: answers Celery's `inspect` and `control`, so that its tools see a node as one of their workers.
//!
//! **What it owns.** The listener for commands, the commands being carried out, and the bucket that bounds them. **Who sends to
//! it.** Its listener. **What it sends on.** Questions and orders to the supervisor, its parent, which never waits for it: that
//! is why this one upward address is no cycle of waiting. Orders of lasting meaning go to the broker, which tells all nodes.
//!
//! **What bounds it.** [`COMMANDS`] at once, more wait in the listener's inbox, where the oldest are dropped; of a flood only
//! [`PER_SECOND`] are looked at. It waits for no slot: what is busy is the pools' and not its own.
//!
//! **When it dies**, it is started again by itself and tasks run on meanwhile; what was being carried out ends with it, and the
//! asker hears nothing.
//!
//! Hostile messages: what cannot be read is dropped with a word in the log; answers go to exchanges for answers only, so that
//! nobody can have a node write into a queue of tasks; what changes something is logged, and may be forbidden
//! ([`Allow`](crate::telling::Allow)).

mod about;
mod answer;
mod listing;
mod orders;
mod revoking;
mod values;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{
    Envelope, Limits, Map, Value,
    control::{ReplyTo, Request, write_reply},
    keyspace::BrokerKeys,
};
use umbel_scheduler::control::{Flood, is_for};

use super::{Shared, cast, chance::Backoff, panic_text, supervisor::SupervisorMsg};
use crate::{
    brokers::fanout::{Address, Fanout, Heard, Listen, Listener},
    clock,
    control::{self, table::Kind},
    telling::Allow,
};

/// How large a command may be: one that revokes tens of thousands of tasks is some megabytes.
const COMMAND: Limits = Limits { size_bytes: 16 << 20, depth: 64 };
/// Commands carried out at once.
const COMMANDS: usize = 32;
/// Commands looked at per second, in the long run and at once. Whoever asks one question after the other asks some 800 a second, and is
/// no flood for a second.
const PER_SECOND: f64 = 200.0;
const AT_ONCE: f64 = 1_000.0;
/// How long a command waits for the changes that were asked for before it.
const IN_ORDER: Duration = Duration::from_secs(2);

/// The actor.
pub(crate) struct Control;

/// What it is started with.
pub(crate) struct ControlArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) supervisor: ActorRef<SupervisorMsg>,
}

/// What it is told.
pub(crate) enum ControlMsg {
    /// Somebody commands; the permit is given back when it is done.
    Heard(Box<Request>, OwnedSemaphorePermit),
    /// The listener has panicked.
    Deaf(String),
}

pub(crate) struct State {
    desk: Arc<Desk>,
    working: JoinSet<()>,
    /// Closed when the last change that was asked for has been made.
    changed: watch::Receiver<()>,
    _listening: AbortOnDropHandle<()>,
}

/// What commands are carried out with.
pub(super) struct Desk {
    shared: Arc<Shared>,
    supervisor: ActorRef<SupervisorMsg>,
    fanout: Option<Arc<dyn Fanout>>,
}

impl Actor for Control {
    type Msg = ControlMsg;
    type State = State;
    type Arguments = ControlArgs;

    async fn pre_start(&self, myself: ActorRef<ControlMsg>, args: ControlArgs) -> Result<State, ActorProcessingErr> {
        let ControlArgs { shared, supervisor } = args;
        let fanout = shared.broker.fanout().filter(|_| shared.telling.description.allow != Allow::Nothing);
        let desk = Arc::new(Desk { shared, supervisor, fanout });
        let listening = {
            let desk = desk.clone();
            crate::task::spawn(async move {
                if let Err(panic) = AssertUnwindSafe(listen(&desk, &myself)).catch_unwind().await {
                    cast(&myself, ControlMsg::Deaf(panic_text(&*panic)));
                }
            })
        };
        Ok(State { desk, working: JoinSet::new(), changed: watch::channel(()).1, _listening: AbortOnDropHandle::new(listening) })
    }

    async fn handle(&self, _: ActorRef<ControlMsg>, message: ControlMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            ControlMsg::Heard(request, permit) => {
                state.desk.shared.faults.hit("control.heard");
                while state.working.try_join_next().is_some() {}
                let desk = state.desk.clone();
                // Changes are made one after the other, and who asks about them after that sees them.
                let changes = control::table::find(&request.method).is_some_and(|command| command.kind == Kind::Control);
                let before = (changes || request.method == "revoked").then(|| state.changed.clone());
                let changing = changes.then(|| {
                    let (changing, changed) = watch::channel(());
                    state.changed = changed;
                    changing
                });
                state.working.spawn(async move {
                    if let Some(mut before) = before {
                        let _ = timeout(IN_ORDER, async { while before.changed().await.is_ok() {} }).await;
                    }
                    desk.obey(*request).await;
                    drop((permit, changing));
                });
                Ok(())
            }
            ControlMsg::Deaf(why) => Err(format!("the listener for commands panicked: {why}").into()),
        }
    }
}

/// Listens for ever, again after each outage.
async fn listen(desk: &Arc<Desk>, control: &ActorRef<ControlMsg>) {
    let Some(fanout) = &desk.fanout else { return std::future::pending().await };
    let node = &desk.shared.node;
    let what = Listen::Broadcasts { exchange: control::EXCHANGE.to_owned(), queue: BrokerKeys::pidbox_queue(node) };
    let mut backoff = Backoff::by_link();
    let mut listener = loop {
        match fanout.listen(what.clone()).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::debug!("commands cannot be listened for now: {error}");
                sleep(backoff.next()).await;
            }
        }
    };
    let room = Arc::new(Semaphore::new(COMMANDS));
    let mut flood = Flood::new(PER_SECOND, AT_ONCE, clock::now());
    let mut refused = 0u64;
    let mut standing = desk.shared.telling.leaving();
    desk.shared.telling.listens(true);
    loop {
        let request = tokio::select! {
            biased;
            // The name is free for a successor, and nobody waits for this one's answers.
            () = &mut standing => break,
            request = next(&mut listener, desk) => request,
        };
        let Some(request) = request else { continue };
        if !flood.admits(clock::now()) {
            refused += 1;
            if refused.is_power_of_two() {
                tracing::warn!(refused, command = request.method, "too many commands by remote control; some are not looked at");
            }
            continue;
        }
        if let Ok(permit) = room.clone().acquire_owned().await {
            cast(control, ControlMsg::Heard(Box::new(request), permit));
        }
    }
    if let Err(error) = listener.close().await {
        tracing::debug!("the listener for commands could not be closed: {error}");
    }
    desk.shared.telling.listens(false);
    std::future::pending().await
}

/// The next command for this node, or `None` for anything else.
async fn next(listener: &mut Box<dyn Listener>, desk: &Desk) -> Option<Request> {
    let envelope = match listener.next().await {
        Heard::Message(Ok(envelope)) => envelope,
        Heard::Message(Err(error)) => {
            tracing::warn!("a command by remote control cannot be read: {error}");
            return None;
        }
        Heard::Missed(count) => {
            tracing::warn!(count, "commands by remote control came faster than they could be looked at; the oldest were dropped");
            return None;
        }
    };
    desk.shared.telling.clock.adjust(envelope.headers.get("clock").and_then(Value::as_i64).unwrap_or(0));
    match Request::parse(&envelope.content_type, &envelope.body, COMMAND) {
        Ok(request) => is_for(&request, desk.shared.node.as_str()).then_some(request),
        Err(error) => {
            tracing::warn!(
                "a command by remote control cannot be understood: {error}; Celery sends commands with the application's task_serializer, \
                 and json, msgpack and pickles of plain data are read here"
            );
            None
        }
    }
}

impl Desk {
    /// Carries a command out and answers.
    async fn obey(&self, request: Request) {
        let answer = match AssertUnwindSafe(self.answer(&request)).catch_unwind().await {
            Ok(answer) => answer,
            Err(panic) => {
                let panic = panic_text(&*panic);
                tracing::error!(command = request.method, "a command by remote control panicked: {panic}");
                Some(values::error_repr("RuntimeError", &panic))
            }
        };
        let (Some(answer), Some(to), Some(fanout)) = (answer, &request.reply_to, &self.fanout) else { return };
        if !is_for_answers(to) {
            tracing::warn!(exchange = to.exchange, command = request.method, "answers are not sent to exchanges for other things");
            return;
        }
        let mut headers = Map::with_capacity(2);
        headers.insert("ticket".to_owned(), request.ticket.as_deref().map_or(Value::Null, Value::from));
        headers.insert("clock".to_owned(), Value::Int(self.shared.telling.clock.forward()));
        let body = match write_reply(self.shared.node.as_str(), answer, request.serializer) {
            Ok(body) => body,
            Err(error) => return tracing::warn!(command = request.method, "an answer cannot be written: {error}"),
        };
        let envelope = Envelope {
            body,
            content_type: request.serializer.content_type().to_owned(),
            content_encoding: request.serializer.content_encoding().to_owned(),
            headers,
            properties: Map::new(),
        };
        let address = Address::Direct { exchange: to.exchange.clone(), key: to.routing_key.clone() };
        for sent in fanout.send(vec![(address, envelope)]).await {
            if let Err(error) = sent {
                tracing::debug!(command = request.method, "an answer could not be sent: {error}");
            }
        }
    }
}

/// Whether an exchange is one for answers: `reply.celery.pidbox`, or that of an application with another `control_exchange`.
fn is_for_answers(to: &ReplyTo) -> bool {
    to.exchange.starts_with("reply.") && to.exchange.ends_with(".pidbox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_exchanges_for_answers() {
        let to = |exchange: &str| ReplyTo { exchange: exchange.to_owned(), routing_key: "k".to_owned() };
        assert!(is_for_answers(&to("reply.celery.pidbox")));
        assert!(!is_for_answers(&to("celery")) && !is_for_answers(&to("")));
    }
}
