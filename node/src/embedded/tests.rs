//! Opening: whose file it is, whether it can be read, and that it is left alone when it cannot.

pub(crate) mod disk;
mod outage;

use std::{fs, path::Path};

use super::{tables, *};
use crate::brokers::{Broker, embedded::EmbeddedBroker};

fn open(path: &Path) -> Result<Arc<Store>, OpenError> {
    Store::open(path, StoreOptions::default())
}

/// A closed store with some content.
async fn written(path: &Path, count: usize) {
    let store = open(path).unwrap();
    let message = vec![7; 300];
    for _ in 0..count {
        let new = NewMessage { queue: "q".into(), priority: 0, due: None, message: message.clone() };
        store.write(0, move |tx| tx.publish(&new)).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()));
    store.write(0, |tx| Ok(tx.state.queue_id(&"q".into()))).await.unwrap();
    drop(store);
    open(&path).unwrap();
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    for content in [b"SQLite format 3\0 and more of it".to_vec(), b"short".to_vec(), vec![0; 5000]] {
        fs::write(&path, &content).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    assert!(matches!(open(directory.path()).unwrap_err(), OpenError::Io { .. }));
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let database = redb::Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    txn.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    assert!(matches!(open(&path).unwrap_err(), OpenError::Foreign { .. }));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    written(&path, 3).await;
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(tables::META).unwrap().insert(tables::FORMAT_KEY, tables::FORMAT + 1).unwrap();
    txn.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found, known, .. } if found == known + 1), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_truncated_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    written(&path, 200).await;
    let whole = fs::read(&path).unwrap();
    for length in [100, 4096, 5000, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{length} of {}: {error}", whole.len());
        assert!(fs::read(&path).unwrap() == whole[..length], "cut to {length} bytes, the file was changed");
    }
}

/// Flips bytes all over a file. Either that is seen, and the file left as it is, or it was in a part that is not in use: then
/// everything is there.
#[tokio::test]
async fn damage_is_seen_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    written(&path, 300).await;
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> =
        (0..whole.len()).step_by(512).filter(|at| whole[*at..(at + 512).min(whole.len())].iter().any(|byte| *byte != 0)).collect();
    let mut refused = 0;
    for at in used.iter().step_by(used.len().div_ceil(120)) {
        let mut bytes = whole.clone();
        for byte in &mut bytes[*at..(at + 64).min(whole.len())] {
            *byte ^= 0x5A;
        }
        fs::write(&path, &bytes).unwrap();
        match open(&path) {
            Ok(store) => {
                let status = EmbeddedBroker::new(store).unwrap().queues().await.unwrap();
                assert_eq!(status[0].ready, 300);
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. }), "{error}");
                assert!(fs::read(&path).unwrap() == bytes, "damaged at {at}, refused ({error}), and changed");
            }
        }
    }
    assert!(refused > 20, "only {refused} of the damages were seen");
}
