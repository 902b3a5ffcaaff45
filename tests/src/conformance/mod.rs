//! Conformance suites: what every implementation of a seam must promise, as tests that run on each of them.
//!
//! An implementation is put on a [`Stage`], which knows how to make a fresh one, how to lose a subscriber without a goodbye,
//! and how to open the same data again after everybody who used it is gone. The suites' macros ([`broker_conformance!`],
//! [`backend_conformance!`], [`ledger_conformance!`](crate::ledger_conformance)) turn each case into one test of its own.
//!
//! [`broker_conformance!`]: crate::broker_conformance
//! [`backend_conformance!`]: crate::backend_conformance

pub mod backend;
pub mod broker;
pub mod executor;
pub mod fanout;
pub mod ledger;
pub mod limits;
pub mod making;
pub mod schedules;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use umbel::{
    backends::Backend,
    brokers::{Backbone, Broker, Subscription},
    ledgers::Ledger,
};

/// Where an implementation is put to the test.
#[async_trait]
pub trait Stage: Sized + Send + Sync {
    /// Whether the broker knows since when its messages wait.
    const TELLS_AGES: bool = true;

    /// Whether messages may be on their way to a node that has not fetched them yet. If it dies, that counts as a taking.
    const PUSHES: bool = false;

    /// Whether urgent messages leave their queue before others.
    const PRIORITIES: bool = true;

    /// Whether what is given back is in front of what nobody has taken, at once. Elsewhere only nothing of it is lost.
    const COMES_BACK_IN_FRONT: bool = true;

    /// Whether looking at a message counts as taking it.
    const LOOKING_COUNTS: bool = false;

    /// In how many milliseconds something is due that a case waits for, and must not be before the case looks.
    const SOON_MILLIS: i64 = 300;

    /// A new, empty instance.
    async fn fresh(setup: Setup) -> Self;

    /// The priority of the messages that are this urgent; 9 is the most. On most brokers it is the same number.
    fn urgency(urgency: u8) -> u8 {
        urgency
    }

    /// Whether the broker can tell which nodes are there.
    fn tells_nodes() -> bool {
        true
    }

    /// Whether the ledger remembers the tokens of submissions.
    fn remembers_tokens() -> bool {
        false
    }

    /// What is tested.
    fn backbone(&self) -> &Backbone;

    /// Loses a subscriber: nobody says goodbye for it, and it never renews its lease again.
    async fn lose(&self, subscription: Box<dyn Subscription>);

    /// The same data for a new process, everybody who used it having died. Subscriptions that are still open are lost.
    async fn reopen(self) -> Self;

    /// The broker.
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.backbone().broker)
    }

    /// The result backend.
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backbone().backend)
    }

    /// The ledger.
    fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::clone(&self.backbone().ledger)
    }
}

/// What a case wants otherwise than usual.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// How long results are kept; `None` is as long as the test runs.
    pub result_expires: Option<Duration>,
    /// How many dead letters are kept; `None` is many.
    pub max_dead_letters: Option<u64>,
    /// How long a complete chord waits before it is listed as not concluded; `None` is as long as the test runs.
    pub chord_grace: Option<Duration>,
}

/// Turns cases into tests: `conformance_cases!(MyStage, path::to::suite, [case, other_case]);`.
#[macro_export]
macro_rules! conformance_cases {
    ($stage:ty, $suite:path, [$($case:ident),* $(,)?]) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            use $suite as suite;
            suite::$case::<$stage>().await;
        }
    )*};
}
