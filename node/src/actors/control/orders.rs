//! What changes how the node works: limits of tasks, queues, the size of its pools, events, its end.

use umbel_proto::{Map, QueueName, TaskName, Value, control::Request, repr};
use umbel_scheduler::{
    autoscale::Bounds,
    rate_limit::Rate,
    tuning::{Limits, Tuning},
};

use super::{
    super::{
        cast,
        supervisor::{Order, SupervisorMsg},
    },
    Desk,
    values::{error, error_repr, map, ok},
};
use crate::telling::Call;

/// The most queues a node takes from.
const QUEUES_MAX: usize = 1_000;

impl Desk {
    pub(super) async fn rate_limit(&self, request: &Request) -> Value {
        let text = match request.arguments.get("rate_limit") {
            None | Some(Value::Null) => String::new(),
            Some(Value::Str(text)) => text.clone(),
            Some(number) => repr::repr(number),
        };
        let rate = match Rate::parse(&text) {
            Ok(rate) => rate,
            Err(_) => {
                let problem = match text.split_once('/') {
                    // Celery looks the unit up first.
                    Some((_, unit)) if !matches!(unit, "s" | "m" | "h" | "") => return error(format!("KeyError({})", quoted(unit))),
                    Some((count, _)) => count.to_owned(),
                    None => text,
                };
                let problem = format!("could not convert string to float: {}", quoted(&problem));
                return error(format!("Invalid rate limit string: ValueError({})", quoted(&problem)));
            }
        };
        let tuning = Tuning { rate_limit: Some(text), time_limit: None };
        match self.tune(request, tuning).await {
            Err(refused) => refused,
            Ok(()) if rate.is_none() => ok("rate limit disabled successfully"),
            Ok(()) => ok("new rate limit set successfully"),
        }
    }

    pub(super) async fn time_limit(&self, request: &Request) -> Value {
        let secs = |name: &str| request.arguments.get(name).and_then(Value::as_f64).filter(|secs| *secs > 0.0);
        let limits = Limits { soft: secs("soft"), hard: secs("hard") };
        let tuning = Tuning { rate_limit: None, time_limit: Some(limits) };
        match self.tune(request, tuning).await {
            Err(refused) => refused,
            Ok(()) => ok("time limits set successfully"),
        }
    }

    /// Changes a task: for everybody and durably, unless the command is for some nodes only.
    async fn tune(&self, request: &Request, tuning: Tuning) -> Result<(), Value> {
        let name = request.arguments.get("task_name").and_then(Value::as_str).unwrap_or_default();
        let task = TaskName::from(name);
        if self.shared.registry.find(&task).is_none() {
            tracing::error!(task = name, "limits cannot be changed: nobody here knows the task");
            return Err(error("unknown task"));
        }
        let for_all = request.destination.as_ref().is_none_or(Vec::is_empty) && request.pattern.is_none();
        if for_all && let Err(problem) = self.shared.broker.tune(&task, &tuning).await {
            return Err(error_repr("OperationalError", &problem.to_string()));
        }
        tracing::info!(task = name, for_all, ?tuning, "limits changed by remote control");
        self.shared.registry.tune(&task, tuning);
        Ok(())
    }

    pub(super) fn add_consumer(&self, arguments: &Map) -> Value {
        let Some(queue) = arguments.get("queue").and_then(Value::as_str).filter(|queue| !queue.is_empty()) else {
            return error_repr("TypeError", "queue must be a name");
        };
        let added = self.shared.queues.send_if_modified(|queues| {
            let new = queues.len() < QUEUES_MAX && !queues.iter().any(|known| known.as_str() == queue);
            if new {
                queues.push(QueueName::from(queue));
            }
            new
        });
        tracing::info!(queue, added, "told by remote control to take from a queue");
        ok(format!("add consumer {queue}"))
    }

    pub(super) fn cancel_consumer(&self, arguments: &Map) -> Value {
        let queue = arguments.get("queue").and_then(Value::as_str).unwrap_or_default();
        let left = self.shared.queues.send_if_modified(|queues| {
            let before = queues.len();
            queues.retain(|known| known.as_str() != queue);
            queues.len() < before
        });
        tracing::info!(queue, left, "told by remote control to take no more from a queue");
        ok(format!("no longer consuming from {queue}"))
    }

    pub(super) fn resize(&self, arguments: &Map, sign: i64) -> Value {
        let by = match number(arguments, "n") {
            Ok(by) => by.unwrap_or(1),
            Err(refused) => return refused,
        };
        if self.shared.autoscale.borrow().is_some() {
            let name = if sign > 0 { "pool_grow" } else { "pool_shrink" };
            return error(format!("{name} is not supported with autoscale. Adjust autoscale range instead."));
        }
        cast(&self.supervisor, SupervisorMsg::Order(Order::Resize { by: sign * by.clamp(-10_000, 10_000) }));
        ok(if sign > 0 { "pool will grow" } else { "pool will shrink" })
    }

    pub(super) fn autoscale(&self, arguments: &Map) -> Value {
        let Some(now) = *self.shared.autoscale.borrow() else { return error_repr("ValueError", "Autoscale not enabled") };
        let slots = |name: &str, now: usize| match number(arguments, name) {
            Ok(Some(slots)) => Ok(usize::try_from(slots).unwrap_or(0)),
            Ok(None) => Ok(now),
            Err(refused) => Err(refused),
        };
        let (max, min) = match (slots("max", now.max), slots("min", now.min)) {
            (Ok(max), Ok(min)) => (max, min),
            (Err(refused), _) | (_, Err(refused)) => return refused,
        };
        let bounds = match Bounds::new(max, min) {
            Ok(bounds) => bounds,
            Err(problem) => return error_repr("ValueError", &problem.to_string()),
        };
        self.shared.autoscale.send_replace(Some(bounds));
        cast(&self.supervisor, SupervisorMsg::Order(Order::Scale));
        ok(format!("autoscale now {bounds}"))
    }

    pub(super) fn pool_restart(&self) -> Value {
        cast(&self.supervisor, SupervisorMsg::Order(Order::Renew));
        ok("reload started")
    }

    pub(super) fn enable_events(&self) -> Value {
        let changed = self.shared.telling.tasks.send_if_modified(|on| !std::mem::replace(on, true));
        ok(if changed { "task events enabled" } else { "task events already enabled" })
    }

    pub(super) fn disable_events(&self) -> Value {
        let changed = self.shared.telling.tasks.send_if_modified(|on| std::mem::replace(on, false));
        ok(if changed { "task events disabled" } else { "task events already disabled" })
    }

    pub(super) fn heartbeat(&self) -> Value {
        self.shared.telling.beats.send_modify(|beats| *beats += 1);
        Value::Null
    }

    pub(super) fn election(&self, arguments: &Map) -> Value {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let call = Call { id: text("id"), topic: text("topic"), action: arguments.get("action").cloned().unwrap_or_default() };
        if self.shared.telling.calls.try_send(call).is_err() {
            tracing::warn!("too many elections at once; one is not held here");
        }
        Value::Null
    }

    pub(super) fn shutdown(&self) {
        tracing::warn!("Got shutdown from remote");
        cast(&self.supervisor, SupervisorMsg::Shutdown { grace: self.shared.telling.description.drain });
    }

    pub(super) fn active_queues(&self) -> Value {
        let queues = self.shared.queues.borrow().clone();
        Value::List(queues.iter().map(|queue| described(queue.as_str())).collect())
    }
}

/// A number among the arguments.
fn number(arguments: &Map, name: &str) -> Result<Option<i64>, Value> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Int(number)) => Ok(Some(*number)),
        // Flower's forms send texts.
        Some(Value::Str(text)) if text.parse::<i64>().is_ok() => Ok(text.parse().ok()),
        Some(other) => Err(error_repr("TypeError", &format!("{name} must be a number, is {}", other.kind()))),
    }
}

fn quoted(text: &str) -> String {
    repr::repr(&text.into())
}

/// A queue as kombu's `Queue.as_dict` has it.
fn described(name: &str) -> Value {
    let exchange = map([
        ("name", name.into()),
        ("type", "direct".into()),
        ("arguments", Value::Null),
        ("durable", true.into()),
        ("passive", false.into()),
        ("auto_delete", false.into()),
        ("delivery_mode", Value::Null),
        ("no_declare", false.into()),
    ]);
    map([
        ("name", name.into()),
        ("exchange", exchange),
        ("routing_key", name.into()),
        ("queue_arguments", Value::Null),
        ("binding_arguments", Value::Null),
        ("consumer_arguments", Value::Null),
        ("durable", true.into()),
        ("exclusive", false.into()),
        ("auto_delete", false.into()),
        ("no_ack", false.into()),
        ("alias", Value::Null),
        ("bindings", Value::List(Vec::new())),
        ("no_declare", Value::Null),
        ("expires", Value::Null),
        ("message_ttl", Value::Null),
        ("max_length", Value::Null),
        ("max_length_bytes", Value::Null),
        ("max_priority", Value::Null),
    ])
}
