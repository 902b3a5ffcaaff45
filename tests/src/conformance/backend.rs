//! What every result backend promises (`umbel::backends`).

use std::{pin::pin, sync::Arc, time::Duration};

use umbel::{
    backends::{Backend, Watch},
    proto::{GroupId, Map, ResultRecord, ResultTuple, State, TaskId, Value},
};

use super::{Setup, Stage, making::*};
use crate::wait::{soon, until_async};

/// Makes one test of every case of the backend suite.
#[macro_export]
macro_rules! backend_conformance {
    ($stage:ty) => {
        $crate::conformance_cases!(
            $stage,
            $crate::conformance::backend,
            [
                what_is_stored_is_read_as_it_was,
                unknown_ids_are_pending,
                a_success_is_never_overwritten,
                everything_else_is_overwritten,
                a_success_wins_against_all_at_once,
                what_is_forgotten_is_gone,
                results_survive,
                results_expire,
                a_result_stored_again_lives_on,
                an_expired_success_does_not_bind,
                a_watch_begins_with_what_is_there,
                a_watch_hears_what_is_stored_afterwards,
                a_watch_hears_the_last_of_many,
                a_dropped_wait_loses_no_record,
                a_watch_hears_only_its_own,
                every_watcher_hears,
                groups_keep_their_shape,
                a_chord_that_never_was_has_no_progress,
            ]
        );
    };
}

async fn store(backend: &dyn Backend, record: ResultRecord) -> bool {
    soon("storing", backend.store(vec![record])).await.remove(0).unwrap()
}

async fn get(backend: &dyn Backend, id: &str) -> Option<ResultRecord> {
    soon("reading", backend.get(&[TaskId::from(id)])).await.unwrap().remove(0)
}

async fn watch(backend: &dyn Backend, ids: &[&str]) -> Box<dyn Watch> {
    let ids: Vec<TaskId> = ids.iter().map(|id| TaskId::from(*id)).collect();
    soon("watching", backend.watch(&ids)).await.unwrap()
}

async fn next(watch: &mut Box<dyn Watch>) -> ResultRecord {
    soon("a record", watch.next()).await.unwrap()
}

fn full() -> ResultRecord {
    let tuple = |id: &str| ResultTuple { id: id.to_owned(), parent: None, children: None };
    let group = ResultTuple { id: "g".to_owned(), parent: Some(Box::new(tuple("p"))), children: Some(vec![tuple("a"), tuple("b")]) };
    let values = vec![Value::Null, Value::Float(f64::NAN), Value::BigInt("123456789012345678901234567890".into()), Value::from("ü\n")];
    ResultRecord {
        traceback: Some("Traceback: …".to_owned()),
        children: Some(vec![group, tuple("c")]),
        date_done: Some("2026-11-21T05:45:09.950296+00:00".to_owned()),
        group_id: Some(GroupId::from("g")),
        parent_id: Some(TaskId::from("p")),
        extra: Map::from_iter([("worker".to_owned(), Value::from("celery@host")), ("retries".to_owned(), Value::Int(2))]),
        ..result("full", State::Custom("MY_STATE".to_owned()), Value::List(values))
    }
}

/// Every field, values beyond JSON included.
pub async fn what_is_stored_is_read_as_it_was<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let others = [State::Started, State::Retry, State::Failure, State::Revoked, State::Success]
        .map(|state| result(&format!("t-{}", state.as_str()), state, Map::from_iter([("k".to_owned(), Value::Bool(true))])));
    let records: Vec<ResultRecord> = others.into_iter().chain([full()]).collect();
    for answer in backend.store(records.clone()).await {
        assert!(answer.unwrap());
    }
    let ids: Vec<TaskId> = records.iter().map(|record| record.task_id.clone()).collect();
    let read: Vec<ResultRecord> = backend.get(&ids).await.unwrap().into_iter().flatten().collect();
    assert_eq!(read, records);
}

/// Nothing stored is Celery's PENDING; answers are in the order of the questions.
pub async fn unknown_ids_are_pending<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    assert!(store(&*backend, result("b", State::Success, 1i64)).await);
    let read = backend.get(&["a", "b", "c", "b"].map(TaskId::from)).await.unwrap();
    assert_eq!(read.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
    assert!(backend.get(&[]).await.unwrap().is_empty());
}

/// Neither by a failure, nor by another success, nor in the same batch.
pub async fn a_success_is_never_overwritten<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let first = result("t", State::Success, "first");
    let batch = vec![first.clone(), result("t", State::Failure, "second"), result("other", State::Success, 1i64)];
    let answers: Vec<bool> = backend.store(batch).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [true, false, true]);
    for later in [State::Success, State::Failure, State::Started, State::Revoked, State::Retry] {
        assert!(!store(&*backend, result("t", later, "later")).await);
        assert_eq!(get(&*backend, "t").await.unwrap(), first);
    }
}

/// The last word stands, until it is a SUCCESS.
pub async fn everything_else_is_overwritten<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    for state in [State::Started, State::Custom("HALF".to_owned()), State::Failure, State::Retry, State::Revoked, State::Success] {
        let record = result("t", state.clone(), state.as_str());
        assert!(store(&*backend, record.clone()).await);
        assert_eq!(get(&*backend, "t").await.unwrap(), record);
    }
}

/// Of many writers at once, one SUCCESS is told that it was stored, and it is the one that stays.
pub async fn a_success_wins_against_all_at_once<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let writers = (0..20i64).map(|number| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move { store(&*backend, result("t", State::Success, number)).await.then_some(number) })
    });
    let stored: Vec<i64> = futures::future::try_join_all(writers).await.unwrap().into_iter().flatten().collect();
    assert_eq!(stored.len(), 1);
    assert_eq!(get(&*backend, "t").await.unwrap().result, Value::Int(stored[0]));
}

/// Forgotten is as if never stored, a SUCCESS included.
pub async fn what_is_forgotten_is_gone<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    assert!(store(&*backend, result("t", State::Success, 1i64)).await);
    assert!(store(&*backend, result("kept", State::Success, 1i64)).await);
    backend.forget(&["t", "unknown"].map(TaskId::from)).await.unwrap();
    assert!(get(&*backend, "t").await.is_none() && get(&*backend, "kept").await.is_some());
    assert!(store(&*backend, result("t", State::Failure, 2i64)).await);
}

/// Stored is durable.
pub async fn results_survive<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    assert!(store(&*stage.backend(), full()).await);
    assert!(store(&*stage.backend(), result("t", State::Success, "first")).await);
    stage = stage.reopen().await;
    let backend = stage.backend();
    assert_eq!(get(&*backend, "full").await.unwrap(), full());
    assert!(!store(&*backend, result("t", State::Failure, "later")).await);
}

/// After the expiry a record is gone.
pub async fn results_expire<S: Stage>() {
    let stage = S::fresh(Setup { result_expires: Some(Duration::from_millis(1500)), ..Setup::default() }).await;
    let backend = stage.backend();
    let before = std::time::Instant::now();
    assert!(store(&*backend, result("t", State::Success, 1i64)).await);
    backend.save_group(&GroupId::from("g"), &ResultTuple { id: "g".to_owned(), parent: None, children: Some(Vec::new()) }).await.unwrap();
    let read = get(&*backend, "t").await;
    assert!(read.is_some() || before.elapsed() >= Duration::from_millis(1500));
    until_async("the result expires", || async { get(&*backend, "t").await.is_none().then_some(()) }).await;
    until_async("the group expires", || async { backend.group(&GroupId::from("g")).await.unwrap().is_none().then_some(()) }).await;
    assert!(before.elapsed() >= Duration::from_millis(1400));
}

/// The expiry counts from the last storing: while a task reports, its record stays. (Another result is the clock.)
pub async fn a_result_stored_again_lives_on<S: Stage>() {
    let stage = S::fresh(Setup { result_expires: Some(Duration::from_secs(3)), ..Setup::default() }).await;
    let backend = stage.backend();
    for round in 0..3 {
        let clock = format!("clock{round}");
        assert!(store(&*backend, result(&clock, State::Success, 1i64)).await);
        until_async("the clock expires", || async {
            assert!(store(&*backend, result("t", State::Started, round)).await);
            assert!(get(&*backend, "t").await.is_some());
            get(&*backend, &clock).await.is_none().then_some(())
        })
        .await;
    }
}

/// An id whose SUCCESS has expired can be used again.
pub async fn an_expired_success_does_not_bind<S: Stage>() {
    let stage = S::fresh(Setup { result_expires: Some(Duration::from_millis(1000)), ..Setup::default() }).await;
    let backend = stage.backend();
    assert!(store(&*backend, result("t", State::Success, 1i64)).await);
    until_async("the result expires", || async { get(&*backend, "t").await.is_none().then_some(()) }).await;
    assert!(store(&*backend, result("t", State::Failure, 2i64)).await);
}

/// What is there comes first, one record for each id.
pub async fn a_watch_begins_with_what_is_there<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    assert!(store(&*backend, result("a", State::Started, 0i64)).await);
    assert!(store(&*backend, result("a", State::Success, 1i64)).await);
    assert!(store(&*backend, result("b", State::Failure, 2i64)).await);
    let mut watch = watch(&*backend, &["a", "b", "c"]).await;
    let mut seen = vec![next(&mut watch).await, next(&mut watch).await];
    seen.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    assert_eq!(seen, [result("a", State::Success, 1i64), result("b", State::Failure, 2i64)]);
    assert!(futures::poll!(pin!(watch.next())).is_pending());
}

/// One after the other, as they are stored.
pub async fn a_watch_hears_what_is_stored_afterwards<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let mut watch = watch(&*backend, &["t"]).await;
    for state in [State::Started, State::Custom("HALF".to_owned()), State::Retry, State::Success] {
        let record = result("t", state, 1i64);
        let waiting = tokio::spawn(async move {
            let record = next(&mut watch).await;
            (watch, record)
        });
        assert!(store(&*backend, record.clone()).await);
        let (back, seen) = soon("the watcher", waiting).await.unwrap();
        assert_eq!(seen, record);
        watch = back;
    }
    assert!(!store(&*backend, result("t", State::Failure, 2i64)).await);
    assert!(futures::poll!(pin!(watch.next())).is_pending(), "what was not stored was told");
}

/// A slow watcher may miss steps, but never the last, and never sees an older one after a newer.
pub async fn a_watch_hears_the_last_of_many<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let mut watch = watch(&*backend, &["t"]).await;
    for number in 0..500i64 {
        assert!(store(&*backend, result("t", State::Custom("PROGRESS".to_owned()), number)).await);
    }
    assert!(store(&*backend, result("t", State::Success, 500i64)).await);
    let mut last = -1;
    while last < 500 {
        let number = next(&mut watch).await.result.as_i64().unwrap();
        assert!(number > last);
        last = number;
    }
}

/// A wait that is given up at any moment has taken nothing with it.
pub async fn a_dropped_wait_loses_no_record<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let mut watch = watch(&*backend, &["t"]).await;
    assert!(futures::poll!(pin!(watch.next())).is_pending());
    assert!(store(&*backend, result("t", State::Success, 1i64)).await);
    assert_eq!(next(&mut watch).await.result, Value::Int(1));
}

/// Records of other ids do not come.
pub async fn a_watch_hears_only_its_own<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let mut watch = watch(&*backend, &["mine"]).await;
    for id in ids("other", 50) {
        assert!(store(&*backend, result(&id, State::Success, 1i64)).await);
    }
    assert!(store(&*backend, result("mine", State::Success, 1i64)).await);
    assert_eq!(next(&mut watch).await.task_id.as_str(), "mine");
}

/// Watchers do not take records from each other, and one that goes takes nobody with it.
pub async fn every_watcher_hears<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let backend = stage.backend();
    let mut watches = Vec::new();
    for _ in 0..10 {
        watches.push(watch(&*backend, &["t", "u"]).await);
    }
    drop(watches.split_off(7));
    assert!(store(&*backend, result("t", State::Success, 1i64)).await);
    for watch in &mut watches {
        assert_eq!(next(watch).await.task_id.as_str(), "t");
    }
}

/// `GroupResult.save` and `restore`, also after a crash; saved again, the last shape counts.
pub async fn groups_keep_their_shape<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let leaf = |id: String| ResultTuple { id, parent: None, children: None };
    let tree = |count| ResultTuple {
        id: "g".to_owned(),
        parent: Some(Box::new(leaf("p".to_owned()))),
        children: Some(ids("m", count).into_iter().map(leaf).collect()),
    };
    let group = GroupId::from("g");
    assert_eq!(stage.backend().group(&group).await.unwrap(), None);
    stage.backend().save_group(&group, &tree(3)).await.unwrap();
    stage.backend().save_group(&group, &tree(5)).await.unwrap();
    stage = stage.reopen().await;
    assert_eq!(stage.backend().group(&group).await.unwrap(), Some(tree(5)));
    assert_eq!(stage.backend().group(&GroupId::from("other")).await.unwrap(), None);
}

/// No chord, no progress.
pub async fn a_chord_that_never_was_has_no_progress<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    assert_eq!(stage.backend().chord(&GroupId::from("g")).await.unwrap(), None);
}
