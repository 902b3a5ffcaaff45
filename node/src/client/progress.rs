//! Following a workflow while it runs.

use std::{collections::BTreeSet, time::Duration};

use umbel_proto::{GroupId, ResultTuple, State, TaskId, Value};

use super::{Client, ClientError, result::everything, wait::Records};

/// How often a chord is asked how far it is: parts whose results are ignored are counted but stored nowhere.
const CHORD_INTERVAL: Duration = Duration::from_millis(250);

/// News of a workflow; [`Progress::next`] until it is over.
///
/// It knows the tasks that were submitted together: steps, members, bodies. What their code sends later is not among them.
#[derive(Debug)]
pub struct Progress {
    client: Client,
    records: Records,
    /// What must end for the workflow to be over.
    last: Vec<TaskId>,
    total: usize,
    chords: Vec<Chord>,
    told: Option<usize>,
    over: bool,
}

/// A group whose members may be parts of a chord.
#[derive(Debug)]
struct Chord {
    group: GroupId,
    members: BTreeSet<TaskId>,
    done: usize,
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// So many tasks of the workflow have ended.
    Count {
        /// Ended, however.
        done: usize,
        /// All that were submitted.
        total: usize,
    },
    /// A task is in a state, or has said something of its own ([`Context::progress`](crate::context::Context::progress)).
    Task {
        /// The task.
        task_id: TaskId,
        /// Its state.
        state: State,
        /// What it says: the value, the exception object, or the meta of a state of its own.
        meta: Value,
    },
}

impl Progress {
    pub(super) fn new(client: &Client, tuple: &ResultTuple) -> Self {
        let ids: BTreeSet<TaskId> = everything(tuple).into_iter().collect();
        let last = match &tuple.children {
            Some(members) => members.iter().flat_map(last_of).collect(),
            None => last_of(tuple),
        };
        let mut chords = Vec::new();
        groups(tuple, &mut chords);
        Self {
            client: client.clone(),
            total: ids.len(),
            records: Records::new(client.clone(), ids.into_iter().collect()),
            last,
            chords,
            told: None,
            over: false,
        }
    }

    /// The next piece of news; `None` once the result is there and all has been told. The first is how far it is now.
    ///
    /// # Errors
    /// When the backend refuses. While it does not answer there is no news.
    pub async fn next(&mut self) -> Result<Option<Update>, ClientError> {
        loop {
            if let Some(count) = self.news() {
                return Ok(Some(count));
            }
            if self.over {
                return Ok(None);
            }
            if self.last.iter().all(|id| self.records.is_ready(id)) {
                // What came before the end has ended, even if it is stored nowhere.
                self.over = true;
                continue;
            }
            tokio::select! {
                record = self.records.next() => {
                    let record = record?;
                    return Ok(Some(Update::Task { task_id: record.task_id, state: record.status, meta: record.result }));
                }
                () = tokio::time::sleep(CHORD_INTERVAL), if !self.chords.is_empty() => self.ask_chords().await?,
            }
        }
    }

    /// The count, if it has not been told.
    fn news(&mut self) -> Option<Update> {
        let done = self.done();
        if self.told == Some(done) {
            return None;
        }
        self.told = Some(done);
        Some(Update::Count { done, total: self.total })
    }

    fn done(&self) -> usize {
        if self.over {
            return self.total;
        }
        let stored = self.records.ids().iter().filter(|id| self.records.is_ready(id)).count();
        let unseen: usize = self.chords.iter().map(|chord| chord.done.saturating_sub(self.stored_of(chord))).sum();
        (stored + unseen).min(self.total.saturating_sub(1)).max(self.told.unwrap_or(0))
    }

    fn stored_of(&self, chord: &Chord) -> usize {
        chord.members.iter().filter(|id| self.records.is_ready(id)).count()
    }

    async fn ask_chords(&mut self) -> Result<(), ClientError> {
        for chord in &mut self.chords {
            match self.client.0.backend.chord(&chord.group).await {
                Ok(Some(progress)) => chord.done = chord.done.max((progress.done as usize).min(chord.members.len())),
                Ok(None) => {}
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(ClientError::from(error).during("ask how far a chord is")),
            }
        }
        Ok(())
    }
}

fn last_of(tuple: &ResultTuple) -> Vec<TaskId> {
    match &tuple.children {
        Some(members) => members.iter().flat_map(last_of).collect(),
        None => vec![TaskId::from(&tuple.id)],
    }
}

/// The groups of the tree whose parts a chord may count: those with something after them.
fn groups(tuple: &ResultTuple, found: &mut Vec<Chord>) {
    if let Some(parent) = &tuple.parent {
        if let Some(members) = &parent.children {
            let members = members.iter().flat_map(last_of).collect();
            found.push(Chord { group: GroupId::from(&parent.id), members, done: 0 });
        }
        groups(parent, found);
    }
    for member in tuple.children.iter().flatten() {
        groups(member, found);
    }
}
