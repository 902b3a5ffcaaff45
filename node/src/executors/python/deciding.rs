//! Endings that no process tells of, for the application: a process of its own stores them where only Python can, or tells those who
//! listen (`bootstrap/requests.py::decided`).
//!
//! **What it owns.** The process, forked when there is something to tell and let go [`IDLE`] after the last, and a task that talks to
//! it. **Who sends to it.** The aggregator, for its executors. **What bounds it.** One at a time, [`ANSWER`] long and as long again for
//! what follows once it is stored; who asks waits. **When the process dies**, is silent for too long or could not store something, that
//! is an error for whoever asked, and the next one has another process. It ends with the nursery.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use umbel_proto::{Body, Invocation, Outcome, TaskName, Value};

use super::{
    child::{Child, Working},
    frame::Kind,
    nursery::{Nursery, Pool},
    outcome::Done,
    report::AppReport,
    request,
    slot::RUNS,
};
use crate::executors::{Decided, Hearer, Interest, SlotDied};

/// How long a result backend may take, with its own attempts; and after that errbacks.
const ANSWER: Duration = Duration::from_secs(30);

/// How long the process stays when there is nothing to tell. To start one may take long (`worker_process_init`).
const IDLE: Duration = Duration::from_secs(60);

/// Tells, what the application wants to know.
#[derive(Debug)]
pub(super) struct Teller {
    ends_everything: bool,
    own_backends: BTreeSet<TaskName>,
    hears_revoked: bool,
    asks: mpsc::Sender<Ask>,
}

#[derive(Debug)]
struct Ask {
    decided: Decided,
    reply: oneshot::Sender<Result<(), SlotDied>>,
}

impl Teller {
    /// Must be called within a runtime.
    pub(super) fn new(nursery: Nursery, report: &AppReport) -> Self {
        let (asks, asked) = mpsc::channel(1);
        crate::task::spawn(serve(nursery, asked));
        let own_backends = report.own_backends.iter().cloned().collect();
        Self { ends_everything: report.ends_everything, own_backends, hears_revoked: report.hears_revoked, asks }
    }
}

#[async_trait]
impl Hearer for Teller {
    /// All of what the application ends itself (`bootstrap/delegate.py::rule`).
    fn interest(&self, invocation: &Invocation) -> Interest {
        let opaque = matches!(&invocation.body, Body::Opaque { .. });
        if self.ends_everything || opaque || self.own_backends.contains(&invocation.headers.task) {
            Interest::All
        } else if self.hears_revoked {
            Interest::Revoked
        } else {
            Interest::None
        }
    }

    fn ends_everything(&self) -> bool {
        self.ends_everything
    }

    async fn decided(&self, decided: &Decided) -> Result<(), SlotDied> {
        let gone = || died("the processes have ended with their node");
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask { decided: decided.clone(), reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn died(detail: impl Into<String>) -> SlotDied {
    SlotDied { detail: detail.into() }
}

async fn serve(nursery: Nursery, mut asked: mpsc::Receiver<Ask>) {
    let mut child: Option<Child> = None;
    loop {
        let next = tokio::select! {
            () = nursery.ending() => return,
            () = sleep(IDLE), if child.is_some() => {
                // It ends by itself.
                child = None;
                continue;
            }
            next = asked.recv() => next,
        };
        let Some(Ask { decided, reply }) = next else { return };
        // Its asker may have waited too long in line, and what it was about is somebody else's then.
        if reply.is_closed() {
            continue;
        }
        let told = tokio::select! {
            () = nursery.ending() => return,
            told = tell(&nursery, &mut child, &decided) => told,
        };
        if told.is_err() {
            // What it is connected to may be gone. If it works still, it is killed.
            child = None;
        }
        // The aggregator may have ended.
        let _ = reply.send(told);
    }
}

/// Has `child`, or another in its place, know of it. A process that may not go on is let go.
async fn tell(nursery: &Nursery, child: &mut Option<Child>, decided: &Decided) -> Result<(), SlotDied> {
    let number = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut bytes = BytesMut::new();
    request::write_decided(number, decided, &mut bytes).map_err(|error| died(error.to_string()))?;
    if child.as_ref().is_none_or(Child::is_dead) {
        *child = Some(nursery.child(Pool::Processes, None, false).await?);
    }
    let Some(own) = child else { return Err(died("there is no process")) };
    let headers = &decided.invocation.headers;
    own.run(number, &bytes, Working { id: headers.id.clone(), name: headers.task.clone() }).await;
    let mut stored = false;
    loop {
        let frame = match timeout(ANSWER, own.next()).await {
            Ok(Some(frame)) => frame,
            Ok(None) if !stored => return Err(died(own.epitaph().await)),
            Err(_) if !stored => return Err(died(format!("no answer within {ANSWER:?}"))),
            Ok(None) | Err(_) => {
                tracing::warn!(task_id = %headers.id, "what follows from the stored end of a task was cut off");
                *child = None;
                return Ok(());
            }
        };
        stored |= frame.kind == Kind::Called;
        if frame.kind != Kind::Done {
            continue;
        }
        own.rest();
        let done = Done::read(&frame).map_err(died)?;
        if done.retire {
            *child = None;
        }
        return match done.outcome(&frame) {
            Outcome::Failure(error) => Err(died(error.exc_message.first().and_then(Value::as_str).unwrap_or(&error.exc_type))),
            _ => Ok(()),
        };
    }
}
