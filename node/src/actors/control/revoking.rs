//! Revoking: `revoke`, `terminate`, `revoke_by_stamped_headers`, and what is told of it (`revoked`, `hello`).
//!
//! An order not to start something is durable and reaches every node by the broker, also those that start later; Celery's
//! workers hear it by the broadcast that this came with. To end what runs is done here and now, by the signal that was asked
//! for, and durably as well where the command says so by ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ractor::rpc::CallResult;
use tokio::time::timeout;
use umbel_proto::{Map, ResultRecord, State, TaskError, TaskId, Timestamp, Value, repr};
use umbel_scheduler::{
    control::{set_repr, signal},
    revocation::Revocation,
};

use super::{
    super::{
        held::{Stage, Which},
        supervisor::{Order, SupervisorMsg},
    },
    Desk,
    values::{error_repr, map, ok, texts, truth},
};
use crate::{brokers::BrokerError, clock};

/// The signal that ends what runs unless another is named.
const SIGTERM: i32 = 15;
/// How long actors may take to say what they end.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long orders may take to come back.
const HEARD: Duration = Duration::from_millis(500);
/// The most ids of one command.
const IDS_MAX: usize = 50_000;

impl Desk {
    pub(super) async fn revoke(&self, arguments: &Map, terminate: bool) -> Value {
        let ids: BTreeSet<String> = texts(arguments.get("task_id")).into_iter().take(IDS_MAX).collect();
        let terminate = terminate || truth(arguments.get("terminate"));
        let signal = match signal_of(arguments) {
            Ok(signal) => signal,
            Err(refused) => return refused,
        };
        let ended = if terminate { self.end(Which::Ids(ids.clone()), signal).await } else { Vec::new() };
        let order = |id: &String| {
            let id = TaskId::from(id);
            if terminate { Revocation::Task(id) } else { Revocation::Start(id) }
        };
        let orders: Vec<Revocation> = ids.iter().map(order).collect();
        if let Err(error) = self.order(&orders).await {
            tracing::warn!("what was revoked could not be made durable: {error}");
            return error_repr("OperationalError", &error.to_string());
        }
        self.mark_revoked(&ids, &ended).await;
        tracing::info!(count = ids.len(), terminate, "tasks flagged as revoked by remote control");
        if !terminate {
            return ok(format!("tasks {} flagged as revoked", set_repr(&ids)));
        }
        let ended: Vec<&str> = ended.iter().map(TaskId::as_str).collect();
        match ended.as_slice() {
            [] => ok("terminate: tasks unknown"),
            ended => ok(format!("terminate: {}", ended.join(", "))),
        }
    }

    /// Gives orders, and waits a moment until this node has heard them itself: who asks next shall be told of them.
    async fn order(&self, orders: &[Revocation]) -> Result<(), BrokerError> {
        let mut heard = self.shared.broker.revoked();
        self.shared.broker.revoke(orders).await?;
        let last = orders.last();
        let known = heard.wait_for(|revoked| last.is_none_or(|last| revoked.has(last)));
        if timeout(HEARD, known).await.is_err() {
            tracing::debug!("orders that were given have not been heard of yet");
        }
        Ok(())
    }

    /// Ends what the node has of some tasks, and says which those were.
    async fn end(&self, which: Which, signal: i32) -> Vec<TaskId> {
        let order = |port| SupervisorMsg::Order(Order::Terminate { which, signal, port });
        match self.supervisor.call(order, Some(PATIENCE)).await {
            Ok(CallResult::Success(ended)) => ended,
            _ => Vec::new(),
        }
    }

    /// Writes REVOKED for those of which nothing has come yet, so that whoever waits for them need not wait until their
    /// messages are taken (`celery/worker/control.py::_revoke`, as of 5.7: what runs or has ended is left alone). Where an application
    /// stores all ends itself they wait, as with 5.6.
    async fn mark_revoked(&self, ids: &BTreeSet<String>, ended: &[TaskId]) {
        if self.shared.registry.ends_everything() {
            return;
        }
        let active: BTreeSet<TaskId> = {
            let held = self.held().await;
            let running = held.iter().filter(|task| matches!(task.stage, Stage::Active { .. }));
            running.map(|task| task.invocation.headers.id.clone()).chain(ended.iter().cloned()).collect()
        };
        let ids: Vec<TaskId> = ids.iter().map(TaskId::from).filter(|id| !active.contains(id)).collect();
        let backend = &self.shared.backend;
        let stored = match backend.get(&ids).await {
            Ok(stored) => stored,
            Err(error) => return tracing::warn!("the results of revoked tasks cannot be looked at: {error}"),
        };
        let open = |record: &Option<ResultRecord>| match record {
            None => true,
            Some(record) => matches!(record.status.as_str(), "PENDING" | "RECEIVED" | "RETRY" | "REJECTED"),
        };
        let records: Vec<ResultRecord> =
            ids.into_iter().zip(stored).filter(|(_, record)| open(record)).map(|(id, _)| revoked(id)).collect();
        for stored in backend.store(records).await {
            if let Err(error) = stored {
                tracing::warn!("a revoked task could not be recorded as such: {error}");
            }
        }
    }

    pub(super) async fn revoke_by_stamped_headers(&self, arguments: &Map) -> Value {
        let signal = match signal_of(arguments) {
            Ok(signal) => signal,
            Err(refused) => return refused,
        };
        let Some(headers) = stamps(arguments.get("headers")) else {
            return error_repr("TypeError", "headers must be a dictionary, or a list of texts like 'name=value'");
        };
        let shown = repr::repr(&Value::Map(headers.clone()));
        let wanted: BTreeMap<String, Vec<String>> = headers.iter().map(|(name, value)| (name.clone(), texts(Some(value)))).collect();
        let order = |(name, values): (&String, &Vec<String>)| -> Vec<Revocation> {
            values.iter().take(IDS_MAX).map(|value| Revocation::Stamp { name: name.clone(), value: value.clone() }).collect()
        };
        let orders: Vec<Revocation> = wanted.iter().flat_map(order).collect();
        if let Err(error) = self.order(&orders).await {
            return error_repr("OperationalError", &error.to_string());
        }
        tracing::info!(headers = ?wanted.keys().collect::<Vec<_>>(), "stamps flagged as revoked by remote control");
        if !truth(arguments.get("terminate")) {
            return ok(format!("headers {shown} flagged as revoked, but not terminated"));
        }
        let which = Which::Stamps(wanted);
        let mut matched: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for task in self.held().await.iter().filter(|task| matches!(task.stage, Stage::Active { .. })) {
            for (name, values) in which.matching(&task.invocation) {
                matched.entry(name).or_default().extend(values);
            }
        }
        if self.end(which, signal).await.is_empty() || matched.is_empty() {
            return ok(format!("headers {shown} were not terminated"));
        }
        let name = |name: &String| repr::repr(&name.as_str().into());
        let matched: Vec<String> = matched.iter().map(|(key, values)| format!("{}: {}", name(key), set_repr(values))).collect();
        // The words of a Python `defaultdict`, which is what Celery prints here.
        ok(format!("headers defaultdict(<class 'set'>, {{{}}}) revoked", matched.join(", ")))
    }

    /// The ids of tasks that are revoked, oldest first.
    fn revoked_ids(&self) -> Vec<Value> {
        let revoked = self.shared.broker.revoked().borrow().clone();
        let mut ids: Vec<_> = revoked
            .iter()
            .filter_map(|(order, at)| match order {
                Revocation::Task(id) | Revocation::Start(id) => Some((at, id.clone())),
                _ => None,
            })
            .collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id.as_str().into()).collect()
    }

    pub(super) fn revoked(&self) -> Value {
        Value::List(self.revoked_ids())
    }

    /// What a worker that starts wants to know (Celery's mingle); null for oneself.
    pub(super) async fn hello(&self, arguments: &Map) -> Value {
        if arguments.get("from_node").and_then(Value::as_str) == Some(self.shared.node.as_str()) {
            return Value::Null;
        }
        // 5.6 sends a map by id, 5.7 a list.
        let theirs: Vec<String> = match arguments.get("revoked") {
            Some(Value::Map(map)) => map.keys().cloned().collect(),
            other => texts(other),
        };
        let known: BTreeSet<String> = self.revoked_ids().iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        let new = theirs.into_iter().filter(|id| !known.contains(id)).take(IDS_MAX);
        let orders: Vec<Revocation> = new.map(|id| Revocation::Start(TaskId::from(id))).collect();
        if let Err(error) = self.order(&orders).await {
            tracing::warn!("what another worker knows to be revoked could not be taken over: {error}");
        }
        map([("revoked", Value::List(self.revoked_ids())), ("clock", self.shared.telling.clock.forward().into())])
    }
}

fn signal_of(arguments: &Map) -> Result<i32, Value> {
    let text = match arguments.get("signal") {
        None | Some(Value::Null) => return Ok(SIGTERM),
        Some(Value::Str(text)) if text.is_empty() => return Ok(SIGTERM),
        Some(Value::Str(text)) => text.clone(),
        Some(other) => repr::repr(other),
    };
    // `celery/platforms.py::Signals.signum`.
    signal(&text).ok_or_else(|| error_repr("AttributeError", &format!("module 'signal' has no attribute '{}'", text.to_ascii_uppercase())))
}

/// Headers by name: a map, or a list of `name=value` as the command line gives them.
fn stamps(value: Option<&Value>) -> Option<Map> {
    match value? {
        Value::Map(map) => Some(map.clone()),
        Value::List(pairs) => {
            let pair = |pair: &Value| pair.as_str()?.split_once('=').map(|(name, value)| (name.to_owned(), Value::from(value)));
            pairs.iter().map(pair).collect()
        }
        _ => None,
    }
}

/// The record of a task that was revoked before it began.
fn revoked(id: TaskId) -> ResultRecord {
    let error = TaskError::new("celery.exceptions", "TaskRevokedError", "revoked");
    ResultRecord {
        task_id: id,
        status: State::Revoked,
        result: error.to_value(),
        traceback: None,
        children: None,
        date_done: Some(Timestamp::from_millis(clock::now()).as_str().to_owned()),
        group_id: None,
        parent_id: None,
        extra: Map::new(),
    }
}
