//! What was changed of tasks at run time.

use redb::{ReadTransaction, ReadableTable};
use umbel_proto::TaskName;
use umbel_scheduler::tuning::{Tuning, Tunings};

use super::{error::StoreError, tables::TUNINGS, tx::Tx};

impl Tx<'_> {
    /// Changes a task; what the change does not mention stays.
    pub(crate) fn tune(&mut self, task: &TaskName, tuning: &Tuning) -> Result<(), StoreError> {
        let mut tunings = self.txn.open_table(TUNINGS)?;
        let before = tunings.get(task.as_str())?.map(|row| read(row.value())).unwrap_or_default();
        let text = serde_json::to_vec(&tuning.clone().over(before)).map_err(|error| StoreError::Refused(error.to_string()))?;
        tunings.insert(task.as_str(), text.as_slice())?;
        Ok(())
    }
}

/// Every change.
pub(crate) fn read_tunings(txn: &ReadTransaction) -> Result<Tunings, StoreError> {
    let mut tunings = Tunings::default();
    for entry in txn.open_table(TUNINGS)?.iter()? {
        let (task, row) = entry?;
        tunings.set(TaskName::from(task.value()), read(row.value()));
    }
    Ok(tunings)
}

/// A row that cannot be read changes nothing.
fn read(row: &[u8]) -> Tuning {
    serde_json::from_slice(row).unwrap_or_default()
}
