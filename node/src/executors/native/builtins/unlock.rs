//! `celery.chord_unlock`: the end of chords on result backends that cannot count.
//!
//! A Celery client whose backend is a database sends this task along with a chord's header; it asks every second whether all
//! members are done and then sends the body (`celery/app/builtins.py`). Umbel's own chords are counted by the ledger and
//! send none.

use std::time::Duration;

use umbel_proto::{GroupId, ResultRecord, ResultTuple, State, TaskError, TaskId, Value};
use umbel_scheduler::{PartResult, ReadyChord, ReadyPart};

use super::{bad, list, optional, required, signature};
use crate::{
    client::Client,
    context::RetryRequest,
    executors::native::{
        Arguments, Parameter, TaskFailure,
        task::{Call, Returned, Run},
    },
};

pub(super) const NAME: &str = "celery.chord_unlock";

pub(super) fn run(call: Call) -> Run {
    Run::future(unlock(call))
}

async fn unlock(call: Call) -> Returned {
    const PARAMETERS: &[Parameter] =
        &[required("group_id"), required("callback"), optional("interval"), optional("max_retries"), optional("result")];
    let context = call.context;
    let mut arguments = Arguments::bind("unlock_chord", PARAMETERS, call.args, call.kwargs)?;
    let group = GroupId::from(arguments.take::<String>(0)?);
    let body = signature(&arguments.value(1), "callback")?;
    let interval = arguments.value(2).as_f64().filter(|secs| *secs > 0.0 && secs.is_finite()).unwrap_or(1.0);
    let max_retries = arguments.value(3).as_i64().and_then(|max| u32::try_from(max).ok());
    let mut members = Vec::new();
    for tuple in list(arguments.value(4), "result")? {
        members.extend(leaves(&ResultTuple::from_value(&tuple).map_err(bad)?));
    }
    let client = context.client().ok_or_else(|| TaskFailure::new("RuntimeError", "this executor is on no node"))?;
    let again = || {
        let retry = RetryRequest::default().after(Duration::from_secs_f64(interval)).max_retries(max_retries);
        Err(TaskFailure::from(retry))
    };
    let records = match client.records(&members).await {
        Ok(records) => records,
        Err(error) if error.is_transient() => return again(),
        Err(error) => return Err(error.into()),
    };
    let mut parts = Vec::new();
    for (index, (id, record)) in members.iter().zip(records).enumerate() {
        match record.filter(|record| record.status.is_ready()) {
            Some(record) => parts.push(part(index, id, record)),
            None => return again(),
        }
    }
    conclude(client, ReadyChord { group, body, parts, last: members.into_iter().last() }).await
}

async fn conclude(client: &Client, ready: ReadyChord) -> Returned {
    client.conclude_unlocked(ready).await?;
    Ok(Value::Null)
}

fn part(index: usize, id: &TaskId, record: ResultRecord) -> ReadyPart {
    let result = match record.status {
        State::Success => PartResult::Value(record.result),
        _ => PartResult::Error(record.error().unwrap_or_else(|| TaskError::new("builtins", "RuntimeError", "unreadable failure"))),
    };
    ReadyPart { index: i64::try_from(index).ok(), task_id: id.clone(), root_id: None, result }
}

/// The tasks of a result, in order.
fn leaves(tuple: &ResultTuple) -> Vec<TaskId> {
    match &tuple.children {
        None => vec![TaskId::from(&tuple.id)],
        Some(members) => members.iter().flat_map(leaves).collect(),
    }
}
