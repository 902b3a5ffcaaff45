//! The writer's queue: bounded in bytes, drained in one go.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{error::StoreError, state::State, tx::Tx};

/// The room of the queue, in units of [`UNIT_BYTES`]: 64 MiB of waiting operations. Who finds it full waits.
const ROOM: u32 = 16_384;
const UNIT_BYTES: usize = 4096;

/// What the writer is asked for.
pub(crate) enum Request {
    /// A change, carried out in the next transaction and answered when that is durable.
    Change(Box<dyn Change>),
    /// A look at, or a change of, what is only in memory; needs no transaction of its own.
    Memory(Box<dyn FnOnce(&mut State) + Send>),
}

/// A change of the store.
pub(crate) trait Change: Send {
    /// Carries it out. Whoever returns [`StoreError::Refused`] must not have changed anything.
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    /// Tells the waiter how it went.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// The queue.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    bell: Condvar,
    room: Semaphore,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    units: u32,
    asleep: bool,
    closed: bool,
}

/// What was waiting.
pub(crate) struct Batch {
    pub(crate) requests: Vec<Request>,
    /// To be handed back with [`Inbox::done`].
    pub(crate) units: u32,
    /// Nothing comes after this.
    pub(crate) last: bool,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::default(), bell: Condvar::new(), room: Semaphore::new(ROOM as usize) }
    }

    /// Waits for room and puts a request of about `bytes` in. Dropping the future before that puts nothing in.
    pub(crate) async fn send(&self, bytes: usize, request: Request) -> Result<(), StoreError> {
        let units = u32::try_from(bytes / UNIT_BYTES + 1).unwrap_or(ROOM).min(ROOM);
        let room = self.room.acquire_many(units).await.map_err(|_| closed())?;
        let wake = {
            let mut queue = self.lock();
            if queue.closed {
                return Err(closed());
            }
            queue.requests.push(request);
            queue.units += units;
            std::mem::take(&mut queue.asleep)
        };
        room.forget();
        if wake {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Waits until something is there, `wait` has passed or the queue is closed, and takes all that is there.
    pub(crate) fn drain(&self, wait: Duration) -> Batch {
        let deadline = Instant::now() + wait;
        let mut queue = self.lock();
        while queue.requests.is_empty() && !queue.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue.asleep = true;
            queue = self.bell.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.asleep = false;
        Batch { requests: std::mem::take(&mut queue.requests), units: std::mem::take(&mut queue.units), last: queue.closed }
    }

    /// Gives the room of a batch back.
    pub(crate) fn done(&self, units: u32) {
        self.room.add_permits(units as usize);
    }

    /// Lets nothing more in; what is in is still carried out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::Refused("the store is closed".to_owned())
}
