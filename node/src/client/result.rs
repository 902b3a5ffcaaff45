//! Results as a client holds them: Celery's `AsyncResult` and `GroupResult` in one.

use std::{sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use tokio::time::Instant;
use umbel_proto::{GroupId, ResultRecord, ResultTuple, State, TaskError, TaskId, Value};
use umbel_scheduler::revocation::Revocation;

use super::{Client, ClientError, Progress, ResultError, wait::Records};

/// A result that may not be there yet: of a task, or of a group of results.
///
/// Of a chain it is the last step's, of a chord its body's; [`AsyncResult::parent`] walks back to the steps before.
/// Cloning it costs two counters. Dropping it changes nothing for the task.
#[derive(Debug, Clone)]
pub struct AsyncResult {
    client: Client,
    tuple: Arc<ResultTuple>,
}

impl AsyncResult {
    pub(super) fn new(client: Client, tuple: ResultTuple) -> Self {
        Self { client, tuple: Arc::new(tuple) }
    }

    /// The id of the task or group.
    pub fn id(&self) -> &str {
        &self.tuple.id
    }

    /// The ids of the whole tree, to be kept and turned into a handle again by [`Client::result_of`].
    pub fn tuple(&self) -> &ResultTuple {
        &self.tuple
    }

    /// Whether this is a group of results.
    pub fn is_group(&self) -> bool {
        self.tuple.children.is_some()
    }

    /// The results of a group, in order; `None` of a task.
    pub fn members(&self) -> Option<Vec<AsyncResult>> {
        let members = self.tuple.children.as_ref()?;
        Some(members.iter().map(|member| Self::new(self.client.clone(), member.clone())).collect())
    }

    /// The result this one follows from: the step before in a chain, the header of a chord.
    pub fn parent(&self) -> Option<AsyncResult> {
        self.tuple.parent.as_deref().map(|parent| Self::new(self.client.clone(), parent.clone()))
    }

    /// The results of what the task sent: its callbacks, the next step, and what its own code sent. Of a group, its
    /// members. Empty while the task has not succeeded.
    ///
    /// # Errors
    /// When the backend cannot be read; so for all that reads.
    pub async fn children(&self) -> Result<Vec<AsyncResult>, ClientError> {
        if let Some(members) = self.members() {
            return Ok(members);
        }
        let children = self.record().await?.and_then(|record| record.children).unwrap_or_default();
        Ok(children.into_iter().map(|child| Self::new(self.client.clone(), child)).collect())
    }

    /// What is stored of the task, if anything is; `None` of a group.
    ///
    /// # Errors
    /// See [`AsyncResult::children`].
    pub async fn record(&self) -> Result<Option<ResultRecord>, ClientError> {
        if self.is_group() {
            return Ok(None);
        }
        let mut records = self.client.records(&[TaskId::from(self.id())]).await?;
        Ok(records.pop().flatten())
    }

    /// The state. PENDING is unknown or waiting. A group is FAILURE or REVOKED as soon as a member is, SUCCESS when all
    /// are, else PENDING.
    ///
    /// # Errors
    /// See [`AsyncResult::children`].
    pub async fn state(&self) -> Result<State, ClientError> {
        let ids = leaves(&self.tuple);
        let states: Vec<State> =
            self.client.records(&ids).await?.into_iter().map(|record| record.map_or(State::Pending, |record| record.status)).collect();
        if !self.is_group() {
            return Ok(states.into_iter().next().unwrap_or(State::Pending));
        }
        let bad = states.iter().find(|state| matches!(state, State::Failure | State::Revoked));
        Ok(match bad {
            Some(state) => state.clone(),
            None if states.iter().all(|state| *state == State::Success) => State::Success,
            None => State::Pending,
        })
    }

    /// Whether the task, or every member of the group, has ended.
    ///
    /// # Errors
    /// See [`AsyncResult::children`].
    pub async fn is_ready(&self) -> Result<bool, ClientError> {
        let ids = leaves(&self.tuple);
        Ok(self.client.records(&ids).await?.iter().all(|record| record.as_ref().is_some_and(|record| record.status.is_ready())))
    }

    /// How many tasks of the result have succeeded, and how many there are (Celery's `completed_count()`).
    ///
    /// # Errors
    /// See [`AsyncResult::children`].
    pub async fn completed(&self) -> Result<(usize, usize), ClientError> {
        let ids = leaves(&self.tuple);
        let records = self.client.records(&ids).await?;
        let done = records.iter().flatten().filter(|record| record.status == State::Success).count();
        Ok((done, ids.len()))
    }

    /// Waits for the value; of a group, for the list of its members' values in order, nested as the group is.
    ///
    /// Never call it inside a task: a task that waits for another occupies the slot the other may need.
    ///
    /// # Errors
    /// When the task (or a member of the group; the first in order) failed or was revoked, when there is no result within
    /// `timeout`, when the value is not a `T`, or when the backend refuses.
    pub async fn get<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, ResultError> {
        let value = self.value(timeout).await?;
        value.deserialize().map_err(|source| ResultError::Type { task_id: self.id().to_owned(), source })
    }

    /// As [`AsyncResult::get`], untyped.
    ///
    /// # Errors
    /// As [`AsyncResult::get`].
    pub async fn value(&self, timeout: Duration) -> Result<Value, ResultError> {
        let mut records = self.watch();
        let mut known = 0;
        let ended = records.until(Instant::now() + timeout, |records| verdict(records, &mut known).is_some()).await?;
        match (ended, verdict(&records, &mut known)) {
            (true, Some(Some(failed))) => Err(failure(failed)),
            (true, _) => Ok(join(&self.tuple, &records)),
            (false, _) => Err(timed_out(&records, timeout)),
        }
    }

    /// Waits until the task, or every member of the group, has ended, however it ended; the records, in order.
    ///
    /// # Errors
    /// When they have not ended within `timeout`, or when the backend refuses.
    pub async fn wait(&self, timeout: Duration) -> Result<Vec<ResultRecord>, ResultError> {
        let mut records = self.watch();
        let mut known = 0;
        let all = |records: &Records| {
            known += records.ids().iter().skip(known).take_while(|id| records.is_ready(id)).count();
            known == records.ids().len()
        };
        if !records.until(Instant::now() + timeout, all).await? {
            return Err(timed_out(&records, timeout));
        }
        Ok(records.ids().iter().filter_map(|id| records.get(id).cloned()).collect())
    }

    /// Follows the whole workflow while it runs: states of its tasks, and how many of them have ended.
    pub fn progress(&self) -> Progress {
        Progress::new(&self.client, &self.tuple)
    }

    /// Revokes the task, or every member of the group: it will not start; if it runs, it is ended by force. What follows
    /// it in a workflow ends as well, as REVOKED or FAILURE.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn revoke(&self) -> Result<(), ClientError> {
        let mut orders: Vec<Revocation> = leaves(&self.tuple).into_iter().map(Revocation::Task).collect();
        if self.is_group() {
            orders.push(Revocation::Group(GroupId::from(self.id())));
        }
        self.client.revoke(&orders).await
    }

    /// Revokes everything that was submitted together: every step and member, wherever the workflow is, and whatever its
    /// tasks have sent.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn revoke_workflow(&self) -> Result<(), ClientError> {
        let mut orders: Vec<Revocation> = roots(&self.tuple).into_iter().map(Revocation::Workflow).collect();
        orders.extend(everything(&self.tuple).into_iter().map(Revocation::Task));
        self.client.revoke(&orders).await
    }

    /// Removes what is stored of the whole tree.
    ///
    /// # Errors
    /// When the backend cannot be reached.
    pub async fn forget(&self) -> Result<(), ClientError> {
        let ids = everything(&self.tuple);
        self.client.patiently("forget results", || self.client.0.backend.forget(&ids)).await
    }

    fn watch(&self) -> Records {
        Records::new(self.client.clone(), leaves(&self.tuple))
    }
}

/// What is decided: `None` while it is not, `Some(None)` when every task has succeeded, else the first in order that has not.
/// `succeeded` counts those at the beginning that are known to have succeeded, which they do for good: with each of thousands of
/// records that come, only what is new is looked at.
fn verdict<'a>(records: &'a Records, succeeded: &mut usize) -> Option<Option<&'a ResultRecord>> {
    for id in records.ids().iter().skip(*succeeded) {
        let record = records.get(id).filter(|record| record.status.is_ready())?;
        if record.status != State::Success {
            return Some(Some(record));
        }
        *succeeded += 1;
    }
    Some(None)
}

fn failure(record: &ResultRecord) -> ResultError {
    let task_id = record.task_id.clone();
    let error = record.error().unwrap_or_else(|| TaskError::new("builtins", "RuntimeError", "the failure cannot be read"));
    if record.status == State::Revoked {
        let reason = error.exc_message.first().and_then(Value::as_str).unwrap_or("revoked").to_owned();
        return ResultError::Revoked { task_id, reason };
    }
    ResultError::Failed { task_id, error }
}

fn timed_out(records: &Records, after: Duration) -> ResultError {
    let open = records.ids().iter().find(|id| !records.is_ready(id)).or(records.ids().first());
    let task_id = open.cloned().unwrap_or_else(|| TaskId::from(""));
    let state = records.get(&task_id).map_or(State::Pending, |record| record.status.clone());
    ResultError::TimedOut { task_id, state, after }
}

/// The values of the tree's leaves, nested as its groups are.
fn join(tuple: &ResultTuple, records: &Records) -> Value {
    match &tuple.children {
        Some(members) => Value::List(members.iter().map(|member| join(member, records)).collect()),
        None => records.get(&TaskId::from(&tuple.id)).map(|record| record.result.clone()).unwrap_or_default(),
    }
}

/// The tasks whose values make the result, in order.
fn leaves(tuple: &ResultTuple) -> Vec<TaskId> {
    match &tuple.children {
        Some(members) => members.iter().flat_map(leaves).collect(),
        None => vec![TaskId::from(&tuple.id)],
    }
}

/// The tasks that begin the workflow: at the upper end of the parents.
fn roots(tuple: &ResultTuple) -> Vec<TaskId> {
    match (&tuple.parent, &tuple.children) {
        (Some(parent), _) => roots(parent),
        (None, Some(members)) => members.iter().flat_map(roots).collect(),
        (None, None) => vec![TaskId::from(&tuple.id)],
    }
}

/// Every task of the tree, those before first.
pub(super) fn everything(tuple: &ResultTuple) -> Vec<TaskId> {
    let mut ids = tuple.parent.as_deref().map(everything).unwrap_or_default();
    match &tuple.children {
        Some(members) => ids.extend(members.iter().flat_map(everything)),
        None => ids.push(TaskId::from(&tuple.id)),
    }
    ids
}
