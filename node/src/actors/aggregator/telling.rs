//! Endings that an executor is told of before they are written down: it stores them where the node cannot, or somebody on its side listens.
//!
//! While it is told the message is still held, and the claim with it. So what is lost on the way comes again, and no more are on
//! their way than there are credits.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::Invocation;
use umbel_scheduler::{Commit, settlement::Settlement};

use super::{
    super::{cast, chance::Backoff, panic_text},
    AggregatorMsg, State,
    queue::{Pending, Then},
};
use crate::executors::{Decided, Executor, Interest, Verdict};

/// How long to try. After that the ending is the node's alone, as an executor that never takes it may not keep a credit for ever.
const TRY_FOR: Duration = Duration::from_secs(600);

/// How often at least: they wait in one line.
const TRIES: u32 = 4;

/// An ending, and whom to tell of it before.
pub(super) struct Settling {
    pub(super) pending: Pending,
    pub(super) whom: Option<Whom>,
}

impl From<Pending> for Settling {
    fn from(pending: Pending) -> Self {
        Self { pending, whom: None }
    }
}

/// Who is told what.
pub(super) struct Whom {
    executor: Arc<dyn Executor>,
    decided: Decided,
    /// Whether it depends on the executor that anybody ever hears of the ending.
    stores: bool,
}

/// Those that are being told. Dropped, they are told no more, and their claims go back.
#[derive(Default)]
pub(super) struct Telling {
    number: u64,
    tasks: HashMap<u64, AbortOnDropHandle<()>>,
}

impl Telling {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// What can be written down now.
    pub(super) fn told(&mut self, told: Told) -> Pending {
        self.tasks.remove(&told.number);
        *told.pending
    }
}

/// An executor was told.
pub(crate) struct Told {
    number: u64,
    pending: Box<Pending>,
}

impl State {
    /// Who has to know of an ending that no run has told. What that executor stores is not the ledger's to write.
    pub(super) fn whom(&self, invocation: &Arc<Invocation>, settlement: &mut Settlement) -> Option<Whom> {
        let verdict = Verdict::of(&settlement.ending)?;
        let (interest, executor) = self.shared.registry.interested(invocation).filter(|(interest, _)| verdict.is_for(*interest))?;
        let executor = executor.clone();
        let stores = interest == Interest::All;
        if stores {
            settlement.leave();
        }
        Some(Whom { executor, decided: Decided { invocation: invocation.clone(), verdict }, stores })
    }

    pub(super) fn tell_then_push(&mut self, settling: Settling) {
        let Settling { pending, whom } = settling;
        let Some(whom) = whom else { return self.push(pending) };
        let telling = &mut self.telling;
        telling.number += 1;
        let (number, aggregator) = (telling.number, self.myself.clone());
        // Whoever has lost its message meanwhile has nothing to tell.
        let (answer, holds) = oneshot::channel();
        let fence = Commit { fence: pending.commit.fence.clone(), effects: Vec::new() };
        let task = crate::task::spawn(async move {
            if holds.await.unwrap_or(false) {
                whom.tell().await;
            }
            cast(&aggregator, AggregatorMsg::Told(Told { number, pending: Box::new(pending) }));
        });
        telling.tasks.insert(number, AbortOnDropHandle::new(task));
        self.push(Pending { commit: fence, then: Then::Told(answer) });
    }
}

impl Whom {
    /// Tells it: until it is stored, or once where somebody merely listens.
    async fn tell(&self) {
        let Self { executor, decided, stores } = self;
        let (id, task) = (&decided.invocation.headers.id, &decided.invocation.headers.task);
        let (until, mut backoff, mut tries) = (Instant::now() + TRY_FOR, Backoff::new(), 0_u32);
        loop {
            let Some(hearer) = executor.hearer() else { return };
            let why = match AssertUnwindSafe(hearer.decided(decided)).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(died)) => died.detail,
                Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
            };
            if !stores {
                return tracing::warn!(task_id = %id, %task, "those who listen could not be told that a task was revoked: {why}");
            }
            if Instant::now() >= until && tries >= TRIES {
                return tracing::error!(task_id = %id, %task, "the end of a task could not be stored for ten minutes or more, and will not be: {why}");
            }
            // Now and then: an outage is one piece of news, however long it lasts.
            if tries.is_power_of_two() || tries == 0 {
                tracing::warn!(task_id = %id, %task, "the end of a task cannot be stored, and is tried again: {why}");
            }
            tries += 1;
            sleep(backoff.next()).await;
        }
    }
}
