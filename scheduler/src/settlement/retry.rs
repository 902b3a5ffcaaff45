//! Another attempt: the same id, arguments, callbacks, chain and chord (rule 11).

use umbel_proto::{Body, EncodeError, Invocation, Map, Millis, Raw, Retry, State, TaskError, Timestamp, Value, repr};

use super::{CanvasError, Ending, Settlement, canvas_error, options, run::Run};
use crate::{Effect, Publish, Release, retry};

impl Run<'_> {
    /// Sends the next attempt and stores RETRY, or fails where none is left.
    pub(super) fn again(&self, ask: Retry) -> Settlement {
        let context = &self.context;
        let due = match retry::again(&ask, self.invocation.headers.retries, context.spec, context.now, context.dice) {
            retry::Again::At(due) => due,
            retry::Again::Exhausted => return self.fail(ask.error.unwrap_or_else(|| self.exhausted())),
        };
        let next = match self.next_attempt(&ask, due) {
            Ok(next) => next,
            Err(error) => return self.fail(canvas_error(&error)),
        };
        let mut effects = vec![Effect::Publish(Box::new(next))];
        if self.stores_errors() {
            let result = ask.error.as_ref().map_or(Value::Null, TaskError::to_value);
            effects.push(self.store(State::Retry, result, ask.error.as_ref(), Some(Vec::new())));
        }
        effects.push(Effect::Release(Release::Ack));
        Settlement { effects, ending: Ending::Retried { error: ask.error, due } }
    }

    /// The message of the next attempt: this one's, byte for byte where the task does not say otherwise, the caller's wish to
    /// ignore the result included (P13).
    fn next_attempt(&self, ask: &Retry, due: Millis) -> Result<Publish, CanvasError> {
        let mut invocation = self.invocation.clone();
        let headers = &mut invocation.headers;
        headers.retries = headers.retries.saturating_add(1);
        // As `celery/app/base.py::send_task` has it, of a message that is sent while its own task runs.
        headers.parent_id.get_or_insert_with(|| headers.id.clone());
        // A countdown of zero is none for Celery either.
        headers.eta = (due > self.context.now).then(|| Timestamp::from_millis(due));
        if let Some(args) = &ask.args {
            headers.argsrepr = Some(repr::args_repr(args));
        }
        if let Some(kwargs) = &ask.kwargs {
            headers.kwargsrepr = Some(repr::kwargs_repr(kwargs));
        }
        override_arguments(&mut invocation, self.context.spec.own_types, ask.args.as_deref(), ask.kwargs.as_ref())?;
        let mut route = self.route_back();
        options::apply(&ask.options, &mut invocation, &mut route, self.context.now)?;
        let properties = &mut invocation.properties;
        properties.redelivered = false;
        properties.exchange.clone_from(&route.exchange);
        properties.routing_key.clone_from(&route.routing_key);
        Ok(Publish { invocation, route, due: Some(due) })
    }

    /// What `Task.retry()` without an exception ends in.
    fn exhausted(&self) -> TaskError {
        let headers = &self.invocation.headers;
        let (args, kwargs) = match self.invocation.arguments() {
            Ok((args, kwargs)) => (repr::args_repr(&args), repr::kwargs_repr(&kwargs)),
            Err(_) => (headers.argsrepr.clone().unwrap_or_default(), headers.kwargsrepr.clone().unwrap_or_default()),
        };
        let message = format!("Can't retry {}[{}] args:{args} kwargs:{kwargs}", headers.task, headers.id);
        TaskError::new("celery.exceptions", "MaxRetriesExceededError", message)
    }
}

fn override_arguments(
    invocation: &mut Invocation,
    own_types: bool,
    new_args: Option<&[Value]>,
    new_kwargs: Option<&Map>,
) -> Result<(), EncodeError> {
    match &mut invocation.body {
        Body::Parts { args, kwargs, .. } => {
            if let Some(new) = new_args {
                *args = raw(args, own_types, &Value::List(new.to_vec()))?;
            }
            if let Some(new) = new_kwargs {
                *kwargs = raw(kwargs, own_types, &Value::Map(new.clone()))?;
            }
            Ok(())
        }
        Body::Opaque { .. } if new_args.is_none() && new_kwargs.is_none() => Ok(()),
        Body::Opaque { .. } => {
            Err(EncodeError::new("the arguments of the next attempt", "the message's serializer is not one Umbel writes"))
        }
    }
}

fn raw(old: &Raw, own_types: bool, value: &Value) -> Result<Raw, EncodeError> {
    let serializer = old.serializer;
    let bytes = if own_types { serializer.encode_as_is(value)? } else { serializer.encode(value)? };
    Ok(Raw { serializer, bytes })
}
