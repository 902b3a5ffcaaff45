//! What a task says of its next attempt beyond when it comes: options of `apply_async`, on a message that exists already.

use umbel_proto::{Body, Invocation, Millis, Options, Value};

use crate::{
    Route,
    canvas::{
        CanvasError,
        message::{expires, seconds, text, user_headers},
    },
};

/// Changes `invocation` and its `route` as `options` say; what they do not name stays (`celery/app/task.py::retry`, whose options
/// are merged over those of the request). A serializer is not changed: the arguments stay as they were sent.
///
/// # Errors
/// When an option is not of its form.
pub(super) fn apply(options: &Options, invocation: &mut Invocation, route: &mut Route, now: Millis) -> Result<(), CanvasError> {
    if options.0.is_empty() {
        return Ok(());
    }
    reroute(options, route);
    let headers = &mut invocation.headers;
    if options.get("expires").is_some() {
        headers.expires = expires(options, now)?;
    }
    headers.timelimit.hard_secs = seconds(options, "time_limit").or(headers.timelimit.hard_secs);
    headers.timelimit.soft_secs = seconds(options, "soft_time_limit").or(headers.timelimit.soft_secs);
    headers.shadow = text(options, "shadow").or(headers.shadow.take());
    headers.ignore_result = options.get("ignore_result").and_then(Value::as_bool).or(headers.ignore_result);
    headers.other.extend(user_headers(options));
    if let Some(priority) = options.get("priority").and_then(Value::as_i64) {
        invocation.properties.priority = Some(priority.clamp(0, 255) as u8);
    }
    if let Body::Parts { embed, .. } = &mut invocation.body {
        if options.get("link").is_some() {
            embed.callbacks = options.link()?;
        }
        if options.get("link_error").is_some() {
            embed.errbacks = options.link_error()?;
        }
    }
    Ok(())
}

fn reroute(options: &Options, route: &mut Route) {
    if let Some(queue) = options.queue() {
        *route = Route { routing_key: queue.to_string(), queue, exchange: String::new() };
    }
    if let Some(exchange) = text(options, "exchange") {
        route.exchange = exchange;
    }
    if let Some(key) = text(options, "routing_key") {
        if route.exchange.is_empty() {
            route.queue = key.as_str().into();
        }
        route.routing_key = key;
    }
}
