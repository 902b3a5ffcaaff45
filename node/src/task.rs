//! Tasks of the runtime.

use std::{future::Future, pin::Pin};

use tokio::task::JoinHandle;

/// Starts a task of the runtime, as `tokio::spawn` does.
///
/// What keeps a task going is compiled once for each type of future and once more for each flavour of runtime: two thousand lines of
/// intermediate code a place. Behind a pointer there is one type for all of them, which takes a tenth off this crate's compilation.
///
/// # Panics
///
/// Outside a runtime.
#[track_caller]
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let future: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(future);
    tokio::spawn(future)
}
