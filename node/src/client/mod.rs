//! The client: what submits tasks and workflows, and waits for their results.
//!
//! A [`Client`] takes a signature apart by the scheduler's canvas and has the ledger make all of it durable in one commit:
//! either the whole workflow is submitted or nothing of it. It holds no connection of its own and no task; cloning it costs
//! a counter, and it may be used from anywhere.

mod error;
mod operations;
mod options;
mod progress;
mod result;
mod wait;

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;
use umbel_proto::{Map, ResultRecord, ResultTuple, Signature, TaskId, TaskName, Value};
use umbel_scheduler::{
    Answer, Commit, Fence, ReadyChord, Settings, TaskSpec,
    canvas::{self, Launch, Sender, Specs},
    chord,
};

pub use error::{ClientError, ResultError};
pub use options::SignatureExt;
pub use progress::{Progress, Update};
pub use result::AsyncResult;

use crate::{actors::chance::Backoff, backends::Backend, brokers::Broker, clock, context::Context, ledgers::Ledger};

/// How long a client goes on trying while a store does not answer, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a submission under a key of the caller's is known to have been sent.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How much later than the sender's patience ends its last attempt may still arrive.
const LATE: Duration = Duration::from_secs(20);

/// The most results one read asks a backend for.
const READ_BATCH: usize = 10_000;

/// Submits tasks and reads results.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    broker: Arc<dyn Broker>,
    backend: Arc<dyn Backend>,
    ledger: Arc<dyn Ledger>,
    settings: Arc<Settings>,
    specs: Arc<KnownTasks>,
    patience: Duration,
}

/// What a client knows of tasks: enough to find their queues. It may submit others as well.
#[derive(Debug, Default)]
pub struct KnownTasks(BTreeMap<TaskName, Arc<TaskSpec>>);

impl KnownTasks {
    /// These; of two by the same name the first.
    pub fn new(specs: impl IntoIterator<Item = Arc<TaskSpec>>) -> Self {
        let mut known = BTreeMap::new();
        for spec in specs {
            known.entry(spec.name.clone()).or_insert(spec);
        }
        Self(known)
    }
}

impl Specs for KnownTasks {
    fn spec(&self, task: &TaskName) -> Option<&TaskSpec> {
        self.0.get(task).map(Arc::as_ref)
    }
}

impl Client {
    /// A client of these stores, which belong together: the ledger's commits publish to the broker and store in the backend.
    pub fn new(
        broker: Arc<dyn Broker>,
        backend: Arc<dyn Backend>,
        ledger: Arc<dyn Ledger>,
        settings: Arc<Settings>,
        specs: KnownTasks,
    ) -> Self {
        Self(Arc::new(Inner { broker, backend, ledger, settings, specs: Arc::new(specs), patience: PATIENCE }))
    }

    /// The same, but going on for another time than [`PATIENCE`] while a store does not answer.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        let Inner { broker, backend, ledger, settings, specs, patience: _ } = &*self.0;
        Self(Arc::new(Inner {
            broker: Arc::clone(broker),
            backend: Arc::clone(backend),
            ledger: Arc::clone(ledger),
            settings: Arc::clone(settings),
            specs: Arc::clone(specs),
            patience,
        }))
    }

    /// Submits a task or workflow. When this returns, all of it is durable.
    ///
    /// A queue that nobody reads and a task that nobody here knows are no errors: another node may come that does. While
    /// the store does not answer, the same submission is repeated under the same ids.
    ///
    /// # Errors
    /// When the signature cannot be launched, the store refuses it, or does not answer in time; the error says which.
    pub async fn submit(&self, signature: Signature) -> Result<AsyncResult, ClientError> {
        self.submit_with(signature, &[], &Map::new()).await
    }

    /// Submits with arguments of the call (Celery's `apply_async(args, kwargs)`): positional ones come before the
    /// signature's own, keyword ones override its own. Of a chain they reach the first step, of a group every member.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn submit_with(&self, signature: Signature, args: &[Value], kwargs: &Map) -> Result<AsyncResult, ClientError> {
        self.launch(&signature, args, kwargs, None, Seed::fresh(self)).await
    }

    /// Submits under ids that are derived from `key`: the same signature with the same key gets the same ids again. On a store
    /// that many processes share it is sent once, whoever repeats it within a day.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn submit_as(&self, signature: Signature, key: &str) -> Result<AsyncResult, ClientError> {
        self.launch(&signature, &[], &Map::new(), None, Seed { text: key.to_owned(), keep: KEYS_KEPT }).await
    }

    /// Submits as a child of a running task.
    pub(crate) async fn submit_from(&self, signature: &Signature, context: &Context) -> Result<AsyncResult, ClientError> {
        let sender =
            Sender { id: context.task_id(), root: context.root_id(), priority: context.priority(), headers: context.own_headers() };
        self.launch(signature, &[], &Map::new(), Some(sender), Seed::fresh(self)).await
    }

    async fn launch(
        &self,
        signature: &Signature,
        args: &[Value],
        kwargs: &Map,
        sender: Option<Sender<'_>>,
        seed: Seed,
    ) -> Result<AsyncResult, ClientError> {
        let launched = canvas::launch(
            signature,
            Launch { settings: &self.0.settings, specs: &*self.0.specs, args, kwargs, sender, seed: &seed.text, now: clock::now() },
        )
        .map_err(|source| ClientError::Signature { task: signature.task.clone(), source })?;
        let fence = Fence::Once { token: seed.text, keep: seed.keep };
        self.commit(Commit { fence, effects: launched.effects }, &format!("submit {}", signature.task)).await?;
        Ok(AsyncResult::new(self.clone(), launched.result))
    }

    /// A handle for a result whose id is known from elsewhere.
    pub fn result(&self, id: impl Into<TaskId>) -> AsyncResult {
        let id: TaskId = id.into();
        self.result_of(ResultTuple { id: id.as_str().to_owned(), parent: None, children: None })
    }

    /// A handle for a whole tree of results, as [`AsyncResult::tuple`] gave it.
    pub fn result_of(&self, tuple: ResultTuple) -> AsyncResult {
        AsyncResult::new(self.clone(), tuple)
    }

    /// What is stored under each id; `None` where nothing is.
    ///
    /// # Errors
    /// When the backend refuses or does not answer in time.
    pub async fn records(&self, ids: &[TaskId]) -> Result<Vec<Option<ResultRecord>>, ClientError> {
        let mut records = Vec::with_capacity(ids.len());
        for batch in ids.chunks(READ_BATCH) {
            let backend = &self.0.backend;
            records.extend(self.patiently("read results", || backend.get(batch)).await?);
        }
        Ok(records)
    }

    /// Commits, and concludes the chords that are complete with it (those of an empty header).
    async fn commit(&self, commit: Commit, what: &str) -> Result<(), ClientError> {
        let mut commits = vec![commit];
        while !commits.is_empty() {
            let ledger = &self.0.ledger;
            let answers = self.patiently(what, || ledger.commit(commits.clone())).await?;
            let mut next = Vec::new();
            for answer in answers {
                if let Answer::Done { ready } = answer {
                    next.extend(ready.iter().map(|ready| self.conclusion(ready)));
                }
            }
            commits = next;
        }
        Ok(())
    }

    fn conclusion(&self, ready: &ReadyChord) -> Commit {
        chord::conclude(ready, &self.0.settings, &*self.0.specs, clock::now())
    }

    /// Concludes a chord that no ledger counts.
    pub(crate) async fn conclude_unlocked(&self, ready: ReadyChord) -> Result<(), ClientError> {
        let Commit { effects, .. } = self.conclusion(&ready);
        self.commit(Commit { fence: Fence::Open, effects }, &format!("conclude chord {}", ready.group)).await
    }

    /// Repeats what fails for now, with growing pauses, until it does not or patience ends.
    async fn patiently<T, E, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, E>>,
        ClientError: From<E>,
    {
        let end = Instant::now() + self.0.patience;
        let mut backoff = Backoff::by_link();
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => ClientError::from(error),
            };
            let pause = backoff.next();
            if !error.is_transient() || Instant::now() + pause >= end {
                return Err(error.during(what));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { broker, backend, ledger, .. } = &*self.0;
        f.debug_struct("Client").field("broker", &broker.kind()).field("backend", &backend.kind()).field("ledger", &ledger.kind()).finish()
    }
}

/// What the ids of a submission are made of, and how long it may be repeated.
struct Seed {
    text: String,
    keep: Duration,
}

impl Seed {
    /// One that gives ids nobody has used; repeated only while `client` has patience.
    fn fresh(client: &Client) -> Self {
        Self { text: uuid::Uuid::new_v4().to_string(), keep: client.0.patience + LATE }
    }
}

#[cfg(test)]
mod tests;
