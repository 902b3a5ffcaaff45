//! Names by which [`Value`](super::Value) and the serializers of this crate recognise each other through serde.

/// The newtype struct that a [`Value`](super::Value) asks to be read as, so that its special forms stay maps.
pub(super) const VALUE: &str = "\0umbel::Value";
/// The newtype struct, or the only key of a map, that an integer beyond 128 bits travels as.
pub(super) const BIG_INT: &str = "\0umbel::BigInt";
