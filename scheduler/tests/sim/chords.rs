//! Chords of the model store: parts by index and task id.

use std::collections::BTreeMap;

use umbel_proto::{Millis, TaskId};
use umbel_scheduler::{ChordPart, OpenChord, ReadyChord};

use crate::mutation::Mutation;

/// A chord. One that is concluded stays, so that late parts can be told from early ones.
#[derive(Debug)]
pub(crate) struct Chord {
    pub(crate) open: OpenChord,
    /// Since when it is complete.
    pub(crate) since: Option<Millis>,
    pub(crate) concluded: bool,
    parts: BTreeMap<(i64, TaskId), ChordPart>,
    /// Every part in the order they came, twins included: what a broken ledger goes by.
    arrived: Vec<ChordPart>,
    last: Option<TaskId>,
}

impl Chord {
    pub(crate) fn new(open: &OpenChord) -> Self {
        let open = open.clone();
        Self { open, since: None, concluded: false, parts: BTreeMap::new(), arrived: Vec::new(), last: None }
    }

    pub(crate) fn add(&mut self, part: &ChordPart) {
        if self.since.is_some() {
            return;
        }
        self.arrived.push(part.clone());
        let key = (part.index.unwrap_or(i64::MAX), part.task_id.clone());
        if let std::collections::btree_map::Entry::Vacant(entry) = self.parts.entry(key) {
            entry.insert(part.clone());
            self.last = Some(part.task_id.clone());
        }
    }

    pub(crate) fn is_complete(&self, mutation: Option<Mutation>) -> bool {
        let size = self.open.size as usize;
        match mutation {
            Some(Mutation::CountPartsNotIndexes) => self.arrived.len() >= size,
            Some(Mutation::BodyBeforeLastPart) if size > 1 => self.parts.len() + 1 >= size,
            _ => self.parts.len() >= size,
        }
    }

    pub(crate) fn ready(&self, mutation: Option<Mutation>) -> ReadyChord {
        let mut parts: Vec<ChordPart> = match mutation {
            Some(Mutation::CountPartsNotIndexes | Mutation::MisplacedValues) => self.arrived.clone(),
            _ => self.parts.values().cloned().collect(),
        };
        if mutation == Some(Mutation::CountPartsNotIndexes) {
            parts.sort_by_key(|part| part.index);
        }
        let parts = parts.into_iter().map(Into::into).collect();
        ReadyChord { group: self.open.group.clone(), body: self.open.body.clone(), parts, last: self.last.clone() }
    }
}
