//! Records that only Umbel reads: bincode behind a version byte, with a size limit.
//!
//! bincode is not self-describing, so every kind of record says in its first byte which shape follows; another one is
//! refused with an error that says so, never misread. Swapping the codec is a change of this file.

use serde::{Serialize, de::DeserializeOwned};

use crate::{DecodeError, EncodeError};

const LIMIT_BYTES: usize = 300 << 20;

/// Writes `record` in shape `version`.
///
/// # Errors
/// When `record` cannot be serialized.
pub fn encode<T: Serialize>(version: u8, record: &T) -> Result<Vec<u8>, EncodeError> {
    let config = bincode::config::standard().with_limit::<LIMIT_BYTES>();
    let mut bytes = vec![version];
    bincode::serde::encode_into_std_write(record, &mut bytes, config)
        .map_err(|error| EncodeError::new(std::any::type_name::<T>(), error.to_string()))?;
    Ok(bytes)
}

/// Reads a record of shape `version`.
///
/// # Errors
/// When the bytes are of another version or damaged.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    let name = std::any::type_name::<T>();
    match bytes.split_first() {
        Some((&found, rest)) if found == version => {
            let config = bincode::config::standard().with_limit::<LIMIT_BYTES>();
            let (record, _) = bincode::serde::decode_from_slice(rest, config).map_err(|error| DecodeError::new(name, error.to_string()))?;
            Ok(record)
        }
        Some((&found, _)) => Err(DecodeError::new(name, format!("record version {found}, this version reads {version}"))),
        None => Err(DecodeError::new(name, "empty record")),
    }
}
