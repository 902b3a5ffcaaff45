//! The `#[task]` attribute of umbel.
//!
//! `lib` is the door, `options` reads what stands in the parentheses, `function` checks the signature, and `expand`
//! writes the code. Nothing here knows how a task is run: the code written only names `umbel::executors::native`.

mod expand;
mod function;
mod options;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::{ItemFn, parse_macro_input};

/// Makes a function a task.
///
/// `async fn`s run on the runtime; plain `fn`s are taken to be CPU-bound and run on a thread of their own, so that they
/// never hold up anything else.
///
/// The function becomes a type of the same name that implements `umbel::Task`:
///
/// | | |
/// |---|---|
/// | `add` (the value) | what `Node::builder().task(add)` registers |
/// | `add::s(2, 2)` | the call as data (Celery's `.s()`) |
/// | `add::si(2, 2)` | the same, keeping results of steps before it out of its arguments (Celery's `.si()`) |
/// | `add::try_s(2, 2)` | as `s`, for arguments whose serialization may fail |
/// | `add::partial()` | a call without arguments, to be filled by `.arg(..)`, `.kwarg(.., ..)` or the step before |
/// | `add::call(2, 2)` | the function itself, for tests and for other Rust code |
///
/// # Arguments
/// Anything that is `serde::Deserialize` without borrowing (and `Serialize`, for `s`). They may be given by position or by
/// keyword. A missing `Option<_>` is `None`; `#[default]` or `#[default = expr]` on a parameter makes it optional. Calls that
/// do not fit fail with Python's own `TypeError` texts. If the first parameter is a `Context` or `&Context`, the task is
/// given what it needs to know of its run, and no argument is taken for it.
///
/// # Return values
/// Anything that is `Serialize`, or a `Result` of that whose error is a `TaskFailure`, a `std::error::Error` or `Display`.
///
/// # Options
/// | | | default |
/// |---|---|---|
/// | `name = "proj.add"` | the registered name | module path and function name, with dots |
/// | `queue = "slow"` | where calls that name no queue go | the routes' |
/// | `max_retries = 5` or `"none"` | retries after the first attempt | 3 |
/// | `retry_delay = 30` | seconds before a retry that names no time | 180 |
/// | `retry_on_failure` | retry whatever the failure (Celery's `autoretry_for=(Exception,)`) | no |
/// | `backoff` or `backoff = 2` | growing delays of those, first one in seconds | no; alone, 1 |
/// | `backoff_max = 600` | the longest of them, in seconds | 600 |
/// | `jitter = false` | draw them between zero and their full length | yes |
/// | `rate_limit = "10/m"` | starts per second, minute or hour on one node | none |
/// | `soft_time_limit = 10` | seconds until the task is told to end | none |
/// | `time_limit = 20` | seconds until it is ended | none |
/// | `acks = "early"` or `"late"` | when its message is acknowledged | late |
/// | `ignore_result` | results are not wanted | no |
/// | `track_started` | STARTED is stored | no |
/// | `dead_letter_on_failure` | what has failed for good becomes a dead letter as well | no |
///
/// # Soft time limit
/// A task with a `Context` is told by it and may go on until the hard limit. One without could not hear it: it ends
/// there, a failure by `SoftTimeLimitExceeded`, as in Celery where nobody catches the exception. (A plain `fn` cannot be
/// ended from outside; it goes on.)
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let name = function.sig.ident.clone();
    let vis = function.vis.clone();
    let result = options::parse(arguments.into())
        .and_then(|options| function::Function::read(function).map(|function| expand::expand(&options, &function)));
    // After an error the type is defined all the same, so that the one culprit is all the compiler complains about.
    result.unwrap_or_else(|error| expand::failed(&name, &vis, &error)).into()
}
