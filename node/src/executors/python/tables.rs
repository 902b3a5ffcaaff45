//! The tables of django-celery-beat, through a process of the application's that does nothing else.
//!
//! **What it owns.** The process, forked when the first question is asked, and a task that talks to it. **Who sends to it.** Beat,
//! where it leads. **What bounds it.** One question at a time, [`ANSWER`] long; as many rows as a frame holds. **When the process
//! dies**, or is silent for too long, the question has an error for an answer, and the next one has another process. It ends
//! with the nursery.

use std::time::Duration;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use umbel_proto::Millis;

use super::{
    child::Child,
    frame::{self, Kind},
    nursery::{Nursery, Pool},
    report::AppRow,
};

/// How long a database may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The tables. Clones ask the same process.
#[derive(Debug, Clone)]
pub struct PythonTables(mpsc::Sender<Ask>);

#[derive(Debug)]
struct Ask {
    question: Question,
    reply: oneshot::Sender<Result<Looked, LookError>>,
}

/// An entry that was sent, for its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// When it was sent last.
    pub at: Millis,
    /// How often it was sent.
    pub runs: u64,
    /// Whether it was to be sent once, and is over.
    pub over: bool,
}

#[derive(Debug, Serialize)]
struct Question {
    install: bool,
    known: Option<String>,
    ran: Vec<Ran>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// What changes with every change of the rows.
    pub change: String,
    /// All that are on; `None` where none has changed.
    pub rows: Option<Vec<AppRow>>,
    /// What is wrong with rows that are left out.
    pub wrong: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Error { error: String },
    Rows { change: String, wrong: Vec<String> },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LookError {
    /// The database says so.
    #[error("{0}")]
    Database(String),
    /// The process does not answer.
    #[error("the process that reads them: {0}")]
    Process(String),
}

impl PythonTables {
    pub(super) fn new(nursery: Nursery) -> Self {
        let (asks, asked) = mpsc::channel(1);
        crate::task::spawn(serve(nursery, asked));
        Self(asks)
    }

    /// Writes down what was sent, and tells the rows if they are not those that are `known`. `install` puts the application's own
    /// entries into the tables before.
    ///
    /// # Errors
    /// When the database or the process does not answer. What was to be written may or may not be.
    pub async fn look(&self, install: bool, known: Option<String>, ran: Vec<Ran>) -> Result<Looked, LookError> {
        let gone = || LookError::Process("it has ended with its node".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask { question: Question { install, known, ran }, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn serve(nursery: Nursery, mut asked: mpsc::Receiver<Ask>) {
    let mut child: Option<Child> = None;
    loop {
        let Ask { question, reply } = tokio::select! {
            () = nursery.ending() => return,
            ask = asked.recv() => match ask {
                Some(ask) => ask,
                None => return,
            },
        };
        let looked = tokio::select! {
            () = nursery.ending() => return,
            looked = timeout(ANSWER, ask(&nursery, &mut child, &question)) => looked,
        };
        let looked = looked.unwrap_or_else(|_| Err(LookError::Process(format!("no answer within {ANSWER:?}"))));
        if matches!(looked, Err(LookError::Process(_))) {
            // It works still, if it lives, and is killed.
            child = None;
        }
        // Beat may have ended.
        let _ = reply.send(looked);
    }
}

async fn ask(nursery: &Nursery, child: &mut Option<Child>, question: &Question) -> Result<Looked, LookError> {
    let broken = |error: serde_json::Error| LookError::Process(format!("it says what nobody can read: {error}"));
    if child.as_ref().is_none_or(Child::is_dead) {
        let forked = nursery.child(Pool::Tables, None, false).await;
        *child = Some(forked.map_err(|died| LookError::Process(died.detail))?);
    }
    let Some(child) = child else { return Err(LookError::Process("there is none".to_owned())) };
    let mut bytes = BytesMut::new();
    frame::pack(Kind::Look, &serde_json::to_vec(question).map_err(broken)?, b"", &mut bytes);
    child.send(&bytes).await;
    loop {
        let Some(frame) = child.next().await else { return Err(LookError::Process(child.epitaph().await)) };
        if frame.kind != Kind::Looked {
            continue;
        }
        child.rest();
        return match serde_json::from_slice(&frame.head).map_err(broken)? {
            Answer::Error { error } => Err(LookError::Database(error)),
            Answer::Rows { change, wrong } => {
                let rows = if frame.payload.is_empty() { None } else { Some(serde_json::from_slice(&frame.payload).map_err(broken)?) };
                Ok(Looked { change, rows, wrong })
            }
        };
    }
}
