//! Opening the file: is it ours, can we read it, does anybody else have it? Until all answers are known nothing is written.

use std::{
    fs,
    io::{ErrorKind, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableError};
use umbel_proto::Millis;

use super::{
    StoreOptions,
    error::{OpenError, StoreError},
    shadow::Shadow,
    state::State,
    tables::{
        BEAT_ENTRIES, BEAT_MARKS, BODIES, BOOT_KEY, CHORDS, COMPLETE, DEAD, EXPIRY, FORMAT, FORMAT_KEY, GROUPS, HELD, META, PARTS, QUEUES,
        READY, RESULTS, REVOKED, SCHEDULED, TUNINGS,
    },
    tx::Tx,
};

/// Up to which size a file is read whole before it is opened: about a fifth of a second.
const EXAMINED_BYTES: u64 = 256 << 20;
/// What every redb file begins with.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Opens the file, or makes an empty one.
pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<Database, OpenError> {
    // The library may panic over bytes that make no sense; to whoever opens the file that is damage like any other.
    catch_unwind(AssertUnwindSafe(|| open_unguarded(path, options)))
        .unwrap_or_else(|_| Err(OpenError::Damaged { path: path.to_owned(), reason: "its structure makes no sense".to_owned() }))
}

fn open_unguarded(path: &Path, options: &StoreOptions) -> Result<Database, OpenError> {
    let io = |error: std::io::Error| OpenError::Io { path: path.to_owned(), reason: error.to_string() };
    if is_empty(path).map_err(io)? {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(io)?;
        }
        return create(path, options).map_err(|error| told(path, error));
    }
    check_magic(path)?;
    examine(path, options)?;
    create(path, options).map_err(|error| told(path, error))
}

#[cfg(not(test))]
fn create(path: &Path, options: &StoreOptions) -> Result<Database, DatabaseError> {
    builder(options).create(path)
}

/// In tests, on a disk that can be broken.
#[cfg(test)]
fn create(path: &Path, options: &StoreOptions) -> Result<Database, DatabaseError> {
    builder(options).create_with_backend(super::tests::disk::Disk::new(path)?)
}

/// Opens the file without touching it: whatever would be repaired or written stays in memory.
///
/// Up to [`EXAMINED_BYTES`] every page in use is read and its checksum compared; in a larger file only what opening it needs.
fn examine(path: &Path, options: &StoreOptions) -> Result<(), OpenError> {
    let io = |error: std::io::Error| OpenError::Io { path: path.to_owned(), reason: error.to_string() };
    let file = fs::File::options().read(true).write(true).open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let shadow = Shadow::new(file).map_err(|error| told(path, error))?;
    let mut database = builder(options).create_with_backend(shadow).map_err(|error| told(path, error))?;
    check_format(path, &database)?;
    if length <= EXAMINED_BYTES && !database.check_integrity().map_err(|error| told(path, error))? {
        return Err(OpenError::Damaged { path: path.to_owned(), reason: "some of its pages are not what was written".to_owned() });
    }
    Ok(())
}

fn builder(options: &StoreOptions) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder
}

fn is_empty(path: &Path) -> std::io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(std::io::Error::other("it is a directory; name a file in it")),
        Ok(metadata) => Ok(metadata.len() == 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn check_magic(path: &Path) -> Result<(), OpenError> {
    let mut magic = [0; MAGIC.len()];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) if magic == MAGIC => Ok(()),
        Ok(()) => Err(OpenError::Foreign { path: path.to_owned(), reason: "it begins with other bytes".to_owned() }),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(OpenError::Foreign { path: path.to_owned(), reason: "it is too short".to_owned() })
        }
        Err(error) => Err(OpenError::Io { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// Refuses a newer format, and files of others. A file without any table is one whose making was interrupted.
fn check_format(path: &Path, database: &impl ReadableDatabase) -> Result<(), OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let txn = database.begin_read().map_err(|error| damaged(error.to_string()))?;
    let found = match txn.open_table(META) {
        Ok(meta) => meta.get(FORMAT_KEY).map_err(|error| damaged(error.to_string()))?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => {
            let tables = txn.list_tables().map_err(|error| damaged(error.to_string()))?.count();
            if tables == 0 {
                return Ok(());
            }
            None
        }
        Err(error) => return Err(damaged(error.to_string())),
    };
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT }),
        None => Err(OpenError::Foreign { path: path.to_owned(), reason: "it is a redb file of another program".to_owned() }),
    }
}

fn told(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => OpenError::Damaged { path, reason: error.to_string() },
            _ => OpenError::Io { path, reason: error.to_string() },
        },
        error => OpenError::Damaged { path, reason: error.to_string() },
    }
}

/// Begins a new opening: makes the tables, counts the opening, gives everything back that was held in the last one.
pub(crate) fn begin(database: &Database, options: &StoreOptions, now: Millis) -> Result<State, StoreError> {
    let txn = database.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT)?;
        let boot = meta.get(BOOT_KEY)?.map_or(0, |boot| boot.value()) + 1;
        meta.insert(BOOT_KEY, boot)?;
        txn.open_table(READY)?;
        txn.open_table(SCHEDULED)?;
        txn.open_table(HELD)?;
        txn.open_table(QUEUES)?;
        txn.open_table(DEAD)?;
        txn.open_table(REVOKED)?;
        txn.open_table(TUNINGS)?;
        txn.open_table(RESULTS)?;
        txn.open_table(GROUPS)?;
        txn.open_table(EXPIRY)?;
        txn.open_table(CHORDS)?;
        txn.open_table(BODIES)?;
        txn.open_table(PARTS)?;
        txn.open_table(COMPLETE)?;
        txn.open_table(BEAT_ENTRIES)?;
        txn.open_table(BEAT_MARKS)?;
    }
    txn.commit()?;
    let mut state = State::load(database)?;
    if !state.held.is_empty() {
        let txn = database.begin_write()?;
        let mut tx = Tx::open(&txn, &mut state, options, now)?;
        let count = tx.give_orphans_back()?;
        tx.finish()?;
        txn.commit()?;
        tracing::info!(count, "messages that were held when the store was last open are back in their queues");
    }
    Ok(state)
}
