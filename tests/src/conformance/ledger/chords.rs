//! Chords: counted by member, ready once, concluded once.

use std::time::Duration;

use umbel::{
    backends::{Backend, ChordProgress},
    ledgers::Ledger,
    proto::{GroupId, TaskError, TaskId, Value},
    scheduler::{Answer, Commit, Effect, Fence, PartResult, ReadyChord},
};

use super::{commit, done, refused};
use crate::{
    conformance::{Setup, Stage, making::*},
    wait::until_async,
};

async fn progress(backend: &dyn Backend, group: &str) -> Option<(u32, u32)> {
    backend.chord(&GroupId::from(group)).await.unwrap().map(|ChordProgress { size, done }| (size, done))
}

fn conclusion(group: &str) -> Commit {
    let effect = Effect::Publish(Box::new(message("bodies", &format!("{group}-body"))));
    Commit { fence: Fence::Chord { group: GroupId::from(group), failed: false }, effects: vec![effect] }
}

/// What the body gets: index, task, value.
fn members(chord: &ReadyChord) -> Vec<(Option<i64>, String, PartResult)> {
    chord.parts.iter().map(|part| (part.index, part.task_id.to_string(), part.result.clone())).collect()
}

async fn bodies<S: Stage>(stage: &S) -> u64 {
    stage.broker().queues().await.unwrap().iter().find(|queue| queue.name.as_str() == "bodies").map_or(0, |queue| queue.ready)
}

async fn one_ready(ledger: &dyn Ledger, commit: Commit) -> ReadyChord {
    let mut ready = done(ledger, commit).await;
    assert_eq!(ready.len(), 1);
    ready.remove(0)
}

/// Results are listed by index, whatever the order in which the members end; those without an index last.
pub async fn parts_come_in_any_order<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    done(&*ledger, open(vec![open_chord("g", 5)])).await;
    assert!(done(&*ledger, open(vec![part_with("g", None, "z", PartResult::Value(Value::Null))])).await.is_empty());
    for index in [11, 2, 0] {
        assert!(done(&*ledger, open(vec![part("g", index, &format!("t{index}"))])).await.is_empty());
    }
    assert_eq!(progress(&*stage.backend(), "g").await, Some((5, 4)));
    let ready = one_ready(&*ledger, open(vec![part("g", -1, "t-1")])).await;
    let indexes: Vec<Option<i64>> = ready.parts.iter().map(|part| part.index).collect();
    assert_eq!(indexes, [Some(-1), Some(0), Some(2), Some(11), None]);
    assert_eq!(ready.parts[2].result, PartResult::Value(Value::Int(20)));
    let last = ready.parts.iter().find(|part| ready.last.as_ref() == Some(&part.task_id)).unwrap();
    assert_eq!(last.root_id, Some(TaskId::from("root")), "the body's root");
    assert_eq!((ready.group.as_str(), ready.last), ("g", Some(TaskId::from("t-1"))));
    assert_eq!(ready.body, body("g"));
    assert_eq!(progress(&*stage.backend(), "g").await, Some((5, 5)));
}

/// A member that is delivered twice is one member, with the result that was recorded first.
pub async fn a_part_counts_once<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    done(&*ledger, open(vec![open_chord("g", 3)])).await;
    let again = part_with("g", Some(0), "t0", PartResult::Value(Value::from("again")));
    for effects in [vec![part("g", 0, "t0"), again.clone()], vec![again.clone()], vec![part("g", 1, "t1")], vec![again]] {
        assert!(done(&*ledger, open(effects)).await.is_empty());
    }
    assert_eq!(progress(&*stage.backend(), "g").await, Some((3, 2)));
    let ready = one_ready(&*ledger, open(vec![part("g", 2, "t2"), part("g", 2, "t2")])).await;
    assert_eq!(ready.parts[0].result, PartResult::Value(Value::Int(0)));
    assert_eq!(ready.parts.len(), 3);
    assert!(done(&*ledger, open(vec![part("g", 2, "t2")])).await.is_empty(), "the chord was told twice");
}

/// A part is known by index and task together: tasks added to a chord may share an index.
pub async fn equal_indexes_of_different_tasks_are_two_parts<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    done(&*ledger, open(vec![open_chord("g", 2)])).await;
    assert!(done(&*ledger, open(vec![part("g", 0, "b")])).await.is_empty());
    let ready = one_ready(&*ledger, open(vec![part("g", 0, "a")])).await;
    assert_eq!(ready.parts.iter().map(|part| part.task_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

/// Errors are parts; the chord waits for everybody all the same.
pub async fn a_failed_part_completes_like_any_other<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    // Not every store keeps the traceback with the part; the member's own result has it.
    let error = TaskError::new("builtins", "ValueError", "bad");
    done(&*ledger, open(vec![open_chord("g", 2)])).await;
    let failed = part_with("g", Some(0), "t0", PartResult::Error(error.clone()));
    assert!(done(&*ledger, open(vec![failed])).await.is_empty());
    let ready = one_ready(&*ledger, open(vec![part("g", 1, "t1")])).await;
    let value = PartResult::Value(Value::Int(10));
    assert_eq!(members(&ready), [(Some(0), "t0".to_owned(), PartResult::Error(error)), (Some(1), "t1".to_owned(), value)]);
}

/// `chord([])`.
pub async fn a_chord_without_members_is_ready_at_once<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    let ready = one_ready(&*ledger, open(vec![open_chord("g", 0)])).await;
    assert_eq!((ready.parts.len(), ready.last.clone(), ready.body.clone()), (0, None, body("g")));
    done(&*ledger, conclusion("g")).await;
    assert_eq!(bodies(&stage).await, 1);
}

/// `add_to_chord`, before and after the chord seemed to be complete.
pub async fn a_grown_chord_waits_for_more<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    let grow = |by| Effect::GrowChord { group: GroupId::from("g"), by };
    done(&*ledger, open(vec![open_chord("g", 1)])).await;
    assert!(done(&*ledger, open(vec![grow(1), part("g", 0, "t0")])).await.is_empty());
    assert_eq!(one_ready(&*ledger, open(vec![part("g", 1, "t1")])).await.parts.len(), 2);
    done(&*ledger, open(vec![grow(1)])).await;
    refused(&*ledger, conclusion("g")).await;
    assert_eq!(progress(&*stage.backend(), "g").await, Some((3, 2)));
    let ready = one_ready(&*ledger, open(vec![part("g", 2, "t2")])).await;
    assert_eq!((ready.parts.len(), ready.last), (3, Some(TaskId::from("t2"))));
    done(&*ledger, open(vec![Effect::GrowChord { group: GroupId::from("unknown"), by: 1 }])).await;
}

/// Of a chord that was concluded, or never opened here.
pub async fn a_part_for_no_chord_is_ignored<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    let next = Effect::Publish(Box::new(message("next", "n")));
    assert!(done(&*ledger, open(vec![part("g", 0, "t0"), next])).await.is_empty());
    assert_eq!(progress(&*stage.backend(), "g").await, None);
    assert_eq!(stage.broker().queues().await.unwrap()[0].ready, 1);
    // And it is not there when the chord is opened later.
    done(&*ledger, open(vec![open_chord("g", 1)])).await;
    assert_eq!(progress(&*stage.backend(), "g").await, Some((1, 0)));
}

/// However the members' endings fall together, one committer hears of the last part.
pub async fn the_last_part_is_told_once_among_many<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    for round in 0..10 {
        let group = format!("g{round}");
        done(&*stage.ledger(), open(vec![open_chord(&group, 40)])).await;
        let committers = (0..40i64).map(|index| {
            let (ledger, group) = (stage.ledger(), group.clone());
            tokio::spawn(async move {
                let one = open(vec![part(&group, index, &format!("t{index}"))]);
                // Everything twice: a redelivered member's ending.
                commit(&*ledger, vec![one.clone(), one]).await
            })
        });
        let answers = futures::future::try_join_all(committers).await.unwrap();
        let told: Vec<ReadyChord> = answers
            .into_iter()
            .flatten()
            .flat_map(|answer| match answer {
                Answer::Done { ready } => ready,
                Answer::Refused => panic!("refused"),
            })
            .collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].parts.len(), 40);
    }
}

/// Many who all think it is theirs to conclude: one does.
pub async fn a_chord_is_concluded_once<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    one_ready(&*stage.ledger(), open(vec![open_chord("g", 1), part("g", 0, "t0")])).await;
    let committers = (0..20).map(|_| {
        let ledger = stage.ledger();
        tokio::spawn(async move { commit(&*ledger, vec![conclusion("g"), conclusion("g")]).await })
    });
    let answers = futures::future::try_join_all(committers).await.unwrap();
    assert_eq!(answers.into_iter().flatten().filter(|answer| *answer != Answer::Refused).count(), 1);
    assert_eq!(bodies(&stage).await, 1);
}

/// Neither before the last part, nor where there is no chord.
pub async fn an_incomplete_chord_cannot_be_concluded<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    refused(&*ledger, conclusion("g")).await;
    done(&*ledger, open(vec![open_chord("g", 2), part("g", 0, "t0")])).await;
    refused(&*ledger, conclusion("g")).await;
    assert_eq!(bodies(&stage).await, 0);
}

/// It leaves nothing behind that counts, not even for a chord of the same name, nor in one whose name begins alike. Where a member
/// has failed, stores may keep for people what the members came to.
pub async fn a_concluded_chord_is_forgotten<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    done(&*ledger, open(vec![open_chord("g-other", 2), part("g-other", 0, "t0")])).await;
    for failed in [false, true, false] {
        done(&*ledger, open(vec![open_chord("g", 2), part("g", 0, "t0")])).await;
        assert_eq!(progress(&*stage.backend(), "g").await, Some((2, 1)));
        assert_eq!(one_ready(&*ledger, open(vec![part("g", 1, "t1")])).await.parts.len(), 2);
        let mut conclusion = conclusion("g");
        conclusion.fence = Fence::Chord { group: "g".into(), failed };
        done(&*ledger, conclusion.clone()).await;
        refused(&*ledger, conclusion).await;
        assert_eq!(progress(&*stage.backend(), "g").await, None);
        assert!(done(&*ledger, open(vec![part("g", 1, "t1")])).await.is_empty());
        assert!(ledger.unconcluded(10).await.unwrap().is_empty());
    }
    assert_eq!(progress(&*stage.backend(), "g-other").await, Some((2, 1)));
}

/// Whoever was told has died, but the store lives on: after a grace others are told. Until it is concluded, each time.
pub async fn an_unconcluded_chord_is_found<S: Stage>() {
    let stage = S::fresh(Setup { chord_grace: Some(Duration::from_millis(300)), ..Setup::default() }).await;
    let ledger = stage.ledger();
    done(&*ledger, open(vec![open_chord("waiting", 2), part("waiting", 0, "t0")])).await;
    let told = one_ready(&*ledger, open(vec![open_chord("g", 1), part("g", 0, "t0")])).await;
    for _ in 0..2 {
        let found = until_async("the chord is listed", || async {
            let found = ledger.unconcluded(10).await.unwrap();
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found.await.as_slice(), std::slice::from_ref(&told));
    }
    done(&*ledger, conclusion("g")).await;
    assert!(ledger.unconcluded(10).await.unwrap().is_empty());
}

/// Everybody has died: no grace is needed.
pub async fn an_unconcluded_chord_is_found_after_a_crash<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    for group in ids("g", 3) {
        let told = one_ready(&*stage.ledger(), open(vec![open_chord(&group, 1), part(&group, 0, "t0")])).await;
        assert_eq!(told.group.as_str(), group);
    }
    assert!(stage.ledger().unconcluded(10).await.unwrap().is_empty(), "listed although it was told just now");
    stage = stage.reopen().await;
    let ledger = stage.ledger();
    for count in [2, 1] {
        let found = ledger.unconcluded(2).await.unwrap();
        assert_eq!(found.len(), count);
        for chord in found {
            assert_eq!((chord.parts.len(), &chord.body), (1, &body(chord.group.as_str())));
            done(&*ledger, conclusion(chord.group.as_str())).await;
        }
    }
    assert!(ledger.unconcluded(10).await.unwrap().is_empty());
    assert_eq!(bodies(&stage).await, 3);
}

/// Half a chord is durable.
pub async fn chords_survive_half_way<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    done(&*stage.ledger(), open(vec![open_chord("g", 3), part("g", 0, "t0")])).await;
    stage = stage.reopen().await;
    let ledger = stage.ledger();
    assert!(ledger.unconcluded(10).await.unwrap().is_empty());
    assert!(done(&*ledger, open(vec![part("g", 0, "t0"), part("g", 2, "t2")])).await.is_empty());
    assert_eq!(one_ready(&*ledger, open(vec![part("g", 1, "t1")])).await.parts.len(), 3);
}

/// Thousands of members, each in its place.
pub async fn a_large_chord_keeps_its_order<S: Stage>() {
    const SIZE: i64 = 3000;
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    done(&*ledger, open(vec![open_chord("g", SIZE as u32)])).await;
    let backwards: Vec<i64> = (0..SIZE).rev().collect();
    let mut told = Vec::new();
    for chunk in backwards.chunks(500) {
        let commits = chunk.iter().map(|index| open(vec![part("g", *index, &format!("t{index}"))])).collect();
        for answer in commit(&*ledger, commits).await {
            let Answer::Done { ready } = answer else { panic!("refused") };
            told.extend(ready);
        }
    }
    assert_eq!(told.len(), 1);
    let expected = (0..SIZE).map(|index| (Some(index), format!("t{index}"), PartResult::Value(Value::Int(index * 10))));
    assert_eq!(members(&told[0]), expected.collect::<Vec<_>>());
    done(&*ledger, conclusion("g")).await;
    assert_eq!(progress(&*stage.backend(), "g").await, None);
}

/// Hundreds of members whose places have gaps, are shared, or are none: the body gets them in order all the same, from whoever
/// concludes.
pub async fn a_large_chord_may_have_any_indexes<S: Stage>() {
    let stage = S::fresh(Setup { chord_grace: Some(Duration::from_millis(300)), ..Setup::default() }).await;
    let ledger = stage.ledger();
    let shared = (0..150).map(|n| (Some(n / 2 * 3 - 10), format!("t{n:03}")));
    let expected: Vec<(Option<i64>, String)> = shared.chain((150..200).map(|n| (None, format!("t{n:03}")))).collect();
    done(&*ledger, open(vec![open_chord("g", 200)])).await;
    let part =
        |(index, task): &(Option<i64>, String)| open(vec![part_with("g", *index, task, PartResult::Value(Value::from(task.as_str())))]);
    let mut told = Vec::new();
    for answer in commit(&*ledger, expected.iter().rev().map(part).collect()).await {
        let Answer::Done { ready } = answer else { panic!("refused") };
        told.extend(ready);
    }
    let found = until_async("the chord is listed", || async {
        let found = ledger.unconcluded(10).await.unwrap();
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(told, found.await);
    let ready = told.pop().unwrap();
    assert_eq!(ready.parts.iter().map(|part| (part.index, part.task_id.to_string())).collect::<Vec<_>>(), expected);
    assert!(ready.parts.iter().all(|part| part.result == PartResult::Value(Value::from(part.task_id.as_str()))));
}
