//! Memory of endings, for a ledger that sends in one step, stores in another, and settles in a third.

use async_trait::async_trait;
use umbel_proto::{GroupId, ResultRecord};
use umbel_scheduler::{ReadyChord, RunId};

use super::{BackendError, ChordStep};
use crate::ledgers::Stamp;

/// What a backend remembers of endings that are under way. All of it is forgotten when they are settled, but for which copy of
/// a message was taken first; what is left behind by the dead goes by itself.
#[async_trait]
pub trait Endings: Send + Sync {
    /// Endings that are about to send something; by which name each is known from now on, however often it is begun anew.
    async fn begin(&self, beginnings: &[Beginning]) -> Result<Vec<String>, BackendError>;

    /// Stores what follows from endings, each whole or not at all, and which chords are complete with it; `None` of one that
    /// concludes a chord which is not this process's to conclude.
    async fn store(&self, endings: &[Ending]) -> Result<Vec<Option<Vec<ReadyChord>>>, BackendError>;

    /// Of which messages nothing is left to run: the ending is stored with [`Ending::mark`], or another copy was taken first. A
    /// copy that is the first to be asked for is the first to be taken.
    async fn look(&self, sought: &[Sought]) -> Result<Vec<bool>, BackendError>;

    /// Endings that are settled: nobody will ask for them again.
    async fn forget(&self, names: &[String]) -> Result<(), BackendError>;
}

/// The beginning of an ending.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// What ends: [`RunId::as_str`], or `chord:` and a chord's id.
    pub what: String,
    /// What to call it if nobody has begun it before.
    pub name: String,
    /// Whether nobody can have begun it before.
    pub first: bool,
}

/// What an ending stores.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// The chord that it concludes, and whether a member has failed. Without this step in the same one, whoever takes over from the
    /// dead would store another ending of the body.
    pub concludes: Option<(GroupId, bool)>,
    /// What to remember as ended, if its results do not say so.
    pub mark: Option<RunId>,
    /// Results.
    pub records: Vec<ResultRecord>,
    /// Steps of chords.
    pub steps: Vec<ChordStep>,
}

/// A message to look for.
#[derive(Debug, Clone)]
pub struct Sought {
    /// What it asks for.
    pub run: RunId,
    /// Whether it may have been taken before.
    pub again: bool,
    /// What its sender wrote on it.
    pub stamp: Option<Stamp>,
}
