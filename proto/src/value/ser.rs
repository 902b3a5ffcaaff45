//! `serde::Serializer` into a [`Value`](super::Value).

use super::Value;
use crate::EncodeError;

pub(super) fn to_value<T: serde::Serialize + ?Sized>(_value: &T) -> Result<Value, EncodeError> {
    todo!()
}
