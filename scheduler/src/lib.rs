//! What to do.
//!
//! Pure decisions: an input, an event, the time and (where chance has a say) a number that was drawn elsewhere go in; a
//! decision comes out. Nothing here waits, reads a clock, draws a number, does I/O or depends on the order of a hash map;
//! `scheduler/clippy.toml` refuses the attempt.
//!
//! The way of one task through this crate: [`admission`] says whether it may run, [`settlement`] what follows from how it
//! ended, as a list of [`Effect`]s that `umbel`'s ledgers make durable in one piece. [`canvas`] turns signatures into
//! effects, [`chord`] ends a chord, [`routing`] finds queues, [`retry`] finds delays.

pub mod admission;
pub mod autoscale;
pub mod beat;
pub mod canvas;
pub mod chord;
pub mod control;
pub mod crontab;
pub mod devices;
mod effect;
pub mod election;
#[cfg(test)]
mod fixture;
pub mod lease;
pub mod limits;
pub mod membership;
#[cfg(any(test, feature = "testing"))]
pub mod model;
pub mod placement;
pub mod rate_limit;
pub mod restart;
pub mod retry;
pub mod revocation;
pub mod routing;
pub mod schedule;
mod settings;
pub mod settlement;
mod spec;
pub mod tuning;
pub mod window;

pub use effect::{
    Answer, ChordPart, Commit, DeadReason, Effect, Fence, OpenChord, PartResult, Publish, ReadyChord, ReadyPart, Release, Route, RunId,
};
pub use settings::Settings;
pub use spec::{Acknowledge, Backoff, TaskSpec};
