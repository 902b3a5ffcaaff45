//! A disk that can be broken and mended.

use std::{
    collections::HashMap,
    fs::File,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Mutex,
};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

/// How disks are broken, by the path of the store.
static BROKEN: Mutex<Option<HashMap<PathBuf, Fault>>> = Mutex::new(None);

/// What a broken disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writes fail: it is full.
    Full,
    /// What is to be made durable becomes so, and an error is reported all the same.
    Liar,
}

/// Breaks the disk under a store, or mends it.
pub(crate) fn set(path: &Path, fault: Option<Fault>) {
    let mut broken = BROKEN.lock().unwrap();
    let broken = broken.get_or_insert_default();
    match fault {
        Some(fault) => broken.insert(path.to_owned(), fault),
        None => broken.remove(path),
    };
}

#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    file: FileBackend,
}

impl Disk {
    pub(crate) fn new(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { path: path.to_owned(), file: FileBackend::new(file)? })
    }

    fn fault(&self) -> Option<Fault> {
        BROKEN.lock().unwrap().as_ref()?.get(&self.path).copied()
    }

    fn write_fault(&self) -> io::Result<()> {
        match self.fault() {
            Some(Fault::Full) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.write_fault()?;
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_fault()?;
        self.file.sync_data()?;
        if self.fault() == Some(Fault::Liar) { Err(io::Error::other("the cable was loose")) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_fault()?;
        self.file.write(offset, data)
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
