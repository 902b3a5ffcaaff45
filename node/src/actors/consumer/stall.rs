//! The stall watch: messages wait, there is room, and yet none come. (The most reported failure of Celery on Redis.)

use std::{sync::Arc, time::Duration};

use ractor::ActorRef;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::{Shared, cast},
    ConsumerMsg,
    fetch::Pace,
};

/// How long a fetch may wait before its queues are looked at.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often they are looked at while it goes on waiting: an idle node asks next to nothing.
const AGAIN: Duration = Duration::from_secs(15);

/// Starts the watch.
pub(crate) fn spawn(shared: Arc<Shared>, pace: Arc<Pace>, consumer: ActorRef<ConsumerMsg>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(crate::task::spawn(async move {
        let mut looked_at = None;
        loop {
            let before = pace.waiting();
            sleep(if before.is_some() && looked_at == before { AGAIN } else { PATIENCE }).await;
            // The same fetch, both times that we looked and while messages were waiting.
            if before.is_none() || pace.waiting() != before {
                continue;
            }
            looked_at = before;
            if messages_wait(&shared).await && pace.waiting() == before {
                cast(&consumer, ConsumerMsg::Stalled);
            }
        }
    }))
}

async fn messages_wait(shared: &Shared) -> bool {
    let queues = shared.queues.borrow().clone();
    // No answer is the fetch loop's to notice.
    matches!(timeout(PATIENCE, shared.broker.waits(&queues)).await, Ok(Ok(true)))
}
