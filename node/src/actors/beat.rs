//! Beat: sends what is due by a schedule, where this node leads, and is ready to where it does not.
//!
//! **What it owns.** What is declared on this node (the configuration's entries, the application's), the agenda of all entries while
//! it leads, its leadership, and one timer. **Who sends to it.** Its own tasks with what the store answered, and whoever asks for
//! its report. **What it sends on.** Ticks to the store of schedules ([`Schedules`]), which puts messages into queues; it
//! holds no address of another actor. **What bounds it.** One question, one look at the entries and one batch of ticks are in flight
//! at a time, and one question to the tables of an application's own; entries by the store's limit.
//!
//! **Time.** Due times are the store's: each answer brings its time, and between answers a clock that never goes back counts on. So
//! nodes whose clocks are wrong agree on when something is due, and a clock that is set says nothing to a leader.
//!
//! **When it dies**, its lease ends, another node takes over where the marks stand, and the supervisor of the sides starts it
//! again as another candidate. While the store does not answer nothing is sent; what was due then is caught up with by each
//! entry's own policy when it does again.

mod declared;
mod foreign;
mod state;
mod tables;
mod work;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::{sync::broadcast, time::Instant};
use umbel_proto::QueueName;
use umbel_scheduler::{
    Publish,
    beat::{Entry, Source},
};

pub use foreign::Foreign;
pub use state::BeatReport;
pub use tables::TablesOptions;

use super::{Shared, cast, reply};
use crate::{brokers::Broker, schedules::Schedules};
use state::State;
use tables::Looked;
use work::{Asked, Carried, Loaded};

/// How beat is set up.
#[derive(Debug, Clone)]
pub struct BeatOptions {
    /// How long a leader that falls silent leads. Short, because nothing is sent until it ends; the default is 1.5 s.
    pub lease: Duration,
    /// Where entries go that name no queue; `None` leaves it to the routes.
    pub queue: Option<QueueName>,
    /// The time zone of wall clocks where an entry names none.
    pub timezone: String,
    /// What this node declares, by source. A source that is here is kept the same in the store by whoever leads: what is not
    /// declared any more is removed. A source that is not here is left alone.
    pub declared: BTreeMap<Source, Vec<Entry>>,
    /// Tables that entries are read from, besides what is declared.
    pub tables: Option<TablesOptions>,
}

impl Default for BeatOptions {
    fn default() -> Self {
        Self { lease: Duration::from_millis(1500), queue: None, timezone: "UTC".to_owned(), declared: BTreeMap::new(), tables: None }
    }
}

/// The actor.
pub(crate) struct Beat;

/// What it needs, where there is one.
#[derive(Debug, Clone)]
pub(crate) struct BeatSeat {
    pub(crate) schedules: Arc<dyn Schedules>,
    pub(crate) options: BeatOptions,
    /// Told of every task that was sent; who makes events of them listens.
    pub(crate) sent: broadcast::Sender<Sent>,
}

impl BeatSeat {
    /// One beside a broker; `None` where the broker keeps no schedules.
    pub(crate) fn new(broker: &dyn Broker, options: BeatOptions) -> Option<Self> {
        let Some(schedules) = broker.schedules() else {
            tracing::warn!("the {} broker keeps no schedules; this node sends no scheduled tasks", broker.kind());
            return None;
        };
        Some(Self { schedules, options, sent: broadcast::Sender::new(SENT_MAX) })
    }
}

/// How many sent tasks are kept for a listener that is slow.
const SENT_MAX: usize = 1_024;

/// A scheduled task that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// When, by this machine's clock.
    pub(crate) at: umbel_proto::Millis,
    /// Its message.
    pub(crate) message: Arc<Publish>,
}

/// What it is told.
pub(crate) enum BeatMsg {
    /// The alarm rang.
    Due,
    /// The store has said who leads, or nothing.
    Asked(Asked),
    /// The entries have been read, or not.
    Loaded(Loaded),
    /// Ticks have been carried out, or not.
    Carried(Carried),
    /// The tables have been asked.
    Looked(Looked),
    /// Somebody else sends scheduled tasks.
    Foreign(Foreign),
    /// Report.
    Report(RpcReplyPort<BeatReport>),
}

impl Actor for Beat {
    type Msg = BeatMsg;
    type State = State;
    type Arguments = (Arc<Shared>, BeatSeat);

    async fn pre_start(&self, myself: ActorRef<BeatMsg>, (shared, seat): (Arc<Shared>, BeatSeat)) -> Result<State, ActorProcessingErr> {
        Ok(State::new(shared, seat, myself))
    }

    async fn post_start(&self, myself: ActorRef<BeatMsg>, _: &mut State) -> Result<(), ActorProcessingErr> {
        cast(&myself, BeatMsg::Due);
        Ok(())
    }

    async fn handle(&self, _: ActorRef<BeatMsg>, message: BeatMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            BeatMsg::Due => state.rung(),
            BeatMsg::Asked(asked) => state.asked(asked),
            BeatMsg::Loaded(loaded) => state.loaded(loaded),
            BeatMsg::Carried(carried) => state.carried(carried),
            BeatMsg::Looked(looked) => state.looked(looked),
            BeatMsg::Foreign(foreign) => state.foreign(foreign),
            BeatMsg::Report(port) => return reported(port, state),
        }
        state.go_on(Instant::now());
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<BeatMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        // Whoever is next need not wait for the end of the lease. Nobody waits for this: the lease ends by itself.
        crate::task::spawn(work::resign(state.schedules.clone(), state.candidate.clone()));
        Ok(())
    }
}

fn reported(port: RpcReplyPort<BeatReport>, state: &State) -> Result<(), ActorProcessingErr> {
    reply(port, state.report(Instant::now()));
    Ok(())
}
