//! The end of a chord: body or errbacks, once.

use crate::{Commit, ReadyChord, canvas::Specs};
use umbel_proto::Millis;

/// What follows from a complete chord: its body with the list of results, or, when a member failed, the failure of the
/// body and of all that was to follow it, its errbacks, and the part of the outer chord it is itself a member of.
pub fn conclude(_ready: &ReadyChord, _settings: &crate::Settings, _specs: &dyn Specs, _now: Millis) -> Commit {
    todo!()
}
