//! The witness: sees what is carried out, keeps books of its own, and says what does not hold.
//!
//! It never asks the store what should be so; it only compares what is with what it has seen.

use std::collections::{BTreeMap, BTreeSet};

use umbel_proto::{DeliveryTag, GroupId, Millis, ResultRecord, ResultTuple, State, TaskId, Value};
use umbel_scheduler::{ChordPart, Commit, DeadReason, Effect, Fence, PartResult, Release};

use crate::{
    mutation::{Invariant, Violation, demand},
    store::{Delivery, LEASE, Store},
    workload,
};

type Checked = Result<(), Violation>;

/// A chord as far as it was seen.
#[derive(Debug)]
struct Seen {
    size: usize,
    parts: BTreeMap<(Option<i64>, TaskId), PartResult>,
    concluded: bool,
}

/// The witness.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    newest: BTreeMap<DeliveryTag, u32>,
    /// When what is held was taken or last renewed.
    renewed: BTreeMap<DeliveryTag, Millis>,
    begun: BTreeMap<DeliveryTag, u32>,
    ended: BTreeSet<DeliveryTag>,
    succeeded: BTreeMap<TaskId, ResultRecord>,
    chords: BTreeMap<GroupId, Seen>,
    ignored: BTreeSet<String>,
    /// How much the fastest clock is fast.
    fastest: Millis,
    /// Endings that were refused because somebody else holds the message.
    pub(crate) zombies: u64,
    /// Early acknowledged tasks whose node died.
    pub(crate) losses: u64,
}

impl Witness {
    /// A witness of nodes whose clocks are fast by no more than `fastest`.
    pub(crate) fn new(fastest: Millis) -> Self {
        Self { fastest, ..Self::default() }
    }

    /// A message was handed out.
    pub(crate) fn taken(&mut self, delivery: &Delivery, now: Millis) -> Checked {
        let (tag, attempt) = (&delivery.tag, delivery.attempt);
        let before = self.newest.insert(tag.clone(), attempt).unwrap_or(0);
        demand(attempt == before + 1, Invariant::NewestAttempt, || format!("{tag} was taken as {attempt} after {before}"))?;
        let since = self.renewed.insert(tag.clone(), now);
        demand(since.is_none_or(|since| since + LEASE <= now), Invariant::LeaseKept, || {
            format!("{tag} was given away {:?} ms after its holder had renewed its lease", since.map(|since| now - since))
        })?;
        let lost = self.begun.contains_key(tag);
        demand(delivery.lost == lost, Invariant::LossRecorded, || format!("the taker of {tag} was told lost = {}", delivery.lost))
    }

    /// A lease was renewed.
    pub(crate) fn renewed(&mut self, holds: Vec<(DeliveryTag, u32)>, now: Millis) {
        for (tag, attempt) in holds {
            if self.newest.get(&tag) == Some(&attempt) {
                self.renewed.insert(tag, now);
            }
        }
    }

    /// A node starts a task.
    pub(crate) fn started(&self, delivery: &Delivery, now: Millis) -> Checked {
        let (tag, headers) = (&delivery.tag, &delivery.invocation.headers);
        let early = headers.eta.as_ref().map_or(0, |eta| eta.millis() - now);
        demand(early <= self.fastest, Invariant::NotEarly, || format!("{tag} runs {early} ms before its time"))?;
        let begun = self.begun.get(tag);
        demand(begun.is_none_or(|begun| *begun == delivery.attempt), Invariant::LossRecorded, || format!("{tag} had begun, and runs again"))
    }

    /// A commit was carried out.
    pub(crate) fn committed(&mut self, commit: &Commit, store: &Store) -> Checked {
        match &commit.fence {
            Fence::Open | Fence::Once { .. } => {}
            Fence::Delivery { tag, attempt, .. } => self.ending(tag, *attempt, &commit.effects, store)?,
            Fence::Chord { group, .. } => self.concluded(group, &commit.effects)?,
        }
        for effect in &commit.effects {
            match effect {
                Effect::OpenChord(open) => {
                    ignored_in(&open.body.to_value(), &mut self.ignored);
                    let new = || Seen { size: open.size as usize, parts: BTreeMap::new(), concluded: false };
                    self.chords.entry(open.group.clone()).or_insert_with(new);
                }
                Effect::Part(part) => self.part(part),
                Effect::Store(record) => self.stored(&record.task_id, store)?,
                Effect::Publish(publish) => {
                    let (headers, embed) = (&publish.invocation.headers, publish.invocation.embed());
                    if headers.ignore_result == Some(true) {
                        self.ignored.insert(headers.id.to_string());
                    }
                    let parts = embed.chain.iter().chain(embed.chord.as_deref());
                    parts.for_each(|part| ignored_in(&part.to_value(), &mut self.ignored));
                }
                Effect::StoredBefore | Effect::GrowChord { .. } | Effect::Release(_) => {}
            }
        }
        Ok(())
    }

    fn ending(&mut self, tag: &DeliveryTag, attempt: u32, effects: &[Effect], store: &Store) -> Checked {
        let newest = self.newest.get(tag).copied().unwrap_or(0);
        demand(!self.ended.contains(tag), Invariant::EndedOnce, || format!("{tag} has ended, and {attempt} commits again"))?;
        demand(attempt == newest, Invariant::NewestAttempt, || format!("taking {attempt} of {tag} commits, but {newest} is the newest"))?;
        let invocation = &store.messages[tag].invocation;
        let headers = &invocation.headers;
        for effect in effects {
            match effect {
                Effect::Release(Release::Dead { reason: DeadReason::Crashed, detail }) => {
                    // No seed has time for as many leases to end as make a message poison.
                    demand(!detail.starts_with("taken"), Invariant::NotGivenUp, || format!("{tag} was {detail}"))?;
                    self.renewed.remove(tag);
                    self.ended.insert(tag.clone());
                }
                Effect::Release(Release::Begin) => drop(self.begun.insert(tag.clone(), attempt)),
                Effect::Release(release) => {
                    self.renewed.remove(tag);
                    if !matches!(release, Release::Requeue { .. }) {
                        self.ended.insert(tag.clone());
                    }
                }
                Effect::Part(part) if part.task_id == headers.id => {
                    demand(part.index == headers.group_index, Invariant::ChordExact, || format!("{tag} counts as {:?}", part.index))?;
                    if let (PartResult::Value(value), umbel_proto::Outcome::Success { value: own, .. }) =
                        (&part.result, workload::outcome(invocation))
                    {
                        demand(*value == own, Invariant::ChordExact, || format!("{tag} gives {value:?} for {own:?}"))?;
                    }
                }
                _ => {}
            }
        }
        if self.begun.get(tag).is_some_and(|begun| *begun != attempt) {
            self.losses += 1;
            let fails = |effect: &Effect| matches!(effect, Effect::Store(record) if record.task_id == headers.id && record.status == State::Failure);
            let kept = headers.ignore_result != Some(true);
            demand(!kept || effects.iter().any(fails), Invariant::LossRecorded, || format!("the loss of {tag} is not recorded"))?;
        }
        Ok(())
    }

    fn part(&mut self, part: &ChordPart) {
        if let Some(chord) = self.chords.get_mut(&part.group).filter(|chord| !chord.concluded) {
            chord.parts.entry((part.index, part.task_id.clone())).or_insert_with(|| part.result.clone());
        }
    }

    fn concluded(&mut self, group: &GroupId, effects: &[Effect]) -> Checked {
        let Some(chord) = self.chords.get_mut(group) else {
            return demand(false, Invariant::ChordExact, || format!("chord {group} is concluded, but was never opened"));
        };
        demand(!std::mem::replace(&mut chord.concluded, true), Invariant::ChordExact, || format!("chord {group} is concluded twice"))?;
        let (size, parts) = (chord.size, chord.parts.len());
        demand(parts == size, Invariant::ChordExact, || format!("chord {group} is concluded with {parts} of {size} parts"))?;
        // By index: that is the order of the keys, as every part of these workflows has one.
        let values = chord.parts.values().map(|part| match part {
            PartResult::Value(value) => Some(value.clone()),
            PartResult::Error(_) => None,
        });
        let Some(values) = values.collect::<Option<Vec<Value>>>() else {
            let succeeds = |effect: &Effect| matches!(effect, Effect::Part(part) if matches!(part.result, PartResult::Value(_)));
            return demand(!effects.iter().any(succeeds), Invariant::ChordExact, || format!("chord {group} has failed, and gives a value"));
        };
        demand(!effects.is_empty(), Invariant::ChordExact, || format!("chord {group} has no body"))?;
        let values = Value::List(values);
        for effect in effects {
            let given = match effect {
                Effect::Publish(publish) => publish.invocation.arguments().ok().and_then(|(args, _)| args.first().cloned()),
                Effect::Part(part) => match &part.result {
                    PartResult::Value(value) => Some(value.clone()),
                    PartResult::Error(_) => None,
                },
                _ => None,
            };
            let exact = given.as_ref().is_none_or(|given| *given == values);
            demand(exact, Invariant::ChordExact, || format!("chord {group} came to {values:?}, and its body gets {given:?}"))?;
        }
        Ok(())
    }

    fn stored(&mut self, id: &TaskId, store: &Store) -> Checked {
        let stored = store.results.get(id);
        if let Some(known) = self.succeeded.get(id) {
            return demand(stored == Some(known), Invariant::SuccessKept, || format!("{id} had succeeded, and is now {stored:?}"));
        }
        if let Some(record) = stored.filter(|record| record.status == State::Success) {
            self.succeeded.insert(id.clone(), record.clone());
        }
        Ok(())
    }

    /// Where messages are after a step that has moved some of them.
    pub(crate) fn places(&self, store: &Store, tags: &[DeliveryTag]) -> Checked {
        for tag in tags {
            let places = store.places(tag);
            demand(places > 0, Invariant::NothingLost, || format!("{tag} is nowhere"))?;
            demand(places == 1, Invariant::OnePlace, || format!("{tag} is in {places} places"))?;
            if store.finished.contains(tag) || store.dead.contains_key(tag) {
                let broken = if self.begun.contains_key(tag) { Invariant::LossRecorded } else { Invariant::NothingLost };
                demand(self.ended.contains(tag), broken, || format!("{tag} is finished without an ending"))?;
            }
        }
        let (there, published) = (store.population(), store.messages.len());
        demand(there >= published, Invariant::NothingLost, || format!("{there} of {published} messages are anywhere"))?;
        demand(there == published, Invariant::OnePlace, || format!("{published} messages are in {there} places"))
    }

    /// Whether every id that a client holds has ended, those aside whose result nobody wants.
    pub(crate) fn ready(&self, store: &Store, result: &ResultTuple) -> Checked {
        match &result.children {
            Some(members) => members.iter().try_for_each(|member| self.ready(store, member))?,
            None => {
                let ready = store.results.get(result.id.as_str()).is_some_and(|record| record.status.is_ready());
                demand(ready || self.ignored.contains(&result.id), Invariant::Progress, || format!("{} stays open", result.id))?;
            }
        }
        result.parent.as_deref().map_or(Ok(()), |parent| self.ready(store, parent))
    }
}

/// The ids of tasks with ignored results that are written down in a signature.
fn ignored_in(value: &Value, ids: &mut BTreeSet<String>) {
    match value {
        Value::List(list) => list.iter().for_each(|value| ignored_in(value, ids)),
        Value::Map(map) => {
            if let (Some(Value::Str(id)), Some(Value::Bool(true))) = (map.get("task_id"), map.get("ignore_result")) {
                ids.insert(id.clone());
            }
            map.values().for_each(|value| ignored_in(value, ids));
        }
        _ => {}
    }
}
