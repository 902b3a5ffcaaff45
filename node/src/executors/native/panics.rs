//! Panics of tasks, caught and told with the place they came from.
//!
//! What is caught of a panic holds its message but not its place; only the process's panic hook is told that. So the first
//! native executor of a process puts a hook before the one that is there. For threads that are inside a task it keeps
//! place and stack and stays silent (the failure is logged with everything else about the task); for all others it does what was done
//! before.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
};

use umbel_proto::TaskError;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

struct Place {
    file: String,
    line: u32,
    column: u32,
    stack: Option<String>,
}

/// Makes the hook; once per process.
pub(super) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !INSIDE.get() {
                return before(info);
            }
            // With RUST_BACKTRACE set, as everywhere in Rust.
            let stack = Backtrace::capture();
            let stack = (stack.status() == BacktraceStatus::Captured).then(|| stack.to_string());
            let place = info.location().map(|at| Place { file: at.file().to_owned(), line: at.line(), column: at.column(), stack });
            PLACE.with(|cell| *cell.borrow_mut() = place);
        }));
    });
}

/// Calls a task's code; a panic in it comes back as the failure it is for clients (wire contract §4.1: `RuntimeError`).
pub(super) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, TaskError> {
    let outer = INSIDE.replace(true);
    // The code is never entered again after a panic, so nobody sees what it has left half done.
    let result = panic::catch_unwind(AssertUnwindSafe(code));
    INSIDE.set(outer);
    result.map_err(|payload| failure(payload.as_ref(), PLACE.take()))
}

fn failure(payload: &(dyn Any + Send), place: Option<Place>) -> TaskError {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the task panicked with a value that is no text".to_owned());
    let traceback = place.map(|place| {
        let mut text = format!("panicked at {}:{}:{}:\n{message}", place.file, place.line, place.column);
        if let Some(stack) = place.stack {
            text.push_str("\nstack backtrace:\n");
            text.push_str(&stack);
        }
        text
    });
    TaskError { traceback, ..TaskError::new("builtins", "RuntimeError", message) }
}

/// A future whose panics are outcomes.
pub(super) struct Caught<F>(pub(super) Pin<Box<F>>)
where
    F: ?Sized;

impl<T, F: Future<Output = T> + ?Sized> Future for Caught<F> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch(|| self.0.as_mut().poll(context)) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
