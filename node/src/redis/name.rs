//! Names for things that live as long as a process.

/// A name nobody else has, short enough to be part of many keys.
pub(crate) fn instance() -> String {
    let uuid = uuid::Uuid::new_v4();
    uuid.simple().to_string()[..16].to_owned()
}
