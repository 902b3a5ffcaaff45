//! What a client does while a store does not answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use umbel_proto::{Signature, Value};
use umbel_scheduler::{Answer, Commit, Effect, ReadyChord, Settings};

use super::{Client, ClientError, KnownTasks};
use crate::{
    brokers::Backbone,
    embedded::{Store, StoreOptions},
    ledgers::{Ledger, LedgerError},
};

/// A ledger that has nothing behind it and fails as told, the first `failures` times.
#[derive(Debug)]
struct Broken {
    failures: Mutex<u32>,
    error: LedgerError,
    committed: Mutex<Vec<Commit>>,
}

#[async_trait]
impl Ledger for Broken {
    fn kind(&self) -> &'static str {
        "broken"
    }

    async fn commit(&self, batch: Vec<Commit>) -> Result<Vec<Answer>, LedgerError> {
        self.committed.lock().unwrap().extend(batch.iter().cloned());
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(self.error.clone());
        }
        Ok(batch.iter().map(|_| Answer::Done { ready: Vec::new() }).collect())
    }

    async fn unconcluded(&self, _limit: usize) -> Result<Vec<ReadyChord>, LedgerError> {
        Ok(Vec::new())
    }
}

fn client(failures: u32, error: LedgerError) -> (Client, Arc<Broken>) {
    let Backbone { broker, backend, .. } = Backbone::embedded(Store::temporary(StoreOptions::default()).unwrap()).unwrap();
    let ledger = Arc::new(Broken { failures: Mutex::new(failures), error, committed: Mutex::default() });
    let client = Client::new(broker, backend, ledger.clone(), Arc::new(Settings::default()), KnownTasks::default());
    (client, ledger)
}

fn down() -> LedgerError {
    LedgerError::Unavailable { kind: "broken", reason: "nobody is there".to_owned() }
}

fn ids(commits: &[Commit]) -> Vec<String> {
    let effects = commits.iter().flat_map(|commit| &commit.effects);
    effects
        .filter_map(|effect| match effect {
            Effect::Publish(publish) => Some(publish.invocation.headers.id.to_string()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_submission_outlives_an_outage_under_its_ids() {
    let (client, ledger) = client(3, down());
    let result = client.submit(Signature::new("t")).await.unwrap();
    assert_eq!(ids(&ledger.committed.lock().unwrap()), [result.id(); 4]);
}

#[tokio::test]
async fn patience_ends_and_the_error_says_what_failed() {
    let (client, _) = client(u32::MAX, down());
    let error = client.with_patience(Duration::from_millis(30)).submit(Signature::new("t")).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "cannot submit t: the broken ledger is not available: nobody is there");
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let (client, ledger) = client(1, LedgerError::Refused { kind: "broken", reason: "too large".to_owned() });
    let error = client.submit(Signature::new("t")).await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(ledger.committed.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_workflow_is_refused_before_anything_is_sent() {
    let (client, ledger) = client(0, down());
    let mut chain = Signature::chain([Signature::new("a"), Signature::new("b")]);
    chain.kwargs.insert("tasks".to_owned(), Value::List(vec![Value::Int(1), Value::Int(2)]));
    match client.submit(chain).await {
        Err(error @ ClientError::Signature { .. }) => assert!(error.to_string().starts_with("cannot submit celery.chain: "), "{error}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(ledger.committed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn two_submissions_have_ids_of_their_own() {
    let (client, ledger) = client(0, down());
    for _ in 0..100 {
        client.submit(Signature::group([Signature::new("t"), Signature::new("t")])).await.unwrap();
    }
    let ids = ids(&ledger.committed.lock().unwrap());
    let distinct: BTreeMap<&String, ()> = ids.iter().map(|id| (id, ())).collect();
    assert_eq!((ids.len(), distinct.len()), (200, 200));
}
