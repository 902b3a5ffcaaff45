//! What a ledger that has to send in one step and settle in another writes on what it sends, so that a copy is known for one.

use umbel_proto::{Invocation, Value};

/// The header. Celery's workers carry it on and do not look at it.
const HEADER: &str = "umbel_copy";

/// Of two messages that ask for the same, those with the same ending are copies of one another; those with different endings
/// were sent on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The ending that sends it, however often it is begun.
    pub ending: String,
    /// Which of its copies this is.
    pub copy: String,
}

impl Stamp {
    /// Whether a message has one.
    pub fn is_on(invocation: &Invocation) -> bool {
        invocation.headers.other.contains_key(HEADER)
    }

    /// The one that a message has.
    pub fn of(invocation: &Invocation) -> Option<Self> {
        let (ending, copy) = invocation.headers.other.get(HEADER)?.as_str()?.rsplit_once('/')?;
        Some(Self { ending: ending.to_owned(), copy: copy.to_owned() })
    }

    /// Puts it on a message, in the place of one that is there.
    pub fn put(&self, invocation: &mut Invocation) {
        let text = format!("{}/{}", self.ending, self.copy);
        invocation.headers.other.insert(HEADER.to_owned(), Value::Str(text));
    }
}
