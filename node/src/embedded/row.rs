//! The row of a message: what the store itself needs to know of it, in fixed places, then the message.
//!
//! Messages move between tables far more often than they are read; a fixed header lets them move without being decoded.
//! The first byte is the row's version.

use umbel_proto::Millis;

use super::tables::{HolderId, QueueId};

const VERSION: u8 = 1;
/// Length of the header in bytes.
pub(crate) const HEADER: usize = 31;

/// What the store knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    /// The queue it belongs to.
    pub(crate) queue: QueueId,
    /// 0–9.
    pub(crate) priority: u8,
    /// It was begun by a node that died.
    pub(crate) lost: bool,
    /// It is held and its task has begun after an early acknowledgement.
    pub(crate) begun: bool,
    /// How often it has been taken.
    pub(crate) attempts: u32,
    /// How many executors have died under it.
    pub(crate) crashes: u32,
    /// The subscription that holds it, if it is held.
    pub(crate) holder: HolderId,
    /// When it was published.
    pub(crate) at: Millis,
}

impl Header {
    /// The row of `message`.
    pub(crate) fn row(&self, message: &[u8]) -> Vec<u8> {
        let mut row = Vec::with_capacity(HEADER + message.len());
        row.extend_from_slice(&self.bytes());
        row.extend_from_slice(message);
        row
    }

    /// Writes the header over that of `row`.
    pub(crate) fn put(&self, row: &mut [u8]) {
        row[..HEADER].copy_from_slice(&self.bytes());
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&self.queue.to_be_bytes());
        bytes[5] = self.priority;
        bytes[6] = u8::from(self.lost) | (u8::from(self.begun) << 1);
        bytes[7..11].copy_from_slice(&self.attempts.to_be_bytes());
        bytes[11..15].copy_from_slice(&self.crashes.to_be_bytes());
        bytes[15..23].copy_from_slice(&self.holder.to_be_bytes());
        bytes[23..31].copy_from_slice(&self.at.to_be_bytes());
        bytes
    }

    /// The header of `row`; `None` for a row that was not written here.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = row.first_chunk()?;
        if bytes[0] != VERSION {
            return None;
        }
        let u32_at = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));
        Some(Self {
            queue: u32_at(1),
            priority: bytes[5],
            lost: bytes[6] & 1 != 0,
            begun: bytes[6] & 2 != 0,
            attempts: u32_at(7),
            crashes: u32_at(11),
            holder: u64_at(15),
            at: u64_at(23) as i64,
        })
    }
}

/// The message of a row.
pub(crate) fn message(row: &[u8]) -> &[u8] {
    row.get(HEADER..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_written() {
        let header = Header { queue: 7, priority: 9, lost: true, begun: false, attempts: 3, crashes: 2, holder: 1 << 40, at: -1 };
        let mut row = header.row(b"message");
        assert_eq!(Header::read(&row), Some(header));
        assert_eq!(message(&row), b"message");
        let other = Header { begun: true, lost: false, ..header };
        other.put(&mut row);
        assert_eq!(Header::read(&row), Some(other));
        assert_eq!(message(&row), b"message");
    }

    #[test]
    fn a_foreign_row_is_not_misread() {
        assert_eq!(Header::read(b"short"), None);
        let mut row = Header::default().row(b"");
        row[0] = 2;
        assert_eq!(Header::read(&row), None);
    }
}
