//! What must hold, and how to break each of it on purpose.

use std::fmt;

/// What must hold, whatever goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invariant {
    /// A published message is in one place only: a queue, the schedule, held, dead, or finished.
    OnePlace,
    /// A published message is somewhere, and only an ending finishes it.
    NothingLost,
    /// A message has one committed ending at most.
    EndedOnce,
    /// A stored SUCCESS stays as it is.
    SuccessKept,
    /// Only the newest taking of a message commits anything.
    NewestAttempt,
    /// A chord is concluded once, when all its parts are there, each value in its own place.
    ChordExact,
    /// What a node renews is given to nobody else.
    LeaseKept,
    /// Credits are neither made nor lost.
    Credits,
    /// Nothing runs before its time, but for what the node's clock is wrong by.
    NotEarly,
    /// A message that was only put back is not given up as poison.
    NotGivenUp,
    /// A task that was acknowledged early never runs again, and its loss is a recorded failure.
    LossRecorded,
    /// Once nothing goes wrong any more, everything ends.
    Progress,
}

/// What was found broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} does not hold: {}", self.invariant, self.detail)
    }
}

/// `Err` where `holds` is false.
pub(crate) fn demand(holds: bool, invariant: Invariant, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// One thing done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// What a dead node held goes back to the queue twice.
    ReleaseTwice,
    /// What a dead node held is gone: a worker that acknowledges on receipt.
    ForgetOnCrash,
    /// An ending that is sent again is carried out again.
    EndsTwice,
    /// A result is overwritten by whoever comes last.
    OverwriteSuccess,
    /// Any taking of a held message may end it.
    NoFence,
    /// Parts of a chord are counted, not told apart: Celery's counter.
    CountPartsNotIndexes,
    /// A chord is ready one part early.
    BodyBeforeLastPart,
    /// A chord is concluded by everybody who is told of it.
    ConcludeTwice,
    /// The body gets the values in the order they came.
    MisplacedValues,
    /// Leases end although they are renewed: a visibility timeout.
    LeaseIgnored,
    /// The room of a message that somebody else holds now does not come back.
    CreditLeak,
    /// A node runs what came before its time.
    EarlyEta,
    /// What the schedule has let go is put back by nodes whose clocks are slow.
    JudgedTwice,
    /// A task that was acknowledged early vanishes with its node: what Celery does.
    LostEarlyAckForgotten,
    /// A task that was acknowledged early runs again after its node has died.
    BegunRunsAgain,
    /// Nobody looks for chords whose concluder has died.
    NoSweep,
    /// An ending forgets to tell its chord.
    PartForgotten,
}

impl Mutation {
    pub(crate) const ALL: [Self; 17] = [
        Self::ReleaseTwice,
        Self::ForgetOnCrash,
        Self::EndsTwice,
        Self::OverwriteSuccess,
        Self::NoFence,
        Self::CountPartsNotIndexes,
        Self::BodyBeforeLastPart,
        Self::ConcludeTwice,
        Self::MisplacedValues,
        Self::LeaseIgnored,
        Self::CreditLeak,
        Self::EarlyEta,
        Self::JudgedTwice,
        Self::LostEarlyAckForgotten,
        Self::BegunRunsAgain,
        Self::NoSweep,
        Self::PartForgotten,
    ];

    /// What it breaks.
    pub(crate) fn breaks(self) -> Invariant {
        match self {
            Self::ReleaseTwice => Invariant::OnePlace,
            Self::ForgetOnCrash => Invariant::NothingLost,
            Self::EndsTwice => Invariant::EndedOnce,
            Self::OverwriteSuccess => Invariant::SuccessKept,
            Self::NoFence => Invariant::NewestAttempt,
            Self::CountPartsNotIndexes | Self::BodyBeforeLastPart | Self::ConcludeTwice | Self::MisplacedValues => Invariant::ChordExact,
            Self::LeaseIgnored => Invariant::LeaseKept,
            Self::CreditLeak => Invariant::Credits,
            Self::EarlyEta => Invariant::NotEarly,
            Self::JudgedTwice => Invariant::NotGivenUp,
            Self::LostEarlyAckForgotten | Self::BegunRunsAgain => Invariant::LossRecorded,
            Self::NoSweep | Self::PartForgotten => Invariant::Progress,
        }
    }
}
