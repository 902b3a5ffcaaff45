//! Looking at a file as if it were open for writing, without writing.
//!
//! Opening a redb file may repair it, and closing it writes too. A [`Shadow`] reads the file and keeps everything that would
//! be written in memory, so that a file can be opened, repaired and examined to the last page before it is touched at all.
//! It locks the file like an ordinary opening does.

use std::{
    collections::HashMap,
    fs::File,
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

const BLOCK: u64 = 4096;

/// A file that is read, and blocks that would be written to it.
#[derive(Debug)]
pub(crate) struct Shadow {
    file: FileBackend,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    /// Length of the file itself.
    real: u64,
    /// Length it would have.
    length: u64,
    blocks: HashMap<u64, Vec<u8>>,
}

impl Shadow {
    pub(crate) fn new(file: File) -> Result<Self, DatabaseError> {
        let file = FileBackend::new(file)?;
        let real = file.len()?;
        Ok(Self { file, changes: Mutex::new(Changes { real, length: real, blocks: HashMap::new() }) })
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as it would be.
    fn block(&self, changes: &Changes, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = changes.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        let start = number * BLOCK;
        let there = changes.real.saturating_sub(start).min(BLOCK);
        if there > 0 {
            self.file.read(start, &mut block[..there as usize])?;
        }
        Ok(block)
    }
}

/// The parts of `[offset, offset + length)` by block: its number, where in it, and where in the whole.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let end = offset + length as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |number| {
        let (from, to) = (offset.max(number * BLOCK), end.min((number + 1) * BLOCK));
        let inner = (from - number * BLOCK) as usize..(to - number * BLOCK) as usize;
        (number, inner, (from - offset) as usize..(to - offset) as usize)
    })
}

impl StorageBackend for Shadow {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        if offset + out.len() as u64 > changes.length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it should be"));
        }
        for (number, inner, outer) in parts(offset, out.len()) {
            let block = self.block(&changes, number)?;
            out[outer].copy_from_slice(&block[inner]);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut changes = self.changes();
        // What is cut off must read as zeros should the file grow again.
        changes.real = changes.real.min(length);
        changes.blocks.retain(|number, _| number * BLOCK < length);
        if let Some(last) = changes.blocks.get_mut(&(length / BLOCK)) {
            last[(length % BLOCK) as usize..].fill(0);
        }
        changes.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        for (number, inner, outer) in parts(offset, data.len()) {
            let mut block = self.block(&changes, number)?;
            block[inner].copy_from_slice(&data[outer]);
            changes.blocks.insert(number, block);
        }
        changes.length = changes.length.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let shadow = Shadow::new(File::options().read(true).write(true).open(&path).unwrap()).unwrap();
        let read = |offset, length| {
            let mut out = vec![0; length];
            shadow.read(offset, &mut out).map(|()| out)
        };
        assert_eq!(read(0, 10_000).unwrap(), content);
        shadow.write(4090, &[1; 5000]).unwrap();
        let mut expected = content.clone();
        expected[4090..9090].fill(1);
        assert_eq!(read(0, 10_000).unwrap(), expected);
        assert_eq!(read(9089, 2).unwrap(), [1, content[9090]]);
        assert!(read(9999, 2).is_err());
        shadow.set_len(5000).unwrap();
        shadow.set_len(20_000).unwrap();
        assert_eq!(read(4998, 4).unwrap(), [1, 1, 0, 0]);
        assert_eq!(read(9000, 2000).unwrap(), vec![0; 2000]);
        drop(shadow);
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}
