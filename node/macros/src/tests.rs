//! What an author reads who has written something that is no task.

#![allow(clippy::unwrap_used)]

use proc_macro2::TokenStream;
use quote::quote;

use crate::{function::Function, options};

#[track_caller]
fn option_error(tokens: TokenStream, expected: &str) {
    let error = options::parse(tokens).err().unwrap();
    assert!(error.to_string().contains(expected), "{error}");
}

#[track_caller]
fn function_error(tokens: TokenStream, expected: &str) {
    let error = Function::read(syn::parse2(tokens).unwrap()).err().unwrap();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn every_option_is_read() {
    let options = options::parse(quote! {
        name = "proj.add", queue = "slow", max_retries = "none", retry_delay = 30, retry_on_failure, backoff = 2.5, backoff_max = 60,
        jitter = false, rate_limit = "10/m", soft_time_limit = 1.5, time_limit = 3, acks = "early", ignore_result, track_started = true,
        dead_letter_on_failure
    })
    .unwrap();
    assert_eq!(options.name.unwrap().value(), "proj.add");
    assert_eq!(options.queue.unwrap().value(), "slow");
    assert_eq!((options.max_retries, options.retry_delay), (Some(None), Some(30.0)));
    assert_eq!((options.backoff, options.backoff_max, options.jitter), (Some(Some(2.5)), Some(60.0), Some(false)));
    assert_eq!(options.rate_limit.unwrap().value(), "10/m");
    assert_eq!((options.soft_time_limit, options.time_limit), (Some(1.5), Some(3.0)));
    assert_eq!((options.early, options.ignore_result, options.track_started), (Some(true), Some(true), Some(true)));
    assert_eq!((options.retry_on_failure, options.dead_letter_on_failure), (Some(true), Some(true)));
}

#[test]
fn wrong_options_are_refused_with_what_would_be_right() {
    option_error(quote!(retires = 3), "`retires` is no option of a task; there are name, queue, max_retries");
    option_error(quote!(queue = "a", queue = "b"), "`queue` is given twice");
    option_error(quote!(name), "`name` expects a name in quotes");
    option_error(quote!(name = " "), "`name` expects a name that is not empty");
    option_error(quote!(max_retries = "never"), "or \"none\" for retries without bound");
    option_error(quote!(acks = "sometimes"), "\"early\" or \"late\"");
    option_error(quote!(ignore_result = 1), "`true` or `false`");
    option_error(quote!(time_limit = 0), "a number of seconds above zero");
    option_error(quote!(soft_time_limit = 10, time_limit = 10), "must be shorter than the hard one");
    option_error(quote!(jitter = false), "`jitter` means nothing without `backoff`");
    option_error(quote!(backoff = false, backoff_max = 3), "`backoff_max` means nothing without `backoff`");
    for rate in ["fast", "10/d", "/m", "-1", "inf"] {
        option_error(quote!(rate_limit = #rate), "a rate such as \"10/m\"");
    }
}

#[test]
fn functions_that_cannot_be_tasks_are_refused_with_the_reason() {
    function_error(
        quote!(
            fn f<T>(a: T) {}
        ),
        "cannot be generic",
    );
    function_error(
        quote!(
            unsafe fn f() {}
        ),
        "cannot be unsafe",
    );
    function_error(
        quote!(
            const fn f() {}
        ),
        "cannot be const",
    );
    function_error(
        quote!(
            fn f(&self) {}
        ),
        "has no `self`",
    );
    function_error(
        quote!(
            fn f(a: &str) {}
        ),
        "own their data: use `String`",
    );
    function_error(
        quote!(
            fn f(a: &[u8]) {}
        ),
        "own their data: use `Vec<_>`",
    );
    function_error(
        quote!(
            fn f(a: impl Copy) {}
        ),
        "concrete types",
    );
    function_error(
        quote!(
            fn f() -> impl Copy {}
        ),
        "returns a concrete type",
    );
    function_error(
        quote!(
            fn f((a, b): (i64, i64)) {}
        ),
        "give this one a plain name",
    );
    function_error(
        quote!(
            fn f(a: i64, ctx: Context) {}
        ),
        "the context is a task's first parameter",
    );
    function_error(
        quote!(
            fn f(#[default] a: i64, b: i64) {}
        ),
        "`b` has no default but follows `a`",
    );
    function_error(
        quote!(
            fn f(#[default(1)] a: i64) {}
        ),
        "write `#[default]` or `#[default = value]`",
    );
}
