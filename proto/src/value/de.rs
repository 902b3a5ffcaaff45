//! `serde::Deserializer` over a [`Value`](super::Value).

use super::Value;
use crate::DecodeError;

pub(super) fn from_value<T: serde::de::DeserializeOwned>(_value: Value) -> Result<T, DecodeError> {
    todo!()
}
