//! Which tasks the node has: `active`, `reserved`, `scheduled`, `query_task`.

use std::{collections::BTreeSet, time::Duration};

use ractor::rpc::CallResult;
use tokio::time::sleep;
use umbel_proto::{Body, Invocation, Map, TaskId, Timestamp, Value};
use umbel_scheduler::RunId;

use super::{
    super::{
        held::{HeldTask, Stage},
        supervisor::{Order, SupervisorMsg},
    },
    Desk,
    values::{map, texts, truth},
};
use crate::{brokers::Held, clock};

/// How long actors may take to say what they have.
const PATIENCE: Duration = Duration::from_millis(900);
/// How often, and how many times, it is looked whether what was sent before a question has arrived.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
const LOOKS: usize = 10;
/// The most messages of a queue that are looked through for those that wait for their time.
const SCHEDULED_MAX: usize = 1_000;
/// The most bytes of arguments that are shown as values; what is larger is shown as the text that its sender gave.
const ARGUMENTS_MAX: usize = 16 << 10;

impl Desk {
    /// Every task the node has.
    pub(super) async fn held(&self) -> Vec<HeldTask> {
        match self.supervisor.call(|port| SupervisorMsg::Order(Order::Held(port)), Some(PATIENCE)).await {
            Ok(CallResult::Success(tasks)) => tasks,
            // A node that is being restarted has none that it could name.
            _ => Vec::new(),
        }
    }

    pub(super) async fn active(&self, arguments: &Map) -> Value {
        let safe = truth(arguments.get("safe"));
        let tasks = self.held().await;
        let active = tasks.iter().filter(|task| matches!(task.stage, Stage::Active { .. }));
        Value::List(active.map(|task| self.info(task, safe)).collect())
    }

    pub(super) async fn reserved(&self) -> Value {
        let tasks = self.held().await;
        Value::List(tasks.iter().filter(|task| task.stage == Stage::Reserved).map(|task| self.info(task, false)).collect())
    }

    /// What waits for its time: in the node's hands, and in the durable schedule of the queues that it speaks for.
    pub(super) async fn scheduled(&self) -> Value {
        self.on_its_way().await;
        let here = self.held().await.into_iter().filter(|task| matches!(task.stage, Stage::Scheduled { .. }));
        let mut seen = BTreeSet::new();
        let all: Vec<HeldTask> = here.chain(self.durable().await).collect();
        let once = all.iter().filter(|task| seen.insert(RunId::of(&task.invocation)));
        Value::List(once.map(|task| self.scheduled_info(task)).collect())
    }

    /// Waits a moment for what came before the question: who has just sent a task asks for it, and a message that was taken and is not
    /// in the schedule yet is nowhere to be seen.
    async fn on_its_way(&self) {
        for _ in 0..LOOKS {
            sleep(BETWEEN_LOOKS).await;
            let aggregator = self.node_report().await.and_then(|report| report.aggregator);
            if aggregator.is_none_or(|aggregator| aggregator.waiting + aggregator.in_flight == 0) {
                return;
            }
        }
    }

    fn scheduled_info(&self, task: &HeldTask) -> Value {
        let eta = match (&task.invocation.headers.eta, task.stage) {
            (Some(eta), _) => eta.as_str().to_owned(),
            (None, Stage::Scheduled { due }) => Timestamp::from_millis(due).as_str().to_owned(),
            (None, _) => String::new(),
        };
        map([("eta", eta.into()), ("priority", Value::Int(6)), ("request", self.info(task, false))])
    }

    /// Messages in the durable schedule. Celery's workers keep them in memory, each worker its own; here they belong to the
    /// queue, and the first by name of the nodes that take from it speaks for it, so that they are listed once.
    async fn durable(&self) -> Vec<HeldTask> {
        let shared = &self.shared;
        let nodes = shared.broker.nodes().await.ok().flatten().unwrap_or_default();
        let mut tasks = Vec::new();
        let queues = shared.queues.borrow().clone();
        for queue in queues {
            let speaker = nodes.iter().filter(|node| node.queues.contains(&queue)).map(|node| &node.node).min();
            if speaker.is_some_and(|speaker| *speaker != shared.node) {
                continue;
            }
            let peeked = match shared.broker.peek(&queue, SCHEDULED_MAX).await {
                Ok(peeked) => peeked,
                Err(error) => {
                    tracing::debug!(%queue, "what is scheduled cannot be looked at: {error}");
                    continue;
                }
            };
            for message in peeked {
                let Ok(envelope) = message.envelope else { continue };
                let Ok(invocation) = Invocation::decode(&envelope, umbel_proto::Limits::default()) else { continue };
                // One that nobody has taken yet waits for its time as well.
                let eta = invocation.headers.eta.as_ref().map(Timestamp::millis).filter(|eta| *eta > clock::now());
                let Some(due) = message.due.or(eta) else { continue };
                let held = Held { queue: queue.clone(), tag: "".into(), attempt: message.attempts };
                tasks.push(HeldTask { invocation: invocation.into(), held, acknowledged: false, stage: Stage::Scheduled { due } });
            }
        }
        tasks
    }

    pub(super) async fn query_task(&self, arguments: &Map) -> Value {
        let ids: BTreeSet<String> = texts(arguments.get("ids")).into_iter().collect();
        let mut found = Map::new();
        let tasks = self.held().await;
        let missing = ids.iter().any(|id| tasks.iter().all(|task| task.invocation.headers.id.as_str() != id));
        let durable = if missing { self.durable().await } else { Vec::new() };
        for task in tasks.iter().chain(&durable) {
            let id = task.invocation.headers.id.as_str();
            if ids.contains(id) {
                let state = match task.stage {
                    Stage::Active { .. } => "active",
                    Stage::Reserved => "reserved",
                    Stage::Scheduled { .. } => "scheduled",
                };
                found.entry(id.to_owned()).or_insert_with(|| Value::List(vec![state.into(), self.info(task, false)]));
            }
        }
        self.add_stored(&ids, &mut found).await;
        Value::Map(found)
    }

    /// What is stored of tasks that no node has any more, told by the first node by name: Celery's workers know of a task only
    /// while they have it, and people ask for one to see how it ended.
    async fn add_stored(&self, ids: &BTreeSet<String>, found: &mut Map) {
        let missing: Vec<TaskId> = ids.iter().filter(|id| !found.contains_key(*id)).map(TaskId::from).collect();
        let nodes = self.shared.broker.nodes().await.ok().flatten().unwrap_or_default();
        let speaks = nodes.iter().map(|node| &node.node).min().is_none_or(|first| *first == self.shared.node);
        if missing.is_empty() || !speaks {
            return;
        }
        let stored = match self.shared.backend.get(&missing).await {
            Ok(stored) => stored,
            Err(error) => return tracing::debug!("results cannot be looked at: {error}"),
        };
        for record in stored.into_iter().flatten() {
            let done = record.date_done.as_deref().map_or(Value::Null, Value::from);
            let info = map([
                ("id", record.task_id.as_str().into()),
                ("state", record.status.as_str().into()),
                ("result", umbel_proto::repr::repr(&record.result).into()),
                ("date_done", done),
            ]);
            found.insert(record.task_id.to_string(), Value::List(vec!["ready".into(), info]));
        }
    }

    /// A task as Celery's `Request.info` has it.
    fn info(&self, task: &HeldTask, safe: bool) -> Value {
        let headers = &task.invocation.headers;
        let (args, kwargs) = arguments(&task.invocation, safe);
        let (time_start, worker_pid) = match task.stage {
            Stage::Active { since, process } => (Value::Float(since as f64 / 1e3), process.map_or(Value::Null, Value::from)),
            _ => (Value::Null, Value::Null),
        };
        let properties = &task.invocation.properties;
        let delivery_info = map([
            ("exchange", properties.exchange.as_str().into()),
            ("routing_key", properties.routing_key.as_str().into()),
            ("priority", Value::Int(properties.priority.unwrap_or(0).into())),
            ("redelivered", Value::Bool(properties.redelivered || task.held.attempt > 1)),
        ]);
        map([
            ("id", headers.id.as_str().into()),
            ("name", headers.task.as_str().into()),
            ("args", args),
            ("kwargs", kwargs),
            ("type", headers.task.as_str().into()),
            ("hostname", self.shared.node.as_str().into()),
            ("time_start", time_start),
            ("acknowledged", Value::Bool(task.acknowledged)),
            ("delivery_info", delivery_info),
            ("worker_pid", worker_pid),
        ])
    }
}

/// The arguments of a task as values, or (`safe`, or where they are too large or cannot be read) as the texts that its sender
/// gave.
fn arguments(invocation: &Invocation, safe: bool) -> (Value, Value) {
    let headers = &invocation.headers;
    let size = match &invocation.body {
        Body::Parts { args, kwargs, .. } => args.bytes.len() + kwargs.bytes.len(),
        Body::Opaque { .. } => usize::MAX,
    };
    let texts = || {
        let text = |given: &Option<String>, without: &str| Value::from(given.clone().unwrap_or_else(|| without.to_owned()));
        (text(&headers.argsrepr, "()"), text(&headers.kwargsrepr, "{}"))
    };
    match invocation.arguments() {
        Ok((args, kwargs)) if !safe && size <= ARGUMENTS_MAX => (Value::List(args), Value::Map(kwargs)),
        Ok((args, kwargs)) if safe && headers.argsrepr.is_none() && size <= ARGUMENTS_MAX => {
            let tuple = umbel_proto::repr::repr(&Value::List(args));
            let inner = tuple.trim_start_matches('[').trim_end_matches(']');
            (format!("({inner})").into(), umbel_proto::repr::repr(&Value::Map(kwargs)).into())
        }
        _ => texts(),
    }
}
