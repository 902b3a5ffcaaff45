//! The message of a tick.

use umbel_proto::{Map, QueueName, Signature, Value};

use super::{Entry, Tick};
use crate::{
    Effect, Publish, Settings,
    canvas::{CanvasError, Launch, Specs, launch},
};

/// What the messages of ticks depend on.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// What is known of tasks; only for their queues.
    pub specs: &'a dyn Specs,
    /// Where entries go that name no queue; `None` leaves it to the routes.
    pub queue: Option<&'a QueueName>,
}

impl Sending<'_> {
    /// The message of a tick, under the tick's own id.
    ///
    /// # Errors
    /// When the entry's arguments or options have no form on the wire. It will be the same with the next tick.
    pub fn message(&self, tick: &Tick, now: umbel_proto::Millis) -> Result<Option<Publish>, CanvasError> {
        let id = tick.id();
        let signature = signature(&tick.entry, self.queue).set("task_id", id.as_str());
        let none = Map::new();
        let given = Launch { settings: self.settings, specs: self.specs, args: &[], kwargs: &none, sender: None, seed: id.as_str(), now };
        let effects = launch(&signature, given)?.effects;
        Ok(effects.into_iter().find_map(|effect| match effect {
            Effect::Publish(publish) => Some(*publish),
            _ => None,
        }))
    }
}

/// The call that an entry stands for, marked as one of beat's: with Celery 5.7's header, and django-celery-beat's for its own.
pub fn signature(entry: &Entry, queue: Option<&QueueName>) -> Signature {
    let mut options = entry.options.clone();
    let is_addressed = ["queue", "exchange", "routing_key"].iter().any(|name| options.get(*name).is_some_and(|value| !value.is_null()));
    if let Some(queue) = queue
        && !is_addressed
    {
        options.insert("queue".to_owned(), Value::from(queue.as_str()));
    }
    let mut headers = match options.shift_remove("headers") {
        Some(Value::Map(headers)) => headers,
        _ => Map::new(),
    };
    headers.insert("celery_beat_task".to_owned(), Value::Bool(true));
    headers.entry("periodic_task_name".to_owned()).or_insert_with(|| Value::from(entry.name.as_str()));
    options.insert("headers".to_owned(), Value::Map(headers));
    let mut signature = Signature::new(entry.task.as_str());
    signature.args.clone_from(&entry.args);
    signature.kwargs.clone_from(&entry.kwargs);
    signature.options = umbel_proto::Options(options);
    signature
}
