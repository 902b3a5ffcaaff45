//! The shapes of what is stored, each behind the version byte of [`umbel_proto::codec::record`].
//!
//! Every pair of functions is one kind of record: what goes in comes out equal, unknown headers and options included.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use umbel_proto::{
    DecodeError, EncodeError, Envelope, GroupId, Millis, Options, QueueName, ResultRecord, ResultTuple, Signature, State, SubtaskType,
    TaskError, TaskId, TaskName, codec::record,
};
use umbel_scheduler::{ChordPart, DeadReason, PartResult, ReadyPart, revocation::Revocation};

use super::value::{ListRef, MapRef, OwnList, OwnMap, OwnValue, ValueRef};

const VERSION: u8 = 1;

#[derive(Serialize)]
struct EnvelopeRef<'a> {
    body: &'a Bytes,
    content_type: &'a str,
    content_encoding: &'a str,
    headers: MapRef<'a>,
    properties: MapRef<'a>,
}

#[derive(Deserialize)]
struct OwnEnvelope {
    body: Bytes,
    content_type: String,
    content_encoding: String,
    headers: OwnMap,
    properties: OwnMap,
}

pub(crate) fn encode_envelope(envelope: &Envelope) -> Result<Vec<u8>, EncodeError> {
    let Envelope { body, content_type, content_encoding, headers, properties } = envelope;
    let (headers, properties) = (MapRef(headers), MapRef(properties));
    record::encode(VERSION, &EnvelopeRef { body, content_type, content_encoding, headers, properties })
}

pub(crate) fn decode_envelope(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let OwnEnvelope { body, content_type, content_encoding, headers, properties } = record::decode(VERSION, bytes)?;
    Ok(Envelope { body, content_type, content_encoding, headers: headers.0, properties: properties.0 })
}

#[derive(Serialize)]
struct ResultRef<'a> {
    task_id: &'a TaskId,
    status: &'a str,
    result: ValueRef<'a>,
    traceback: Option<&'a str>,
    children: Option<Vec<TupleRow>>,
    date_done: Option<&'a str>,
    group_id: Option<&'a GroupId>,
    parent_id: Option<&'a TaskId>,
    extra: MapRef<'a>,
}

#[derive(Deserialize)]
struct OwnResult {
    task_id: TaskId,
    status: String,
    result: OwnValue,
    traceback: Option<String>,
    children: Option<Vec<TupleRow>>,
    date_done: Option<String>,
    group_id: Option<GroupId>,
    parent_id: Option<TaskId>,
    extra: OwnMap,
}

pub(crate) fn encode_result(result: &ResultRecord) -> Result<Vec<u8>, EncodeError> {
    record::encode(
        VERSION,
        &ResultRef {
            task_id: &result.task_id,
            status: result.status.as_str(),
            result: ValueRef(&result.result),
            traceback: result.traceback.as_deref(),
            children: result.children.as_ref().map(|children| children.iter().map(TupleRow::from).collect()),
            date_done: result.date_done.as_deref(),
            group_id: result.group_id.as_ref(),
            parent_id: result.parent_id.as_ref(),
            extra: MapRef(&result.extra),
        },
    )
}

pub(crate) fn decode_result(bytes: &[u8]) -> Result<ResultRecord, DecodeError> {
    let row: OwnResult = record::decode(VERSION, bytes)?;
    Ok(ResultRecord {
        task_id: row.task_id,
        status: State::by_name(&row.status),
        result: row.result.0,
        traceback: row.traceback,
        children: row.children.map(|children| children.into_iter().map(ResultTuple::from).collect()),
        date_done: row.date_done,
        group_id: row.group_id,
        parent_id: row.parent_id,
        extra: row.extra.0,
    })
}

#[derive(Serialize, Deserialize)]
struct TupleRow {
    id: String,
    parent: Option<Box<TupleRow>>,
    children: Option<Vec<TupleRow>>,
}

impl From<&ResultTuple> for TupleRow {
    fn from(tuple: &ResultTuple) -> Self {
        Self {
            id: tuple.id.clone(),
            parent: tuple.parent.as_deref().map(|parent| Box::new(parent.into())),
            children: tuple.children.as_ref().map(|children| children.iter().map(Self::from).collect()),
        }
    }
}

impl From<TupleRow> for ResultTuple {
    fn from(row: TupleRow) -> Self {
        Self {
            id: row.id,
            parent: row.parent.map(|parent| Box::new((*parent).into())),
            children: row.children.map(|children| children.into_iter().map(Self::from).collect()),
        }
    }
}

pub(crate) fn encode_tuple(tuple: &ResultTuple) -> Result<Vec<u8>, EncodeError> {
    record::encode(VERSION, &TupleRow::from(tuple))
}

pub(crate) fn decode_tuple(bytes: &[u8]) -> Result<ResultTuple, DecodeError> {
    record::decode::<TupleRow>(VERSION, bytes).map(ResultTuple::from)
}

#[derive(Serialize)]
struct SignatureRef<'a> {
    task: &'a TaskName,
    args: ListRef<'a>,
    kwargs: MapRef<'a>,
    options: MapRef<'a>,
    subtask_type: Option<u8>,
    immutable: bool,
    extra: MapRef<'a>,
}

#[derive(Deserialize)]
struct OwnSignature {
    task: TaskName,
    args: OwnList,
    kwargs: OwnMap,
    options: OwnMap,
    subtask_type: Option<u8>,
    immutable: bool,
    extra: OwnMap,
}

/// The numbers of the kinds on disk are their places in this list.
const SUBTASK_TYPES: [SubtaskType; 6] =
    [SubtaskType::Chain, SubtaskType::Group, SubtaskType::Chord, SubtaskType::Map, SubtaskType::Starmap, SubtaskType::Chunks];

pub(crate) fn encode_signature(signature: &Signature) -> Result<Vec<u8>, EncodeError> {
    let kind = |wanted| SUBTASK_TYPES.iter().position(|kind| *kind == wanted).map(|at| at as u8);
    record::encode(
        VERSION,
        &SignatureRef {
            task: &signature.task,
            args: ListRef(&signature.args),
            kwargs: MapRef(&signature.kwargs),
            options: MapRef(&signature.options.0),
            subtask_type: signature.subtask_type.and_then(kind),
            immutable: signature.immutable,
            extra: MapRef(&signature.extra),
        },
    )
}

pub(crate) fn decode_signature(bytes: &[u8]) -> Result<Signature, DecodeError> {
    let row: OwnSignature = record::decode(VERSION, bytes)?;
    let kind = |at: u8| {
        let unknown = || DecodeError::new("subtask_type", format!("{at} is no kind of signature"));
        SUBTASK_TYPES.get(usize::from(at)).copied().ok_or_else(unknown)
    };
    Ok(Signature {
        task: row.task,
        args: row.args.0,
        kwargs: row.kwargs.0,
        options: Options(row.options.0),
        subtask_type: row.subtask_type.map(kind).transpose()?,
        immutable: row.immutable,
        extra: row.extra.0,
    })
}

#[derive(Serialize)]
struct PartRef<'a> {
    index: Option<i64>,
    task_id: &'a TaskId,
    root_id: Option<&'a TaskId>,
    result: PartResultRef<'a>,
}

#[derive(Serialize)]
enum PartResultRef<'a> {
    Value(ValueRef<'a>),
    Error { exc_type: &'a str, exc_message: ListRef<'a>, exc_module: Option<&'a str>, traceback: Option<&'a str> },
}

#[derive(Deserialize)]
struct OwnPart {
    index: Option<i64>,
    task_id: TaskId,
    root_id: Option<TaskId>,
    result: OwnPartResult,
}

#[derive(Deserialize)]
enum OwnPartResult {
    Value(OwnValue),
    Error { exc_type: String, exc_message: OwnList, exc_module: Option<String>, traceback: Option<String> },
}

/// The part without its group, which is in the key, and its body, which the chord has.
pub(crate) fn encode_part(part: &ChordPart) -> Result<Vec<u8>, EncodeError> {
    let result = match &part.result {
        PartResult::Value(value) => PartResultRef::Value(ValueRef(value)),
        PartResult::Error(TaskError { exc_type, exc_message, exc_module, traceback, expected: _ }) => PartResultRef::Error {
            exc_type,
            exc_message: ListRef(exc_message),
            exc_module: exc_module.as_deref(),
            traceback: traceback.as_deref(),
        },
    };
    record::encode(VERSION, &PartRef { index: part.index, task_id: &part.task_id, root_id: part.root_id.as_ref(), result })
}

/// Reads what concluding takes of a part: the store keeps the body once, with the chord.
pub(crate) fn decode_part(bytes: &[u8]) -> Result<ReadyPart, DecodeError> {
    let OwnPart { index, task_id, root_id, result } = record::decode(VERSION, bytes)?;
    let result = match result {
        OwnPartResult::Value(value) => PartResult::Value(value.0),
        OwnPartResult::Error { exc_type, exc_message, exc_module, traceback } => {
            PartResult::Error(TaskError { exc_type, exc_message: exc_message.0, exc_module, traceback, expected: false })
        }
    };
    Ok(ReadyPart { index, task_id, root_id, result })
}

/// A dead letter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeadRow {
    /// The queue it came from; by name, for the queue may be forgotten before the letter is.
    pub(crate) queue: QueueName,
    pub(crate) priority: u8,
    pub(crate) reason: DeadReason,
    pub(crate) detail: String,
    pub(crate) at: Millis,
    pub(crate) attempts: u32,
    pub(crate) message: Bytes,
}

/// An order not to run something.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RevokedRow {
    pub(crate) order: Revocation,
    pub(crate) at: Millis,
}

/// Writes any of the rows that need no detour.
pub(crate) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, EncodeError> {
    record::encode(VERSION, row)
}

/// Reads it.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    record::decode(VERSION, bytes)
}
