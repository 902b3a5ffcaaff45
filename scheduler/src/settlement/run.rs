//! One run of one task, and the records it writes.

use umbel_proto::{Invocation, Map, QueueName, ResultRecord, ResultTuple, State, TaskError, TaskId, Timestamp, Value};

use super::{Context, Ending, Settlement};
use crate::{
    ChordPart, Effect, PartResult, Publish, Release, Route,
    canvas::{Sender, emit::Planner},
};

/// A run that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) invocation: &'a Invocation,
    pub(super) context: Context<'a>,
}

impl<'a> Run<'a> {
    pub(super) fn id(&self) -> &'a TaskId {
        &self.invocation.headers.id
    }

    pub(super) fn root(&self) -> &'a TaskId {
        self.invocation.headers.root_id.as_ref().unwrap_or(self.id())
    }

    /// A planner for what this task sends.
    pub(super) fn planner(&self) -> Planner<'a> {
        let mut planner = Planner::new(self.context.settings, self.context.specs, self.context.now);
        let priority = self.invocation.properties.priority;
        planner.sent_by(&Sender { id: self.id(), root: self.root(), priority, headers: &self.invocation.headers.other });
        planner
    }

    /// Whether the result is not wanted: by the call, else by the task.
    pub(super) fn is_ignored(&self) -> bool {
        !self.context.settings.keep_results || self.invocation.headers.ignore_result.unwrap_or(self.context.spec.ignore_result)
    }

    /// Whether an exception is stored.
    pub(super) fn stores_errors(&self) -> bool {
        let keeps = self.context.settings.keep_results;
        keeps && (!self.is_ignored() || self.context.spec.store_errors_even_if_ignored)
    }

    /// The record of this run.
    pub(super) fn store(&self, status: State, result: Value, error: Option<&TaskError>, children: Option<Vec<ResultTuple>>) -> Effect {
        let headers = &self.invocation.headers;
        let ready = status.is_ready();
        Effect::Store(Box::new(ResultRecord {
            task_id: headers.id.clone(),
            status,
            result,
            traceback: error.and_then(|error| error.traceback.clone()),
            children,
            date_done: ready.then(|| Timestamp::from_millis(self.context.now).as_str().to_owned()),
            group_id: headers.group.clone(),
            parent_id: headers.parent_id.clone(),
            extra: self.extended(),
        }))
    }

    /// How this task, as a header member, tells its chord.
    pub(super) fn part(&self, result: PartResult) -> Option<Effect> {
        let headers = &self.invocation.headers;
        let body = self.invocation.embed().chord.as_deref()?;
        let group = headers.group.clone()?;
        Some(Effect::Part(Box::new(ChordPart {
            group,
            index: headers.group_index,
            task_id: headers.id.clone(),
            root_id: Some(self.root().clone()),
            body: body.clone(),
            result,
        })))
    }

    /// Nothing is stored and nobody is told.
    pub(super) fn silent(&self, release: Release, ending: Ending) -> Settlement {
        Settlement { effects: vec![Effect::Release(release)], ending }
    }

    /// The task wants its message back in the queue. A delivery that has begun cannot go back, so the message is sent anew;
    /// Celery would do nothing and leave the client waiting for ever.
    pub(super) fn requeue(&self) -> Settlement {
        let ending = Ending::Rejected { requeued: true, error: None };
        if !self.context.begun {
            return self.silent(Release::Requeue { due: None, crashes: self.context.crashes }, ending);
        }
        let again = Publish { invocation: self.invocation.clone(), route: self.route_back(), due: None };
        Settlement { effects: vec![Effect::Publish(Box::new(again)), Effect::Release(Release::Ack)], ending }
    }

    /// The way a message came.
    pub(super) fn route_back(&self) -> Route {
        route_back(self.invocation, self.context.queue)
    }

    /// What `result_extended` adds (wire contract §4.1), with stamps.
    fn extended(&self) -> Map {
        let mut extra = Map::new();
        if !self.context.settings.result_extended {
            return extra;
        }
        let headers = &self.invocation.headers;
        let (args, kwargs) = self.invocation.arguments().map_or((Value::Null, Value::Null), |(args, kwargs)| (args.into(), kwargs.into()));
        extra.insert("name".to_owned(), headers.task.as_str().into());
        extra.insert("args".to_owned(), args);
        extra.insert("kwargs".to_owned(), kwargs);
        extra.insert("worker".to_owned(), self.context.node.as_str().into());
        extra.insert("retries".to_owned(), headers.retries.into());
        extra.insert("queue".to_owned(), self.context.queue.as_str().into());
        if let Some(names) = &headers.stamped_headers {
            extra.insert("stamped_headers".to_owned(), Value::List(names.iter().map(|name| name.as_str().into()).collect()));
            extra.extend(names.iter().filter_map(|name| Some((name.clone(), headers.stamps.get(name)?.clone()))));
        }
        extra
    }
}

/// The way a message came that was taken from `queue`.
pub fn route_back(invocation: &Invocation, queue: &QueueName) -> Route {
    let (properties, queue) = (&invocation.properties, queue.clone());
    if properties.exchange.is_empty() {
        return Route { routing_key: queue.to_string(), queue, exchange: String::new() };
    }
    Route { queue, exchange: properties.exchange.clone(), routing_key: properties.routing_key.clone() }
}
