//! The embedded store: queues, results and workflows of one machine in one file, without a server.
//!
//! **What it owns.** A [redb](https://docs.rs/redb) file, locked for this process, and the thread that writes it
//! ([`writer`]). The embedded broker, backend and ledger are three faces of one [`Store`], and therefore an ending (result,
//! chord part, successors, acknowledgement) is one transaction.
//!
//! **Who sends to it.** Any task of the runtime: changes go through a bounded inbox to the writer and are answered when they
//! are on the disk; reads run in read transactions on the runtime's blocking threads and never wait for the writer.
//!
//! **What bounds it.** The page cache ([`StoreOptions::cache_bytes`]), the inbox (64 MiB), what nodes hold (their credits).
//! Everything that waits is on the disk only: a backlog of a million messages costs no memory.
//!
//! **When it dies.** With SIGKILL or loss of power at any instant, whatever was answered is there at the next opening, and of
//! what was not answered every transaction is there whole or not at all. The lock on the file proves that no other process
//! holds messages, so everything that was held goes back to its queue when the file is opened.

mod chords;
mod error;
mod file;
mod hub;
mod inbox;
mod letters;
mod mailbox;
mod messages;
mod reading;
mod record;
mod results;
mod row;
mod schedules;
mod serving;
mod shadow;
mod state;
mod tables;
mod tunings;
mod tx;
mod value;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::oneshot;
use umbel_proto::Millis;

pub use error::OpenError;
pub(crate) use error::{KIND, StoreError};
pub(crate) use {
    chords::{NewPart, body_record, read_chord, read_ready, read_unconcluded},
    hub::ResultBox,
    mailbox::{Handed, Subscriber},
    messages::NewMessage,
    reading::{dead, nodes, oldest, peek, read_group, read_results, revoked as read_revoked, statuses},
    record::{decode_envelope, decode_tuple, encode_envelope, encode_part, encode_tuple},
    results::NewResult,
    row::message,
    schedules::{NewTick, read_book},
    state::{State, Sub},
    tables::{HolderId, Seq, part_key},
    tunings::read_tunings,
    tx::Tx,
};

use inbox::{Change, Inbox, Request};
use writer::Writer;

/// How a store is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreOptions {
    /// Memory for pages of the file, in bytes. The default is 24 MiB.
    pub cache_bytes: usize,
    /// How long results are kept (Celery's `result_expires`); `None` is for ever. The default is one day.
    pub result_expires: Option<Duration>,
    /// How many dead letters are kept; beyond it the oldest go. The default is 100,000.
    pub max_dead_letters: u64,
    /// How long a complete chord may wait for its conclusion before others are told of it. The default is five seconds.
    pub chord_grace: Duration,
    /// How long an order not to run something holds. Celery forgets after three hours; here tasks may be scheduled for much
    /// later, so the default is a week.
    pub revoke_expires: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            cache_bytes: 24 << 20,
            result_expires: Some(DAY),
            max_dead_letters: 100_000,
            chord_grace: Duration::from_secs(5),
            revoke_expires: DAY * 7,
        }
    }
}

/// An open store. Dropping the last reference finishes what was asked for and closes the file.
pub struct Store {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    boot: u64,
    /// The directory to remove with the store.
    temporary: Option<PathBuf>,
}

/// What the writer and everybody else share.
pub(crate) struct Shared {
    path: PathBuf,
    options: StoreOptions,
    /// `None` while the file does not work.
    database: RwLock<Option<Arc<Database>>>,
    inbox: Inbox,
    hub: hub::Hub,
}

impl Store {
    /// Opens the store at `path`, a file that is made, with its directory, if it is not there.
    ///
    /// # Errors
    /// When another process has it, it is damaged, newer, or no store at all, or the operating system refuses. The file is left
    /// as it was.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        Self::open_at(path.as_ref(), options, None)
    }

    /// Opens an empty store that is removed when the last reference is dropped: for tests, demonstrations and benches.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn temporary(options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        let directory = std::env::temp_dir().join(format!("umbel-{}", uuid::Uuid::new_v4()));
        Self::open_at(&directory.join("store.umbel"), options, Some(directory.clone()))
    }

    fn open_at(path: &Path, options: StoreOptions, temporary: Option<PathBuf>) -> Result<Arc<Self>, OpenError> {
        let damaged = |error: StoreError| OpenError::Damaged { path: path.to_owned(), reason: error.to_string() };
        let database = file::open(path, &options)?;
        let state = file::begin(&database, &options, now()).map_err(damaged)?;
        let boot = state.boot;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            options,
            database: RwLock::new(Some(Arc::new(database))),
            inbox: Inbox::new(),
            hub: hub::Hub::default(),
        });
        let writer = Writer::new(Arc::clone(&shared), state);
        let thread = std::thread::Builder::new().name("umbel-store".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| OpenError::Io { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Arc::new(Self { shared, writer: Mutex::new(Some(thread)), boot, temporary }))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// How it was set up.
    pub fn options(&self) -> &StoreOptions {
        &self.shared.options
    }

    /// Which opening of the file this is.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// The store's clock.
    pub(crate) fn now(&self) -> Millis {
        now()
    }

    pub(crate) fn hub(&self) -> &hub::Hub {
        &self.shared.hub
    }

    /// Carries out a change of about `bytes` in the next transaction; answers when it is durable.
    pub(crate) async fn write<T, F>(&self, bytes: usize, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let call = Call { change: Some(change), value: None, answer };
        self.shared.inbox.send(bytes, Request::Change(Box::new(call))).await?;
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Has the writer look at its memory, after everything that was asked for before.
    pub(crate) async fn memory<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut State) -> T + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let look = move |state: &mut State| drop(answer.send(look(state)));
        self.shared.inbox.send(0, Request::Memory(Box::new(look))).await?;
        outcome.await.map_err(|_| gone())
    }

    /// Reads what is durable.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || shared.read(read));
        task.await.unwrap_or_else(|_| Err(StoreError::Refused("reading panicked; the log says where".to_owned())))
    }

    /// As [`Store::read`], on this thread.
    pub(crate) fn read_here<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.shared.read(read)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.inbox.close();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the store's writer has panicked");
        }
        self.shared.set_database(None);
        if let Some(directory) = &self.temporary {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Shared {
    fn now(&self) -> Millis {
        now()
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_database(&self, database: Option<Arc<Database>>) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database;
    }

    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database().ok_or_else(|| StoreError::Unavailable("the store file does not work now".to_owned()))?;
        read(&database.begin_read()?)
    }
}

/// A change with its waiter.
struct Call<F, T> {
    change: Option<F>,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Change for Call<F, T>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send,
{
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if let Some(change) = self.change.take() {
            self.value = Some(change(tx)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, answer, .. } = *self;
        // A waiter that has gone has no use for the answer; the change stays.
        let _ = answer.send(outcome.and_then(|()| value.ok_or_else(gone)));
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the store did not answer".to_owned())
}

fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX))
}
