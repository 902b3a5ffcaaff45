//! What a function returned, as a [`Returned`]: plain values, and results of three kinds of errors.
//!
//! Rust has no specialization, but method lookup tries fewer borrows first, and the code of `#[task]` is never generic. So
//! `(&&&&Probe::of(&value)).tag()` finds the first of four traits that fits: a result whose error is or becomes a
//! [`TaskFailure`], a result whose error is only `Display`, anything `Serialize`, and last anything at all, only to tell
//! the author in good words what is wrong.

use std::{fmt, marker::PhantomData};

use serde::Serialize;
use umbel_proto::{EncodeError, TaskError, Value};

use super::{TaskFailure, task::Returned};

/// Asks what a type is without having a value of it.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Probe<T> {
    /// The type of `_value`.
    pub fn of(_value: &T) -> Self {
        Self(PhantomData)
    }
}

/// A result whose error becomes a [`TaskFailure`].
#[derive(Debug)]
pub struct FailureTag;
/// A result whose error is text.
#[derive(Debug)]
pub struct DisplayTag;
/// A value.
#[derive(Debug)]
pub struct PlainTag;
/// None of these.
#[derive(Debug)]
pub struct OtherTag;

/// First choice.
pub trait Failure {
    /// The tag.
    fn tag(&self) -> FailureTag;
}
/// Second.
pub trait Display {
    /// The tag.
    fn tag(&self) -> DisplayTag;
}
/// Third.
pub trait Plain {
    /// The tag.
    fn tag(&self) -> PlainTag;
}
/// Last.
pub trait Other {
    /// The tag.
    fn tag(&self) -> OtherTag;
}

impl<T: Serialize, E: Into<TaskFailure>> Failure for &&&Probe<Result<T, E>> {
    fn tag(&self) -> FailureTag {
        FailureTag
    }
}
impl<T: Serialize, E: fmt::Display> Display for &&Probe<Result<T, E>> {
    fn tag(&self) -> DisplayTag {
        DisplayTag
    }
}
impl<T: Serialize> Plain for &Probe<T> {
    fn tag(&self) -> PlainTag {
        PlainTag
    }
}
impl<T> Other for Probe<T> {
    fn tag(&self) -> OtherTag {
        OtherTag
    }
}

impl FailureTag {
    /// The value, or the failure.
    pub fn finish<T: Serialize, E: Into<TaskFailure>>(self, result: Result<T, E>) -> Returned {
        result.map_err(Into::into).and_then(encode)
    }
}
impl DisplayTag {
    /// The value, or the failure.
    pub fn finish<T: Serialize, E: fmt::Display>(self, result: Result<T, E>) -> Returned {
        result.map_err(TaskFailure::from_display).and_then(encode)
    }
}
impl PlainTag {
    /// The value.
    pub fn finish<T: Serialize>(self, value: T) -> Returned {
        encode(value)
    }
}
impl OtherTag {
    /// Never called: there is nothing that is a [`TaskReturn`].
    pub fn finish<T: TaskReturn>(self, value: T) -> Returned {
        value.finish()
    }
}

/// What the compiler misses where a task returns something that cannot be stored.
///
/// ```compile_fail
/// struct NotSerializable;
///
/// #[umbel::task]
/// async fn refused() -> NotSerializable {
///     NotSerializable
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "this cannot be stored as a result",
    note = "return a type that is `serde::Serialize`, or a `Result` of one whose error is a `TaskFailure`, a `std::error::Error` or `Display`"
)]
pub trait TaskReturn {
    /// The value.
    fn finish(self) -> Returned;
}

/// As for a Python task that returns what its serializer does not know: the task fails, by kombu's `EncodeError`.
fn encode<T: Serialize>(value: T) -> Returned {
    Value::from_serialize(&value)
        .map_err(|error: EncodeError| TaskFailure::Error(TaskError::new("kombu.exceptions", "EncodeError", error.to_string())))
}
