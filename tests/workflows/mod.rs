//! Workflows as a client sees them: a real node on an embedded store, real tasks, real results.
//!
//! The rules are numbered as in the scheduler's canvas tests, which check what each rule decides; here it is seen that the
//! whole engine carries it out. Every wait is bounded.

mod failures;
mod links;
mod progress;
mod retries;
mod revoking;
mod spawning;
mod tasks;
mod tree;
mod unlock;
mod values;
mod wrong_in_celery;

use std::{future::Future, time::Duration};

use umbel::{
    AsyncResult, Client, Node, Signature, Value,
    brokers::Backbone,
    client::ResultError,
    embedded::{Store, StoreOptions},
    proto::{ResultRecord, State, TaskError},
};
use umbel_tests::wait;

/// How long a workflow may take: far longer than any does.
const LONG: Duration = Duration::from_secs(45);

/// A node with the tasks of [`tasks`], and a client.
struct World {
    /// Ended when it is dropped.
    _node: Node,
    client: Client,
}

impl World {
    async fn new() -> Self {
        let backbone = Backbone::embedded(Store::temporary(StoreOptions::default()).unwrap()).unwrap();
        let builder = Node::builder().name("umbel@workflows").concurrency(4);
        let builder = tasks::register(builder.backbone(backbone.broker, backbone.backend, backbone.ledger));
        let node = wait::soon("the node to start", builder.start()).await.unwrap();
        let client = node.client();
        Self { _node: node, client }
    }

    async fn submit(&self, signature: Signature) -> AsyncResult {
        wait::soon("the submission", self.client.submit(signature)).await.unwrap()
    }

    /// The value a workflow comes to.
    async fn value(&self, signature: Signature) -> Value {
        self.submit(signature).await.value(LONG).await.unwrap()
    }

    /// The exception a workflow comes to.
    async fn error(&self, signature: Signature) -> TaskError {
        match self.submit(signature).await.value(LONG).await {
            Err(ResultError::Failed { error, .. }) => error,
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    /// What is stored of a task that stays PENDING for a client: nothing, once everything is quiet.
    async fn nothing_left_to_do(&self) {
        wait::until_async("no message waits, is held or scheduled", || async {
            let queues = self.client.queues().await.unwrap();
            queues.iter().all(|queue| queue.ready + queue.held + queue.scheduled == 0).then_some(())
        })
        .await;
    }
}

async fn state(result: &AsyncResult) -> State {
    result.state().await.unwrap()
}

async fn ended(result: &AsyncResult) -> ResultRecord {
    result.wait(LONG).await.unwrap().pop().unwrap()
}

fn ints(ints: &[i64]) -> Value {
    Value::List(ints.iter().copied().map(Value::Int).collect())
}

fn list<const N: usize>(values: [Value; N]) -> Value {
    Value::List(values.into())
}

fn text(error: &TaskError) -> &str {
    error.exc_message.first().and_then(Value::as_str).unwrap_or_default()
}

/// Waits until `look` is true of what a test's tasks have noted.
async fn noted<F: Future<Output = ()>>(what: &str, key: &str, count: usize, after: F) -> Vec<Value> {
    after.await;
    wait::until(what, || {
        let notes = tasks::notes(key);
        (notes.len() >= count).then_some(notes)
    })
}
