//! Dead letters and revocations: what nobody will run, and what must not be run.

use redb::{ReadableTable, ReadableTableMetadata};
use umbel_proto::Millis;
use umbel_scheduler::{
    DeadReason,
    revocation::{Revocation, Revoked},
};

use super::{
    error::StoreError,
    messages::NewMessage,
    record::{self, DeadRow, RevokedRow},
    row::Header,
    tables::{DEAD, REVOKED, Seq},
    tx::Tx,
};

impl Tx<'_> {
    /// Puts a message among the dead letters. Beyond the limit the oldest letter goes, with a word in the log.
    pub(crate) fn bury(&mut self, header: &Header, message: &[u8], reason: DeadReason, detail: &str) -> Result<(), StoreError> {
        let row = DeadRow {
            queue: self.state.queue(header.queue).name.clone(),
            priority: header.priority,
            reason,
            detail: detail.to_owned(),
            at: self.now,
            attempts: header.attempts,
            message: bytes::Bytes::copy_from_slice(message),
        };
        let seq = self.state.next_seq();
        let mut dead = self.txn.open_table(DEAD)?;
        dead.insert(seq, record::encode(&row)?.as_slice())?;
        while dead.len()? > self.options.max_dead_letters {
            let Some((oldest, _)) = dead.pop_first()? else { break };
            tracing::warn!(
                letter = oldest.value(),
                limit = self.options.max_dead_letters,
                "there are too many dead letters, the oldest is dropped; look at them with `node dead`"
            );
        }
        Ok(())
    }

    /// Sends a dead letter again as a new message.
    pub(crate) fn dead_retry(&mut self, letter: Seq) -> Result<bool, StoreError> {
        let mut dead = self.txn.open_table(DEAD)?;
        let Some(row) = dead.get(letter)?.map(|row| record::decode::<DeadRow>(row.value())).transpose()? else { return Ok(false) };
        dead.remove(letter)?;
        drop(dead);
        self.publish(&NewMessage { queue: row.queue, priority: row.priority, due: None, message: row.message.into() })?;
        Ok(true)
    }

    /// Removes a dead letter.
    pub(crate) fn dead_drop(&mut self, letter: Seq) -> Result<bool, StoreError> {
        Ok(self.txn.open_table(DEAD)?.remove(letter)?.is_some())
    }

    /// Records orders, and forgets those that are too old or too many.
    pub(crate) fn revoke(&mut self, orders: &[Revocation], forget_before: Millis) -> Result<(), StoreError> {
        let mut revoked = self.txn.open_table(REVOKED)?;
        for order in orders {
            let row = RevokedRow { order: order.clone(), at: self.now };
            let seq = self.state.next_seq();
            revoked.insert(seq, record::encode(&row)?.as_slice())?;
        }
        while let Some((seq, at)) = first_order(&revoked)? {
            if at >= forget_before && revoked.len()? <= Revoked::MAX as u64 {
                break;
            }
            revoked.remove(seq)?;
        }
        Ok(())
    }
}

fn first_order(revoked: &impl ReadableTable<Seq, &'static [u8]>) -> Result<Option<(Seq, Millis)>, StoreError> {
    let Some((seq, row)) = revoked.first()? else { return Ok(None) };
    // A row that cannot be read is as good as expired.
    Ok(Some((seq.value(), record::decode::<RevokedRow>(row.value()).map_or(Millis::MIN, |row| row.at))))
}
