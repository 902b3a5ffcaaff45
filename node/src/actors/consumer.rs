//! The consumer: takes messages from the broker, as many as there is room for.
//!
//! **What it owns.** The fetch loop and the stall watch, two tasks that end with it. The subscription itself sits in a
//! [`Seat`] that outlives the consumer: what the rest of the pipeline holds was taken through it, and a new consumer goes
//! on with it. **Who sends to it.** Its two tasks, and the supervisor (drain, report). **What it sends on.** Each batch of
//! claims, in one message, to the gate. **What bounds it.** Credits: a claim exists only with one.
//!
//! **When it dies.** Nothing is upstream of it, so it alone is restarted. A fetch that was under way loses nothing, by the
//! promise of [`crate::brokers::Subscription::fetch`]; claims it had not handed on go back to their queues.

mod fetch;
mod stall;

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use fetch::{Seat, Seated};

use super::{Shared, cast, gate::GateMsg, reply, report::ConsumerReport};
use crate::claim::Claim;

/// The most messages fetched at a time.
pub(crate) const FETCH_MAX: u32 = 256;

/// The actor.
pub(crate) struct Consumer;

/// What it is started with.
pub(crate) struct ConsumerArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) gate: ActorRef<GateMsg>,
    pub(crate) seat: Seat,
}

/// What it is told.
pub(crate) enum ConsumerMsg {
    /// The loop has taken these.
    Fetched(Vec<Claim>),
    /// The loop has panicked.
    FetchDied(String),
    /// Messages wait and there is room, but none come.
    Stalled,
    /// Fetch no more, tell the gate so, and end.
    Drain,
    /// Report.
    Report(RpcReplyPort<ConsumerReport>),
}

pub(crate) struct State {
    shared: Arc<Shared>,
    gate: ActorRef<GateMsg>,
    seat: Seat,
    pace: Arc<fetch::Pace>,
    fetching: Option<AbortOnDropHandle<()>>,
    _watching: AbortOnDropHandle<()>,
    /// How many batches there had been at the last stall.
    stalled_at: Option<u64>,
    report: ConsumerReport,
}

impl Actor for Consumer {
    type Msg = ConsumerMsg;
    type State = State;
    type Arguments = ConsumerArgs;

    async fn pre_start(&self, myself: ActorRef<ConsumerMsg>, args: ConsumerArgs) -> Result<State, ActorProcessingErr> {
        let ConsumerArgs { shared, gate, seat } = args;
        let pace = Arc::new(fetch::Pace::default());
        let fetching = fetch::spawn(shared.clone(), seat.clone(), pace.clone(), myself.clone(), false);
        let watching = stall::spawn(shared.clone(), pace.clone(), myself);
        let report = ConsumerReport::default();
        Ok(State { shared, gate, seat, pace, fetching: Some(fetching), _watching: watching, stalled_at: None, report })
    }

    async fn handle(&self, myself: ActorRef<ConsumerMsg>, message: ConsumerMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            // Given back by being dropped: fetching has stopped for good.
            ConsumerMsg::Fetched(claims) if state.report.draining => drop(claims),
            ConsumerMsg::Fetched(claims) => {
                state.shared.faults.hit("consumer.fetched");
                state.report.fetched += claims.len() as u64;
                state.report.batches += 1;
                cast(&state.gate, GateMsg::Arrived(claims));
            }
            ConsumerMsg::FetchDied(detail) => return Err(format!("the fetch loop panicked: {detail}").into()),
            ConsumerMsg::Stalled if !state.report.draining => {
                // Asking again comes first: a new subscription is for when that has not helped.
                let anew = state.stalled_at == Some(state.report.batches);
                state.stalled_at = Some(state.report.batches);
                tracing::warn!(anew, "messages wait and there is room, but the broker hands out none; asking again");
                state.report.stalls += 1;
                state.fetching = None;
                state.fetching = Some(fetch::spawn(state.shared.clone(), state.seat.clone(), state.pace.clone(), myself, anew));
            }
            ConsumerMsg::Stalled => {}
            ConsumerMsg::Drain => {
                state.report.draining = true;
                state.fetching = None;
                // Behind every batch that was handed on.
                cast(&state.gate, GateMsg::Drain);
                myself.stop(Some("drained".to_owned()));
            }
            ConsumerMsg::Report(port) => reply(port, state.report.clone()),
        }
        Ok(())
    }
}
