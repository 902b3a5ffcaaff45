//! A signature into a message: what each option of `apply_async` means on the wire (wire contract §1.1–1.3, §5.1).

use umbel_proto::{
    Body, Chain, DecodeError, Embed, EncodeError, Invocation, Map, Millis, Options, Raw, Signature, SubtaskType, TaskName, TimeLimit,
    Timestamp, Value, codec::Serializer, repr,
};

use super::{CanvasError, emit::Planner};
use crate::{Publish, TaskSpec, retry::millis, routing};

/// Headers of Celery's own, which user headers cannot be named after.
const RESERVED: [&str; 21] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
    "redelivered",
];

/// Headers by which a trace goes on from task to task: Sentry's and those of W3C, which OpenTelemetry writes. Under Celery their
/// integrations write them wherever a worker sends a task.
const TRACE: [&str; 4] = ["sentry-trace", "baggage", "traceparent", "tracestate"];

/// How deep lists and maps may nest in what follows a task. A reader refuses a message beyond its own limit
/// ([`umbel_proto::Limits`]), and its workflow would hang; the margin is for what a message is wrapped in.
const MAX_DEPTH: usize = 480;

/// Refuses a workflow that is nested too deep to be read again.
pub(super) fn check_depth(parts: &Map) -> Result<(), EncodeError> {
    if parts.values().any(|value| is_deeper(value, MAX_DEPTH)) {
        let reason = format!("its signatures are nested in each other more than {MAX_DEPTH} lists and maps deep");
        return Err(EncodeError::new("the workflow", reason));
    }
    Ok(())
}

fn is_deeper(value: &Value, left: usize) -> bool {
    match value {
        Value::List(list) => left == 0 || list.iter().any(|value| is_deeper(value, left - 1)),
        Value::Map(map) => left == 0 || map.values().any(|value| is_deeper(value, left - 1)),
        _ => false,
    }
}

/// The message for `task`, whose `task_id` is given, and where it goes.
///
/// `rest` follows it; if there is any, the task's own options name none.
pub(super) fn publish(task: Signature, rest: Chain, planner: &Planner<'_>) -> Result<Publish, CanvasError> {
    let id = task.options.task_id().ok_or_else(|| DecodeError::new("options.task_id", "missing"))?;
    let options = &task.options;
    check_depth(&options.0)?;
    let mut invocation = Invocation::new(task.task.clone(), id.clone(), &task.args, &task.kwargs)?;
    if let Some(serializer) = options.get("serializer").and_then(Value::as_str).and_then(Serializer::by_name) {
        reserialize(&mut invocation, &task, serializer)?;
    }
    if let Body::Parts { embed, .. } = &mut invocation.body {
        *embed = Embed {
            callbacks: options.link()?,
            errbacks: options.link_error()?,
            chain: if rest.is_empty() { options.chain()?.into() } else { rest },
            chord: options.chord()?.map(Box::new),
            other: Map::new(),
        };
    }
    let headers = &mut invocation.headers;
    headers.shadow = text(options, "shadow");
    headers.eta = eta(options, planner.now)?;
    let routed = routed_name(&task);
    let spec = planner.specs.spec(&routed);
    headers.expires = match spec.and_then(|spec| spec.expires_secs) {
        Some(secs) if options.get("expires").is_none() => Some(Timestamp::from_millis(planner.now.saturating_add(millis(secs)))),
        _ => expires(options, planner.now)?,
    };
    headers.group = options.group_id();
    headers.group_index = options.group_index();
    headers.retries = number(options, "retries").unwrap_or(0);
    headers.timelimit = TimeLimit { hard_secs: seconds(options, "time_limit"), soft_secs: seconds(options, "soft_time_limit") };
    headers.root_id = Some(planner.root.clone().or_else(|| text(options, "root_id").map(Into::into)).unwrap_or(id));
    headers.parent_id = planner.parent.clone().or_else(|| text(options, "parent_id").map(Into::into));
    headers.argsrepr = Some(text(options, "argsrepr").unwrap_or_else(|| repr::args_repr(&task.args)));
    headers.kwargsrepr = Some(text(options, "kwargsrepr").unwrap_or_else(|| repr::kwargs_repr(&task.kwargs)));
    headers.ignore_result = options.get("ignore_result").and_then(Value::as_bool);
    headers.replaced_task_nesting = number(options, "replaced_task_nesting").unwrap_or(0);
    (headers.stamped_headers, headers.stamps) = stamps(options);
    headers.other = user_headers(options);
    for (name, value) in &planner.trace {
        headers.other.entry(name.clone()).or_insert_with(|| value.clone());
    }

    let route = routing::route(&routed, options, spec, planner.settings);
    let due = headers.eta.as_ref().map(Timestamp::millis);
    let properties = &mut invocation.properties;
    properties.reply_to = text(options, "reply_to");
    properties.exchange.clone_from(&route.exchange);
    properties.routing_key.clone_from(&route.routing_key);
    properties.priority = priority(options, &routed, spec, planner);
    Ok(Publish { invocation, route, due })
}

/// The task that decides where a message goes: of a map, the one it maps.
fn routed_name(task: &Signature) -> TaskName {
    let inner = match task.subtask_type {
        Some(SubtaskType::Map | SubtaskType::Starmap) => task.kwargs.get("task").and_then(Value::as_map),
        _ => None,
    };
    inner.and_then(|inner| inner.get("task")?.as_str()).map_or_else(|| task.task.clone(), TaskName::from)
}

fn priority(options: &Options, task: &TaskName, spec: Option<&TaskSpec>, planner: &Planner<'_>) -> Option<u8> {
    let own = options.get("priority").and_then(Value::as_i64).map(|priority| priority.clamp(0, 255) as u8);
    let inherited = planner.priority.filter(|_| planner.settings.inherit_parent_priority);
    let routed = || planner.settings.routes.find(task).and_then(|target| target.priority);
    own.or(inherited).or(spec.and_then(|spec| spec.priority)).or_else(routed).or(planner.settings.default_priority)
}

/// Writes the arguments with another serializer than JSON, where this is one Umbel can write.
fn reserialize(invocation: &mut Invocation, task: &Signature, serializer: Serializer) -> Result<(), CanvasError> {
    if serializer == Serializer::Json || serializer.is_opaque() {
        return Ok(());
    }
    if let Body::Parts { args, kwargs, .. } = &mut invocation.body {
        *args = Raw { serializer, bytes: serializer.encode(&Value::List(task.args.clone()))? };
        *kwargs = Raw { serializer, bytes: serializer.encode(&Value::Map(task.kwargs.clone()))? };
    }
    Ok(())
}

/// `countdown` in seconds wins over `eta`, as for Celery.
fn eta(options: &Options, now: Millis) -> Result<Option<Timestamp>, DecodeError> {
    match seconds(options, "countdown") {
        Some(secs) => Ok(Some(Timestamp::from_millis(now.saturating_add(millis(secs))))),
        None => options.get("eta").map(|value| timestamp(value, "options.eta")).transpose(),
    }
}

/// A number is seconds from now, anything else a point in time.
pub(crate) fn expires(options: &Options, now: Millis) -> Result<Option<Timestamp>, DecodeError> {
    match (seconds(options, "expires"), options.get("expires")) {
        (Some(secs), _) => Ok(Some(Timestamp::from_millis(now.saturating_add((secs * 1_000.0) as Millis)))),
        (None, value) => value.map(|value| timestamp(value, "options.expires")).transpose(),
    }
}

/// Text, or kombu's `{"__type__": "datetime", "__value__": text}`.
fn timestamp(value: &Value, field: &str) -> Result<Timestamp, DecodeError> {
    let text = value.as_str().or_else(|| value.as_map()?.get("__value__")?.as_str());
    let text = text.ok_or_else(|| DecodeError::new(field, "not a point in time"))?;
    Timestamp::parse(text).map_err(|error| DecodeError::new(field, error.reason))
}

pub(crate) fn seconds(options: &Options, name: &str) -> Option<f64> {
    options.get(name).and_then(Value::as_f64).filter(|secs| secs.is_finite())
}

fn number(options: &Options, name: &str) -> Option<u32> {
    options.get(name).and_then(Value::as_i64).and_then(|number| u32::try_from(number).ok())
}

pub(crate) fn text(options: &Options, name: &str) -> Option<String> {
    options.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// The names in `stamped_headers` and the options they name.
fn stamps(options: &Options) -> (Option<Vec<String>>, Map) {
    let Some(names) = options.get("stamped_headers").and_then(Value::as_list) else { return (None, Map::new()) };
    let names: Vec<String> = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let stamps = names.iter().filter_map(|name| Some((name.clone(), options.get(name)?.clone()))).collect();
    (Some(names), stamps)
}

/// Those of a task's headers that what it sends has as well.
pub(super) fn trace(headers: &Map) -> Map {
    let found = TRACE.iter().filter_map(|name| Some(((*name).to_owned(), headers.get(*name)?.clone())));
    found.collect()
}

pub(crate) fn user_headers(options: &Options) -> Map {
    let headers = options.get("headers").and_then(Value::as_map).into_iter().flatten();
    headers.filter(|(name, _)| !RESERVED.contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
}
