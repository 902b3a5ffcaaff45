//! Those beside the pipeline: each is started again by itself (one_for_one), for ever, and nothing waits for it.
//!
//! To add one: a line in [`Side`], one in [`Side::start`].

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorCell, SpawnErr};
use tokio::time::Instant;
use umbel_proto::Millis;
use umbel_scheduler::restart::{Restart, RestartMeter};

use super::{
    Shared,
    beat::Beat,
    control::{Control, ControlArgs},
    events::{Events, EventsArgs},
    gossip::Gossip,
};

/// How long to wait when one dies again and again. Tasks run without it, so it is no reason to stop the node.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who stands beside the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Control,
    Events,
    Gossip,
    Beat,
}

impl Side {
    const ALL: [Self; 4] = [Self::Control, Self::Events, Self::Gossip, Self::Beat];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Events => "events",
            Self::Gossip => "gossip",
            Self::Beat => "beat",
        }
    }

    /// Starts it; `None` where this node has no use for it.
    async fn start(self, shared: Arc<Shared>, supervisor: ActorCell) -> Result<Option<ActorCell>, SpawnErr> {
        Ok(match self {
            Self::Control => {
                let args = ControlArgs { shared, supervisor: supervisor.clone().into() };
                Some(Control::spawn_linked(None, Control, args, supervisor).await?.0.get_cell())
            }
            Self::Events => {
                let args = EventsArgs { shared, supervisor: supervisor.clone().into() };
                Some(Events::spawn_linked(None, Events, args, supervisor).await?.0.get_cell())
            }
            Self::Gossip => Some(Gossip::spawn_linked(None, Gossip, shared, supervisor).await?.0.get_cell()),
            Self::Beat => match shared.beat.clone() {
                Some(seat) => Some(Beat::spawn_linked(None, Beat, (shared, seat), supervisor).await?.0.get_cell()),
                None => None,
            },
        })
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Beside {
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    side: Side,
    actor: Option<ActorCell>,
    /// When to start it; `None` while it lives.
    due: Option<Instant>,
    meter: RestartMeter,
    restarts: u64,
    /// Not to be started again.
    over: bool,
}

impl Beside {
    /// All of them, due now.
    pub(crate) fn new() -> Self {
        let seat =
            |side| Seat { side, actor: None, due: Some(Instant::now()), meter: RestartMeter::new(10, 60_000), restarts: 0, over: false };
        Self { seats: Side::ALL.map(seat).into() }
    }

    /// Starts those that are due. One that cannot be started is tried again later.
    pub(crate) async fn start_due(&mut self, shared: &Arc<Shared>, supervisor: &ActorCell) {
        let now = Instant::now();
        for seat in self.seats.iter_mut().filter(|seat| seat.due.is_some_and(|due| due <= now)) {
            match seat.side.start(shared.clone(), supervisor.clone()).await {
                Ok(actor) => {
                    seat.actor = actor;
                    seat.due = None;
                }
                Err(error) => {
                    tracing::warn!(part = seat.side.as_str(), "cannot be started; trying again: {error}");
                    seat.due = Some(now + PATIENCE);
                }
            }
        }
    }

    /// Ends one for good: the node stops.
    pub(crate) fn end(&mut self, side: Side) {
        for seat in self.seats.iter_mut().filter(|seat| seat.side == side) {
            seat.over = true;
            seat.due = None;
            if let Some(actor) = &seat.actor {
                actor.stop(None);
            }
        }
    }

    /// One of them, while it lives.
    pub(crate) fn actor(&self, side: Side) -> Option<ActorCell> {
        self.seats.iter().find(|seat| seat.side == side)?.actor.clone()
    }

    /// Whether it was one of them that ended; if so it will be started again.
    pub(crate) fn ended(&mut self, actor: &ActorCell, why: &str, now: Millis) -> bool {
        let is_it = |seat: &&mut Seat| seat.actor.as_ref().is_some_and(|known| known.get_id() == actor.get_id());
        let Some(seat) = self.seats.iter_mut().find(is_it) else { return false };
        seat.actor = None;
        if seat.over {
            return true;
        }
        seat.restarts += 1;
        tracing::warn!(part = seat.side.as_str(), "ended, and is started again: {why}");
        seat.due = Some(match seat.meter.died(now) {
            Restart::After(delay) => Instant::now() + Duration::from_millis(delay.max(0).unsigned_abs()),
            Restart::GiveUp => Instant::now() + PATIENCE,
        });
        true
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.seats.iter().filter_map(|seat| seat.due).min()
    }

    /// How often each was started again.
    pub(crate) fn restarts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.seats.iter().map(|seat| (seat.side.as_str(), seat.restarts))
    }
}
