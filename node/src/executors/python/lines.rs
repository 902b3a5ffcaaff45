//! What Python processes say: log records, and what they write to standard output and error.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe,
    sync::watch,
};

use super::child::Working;
use crate::telemetry::OUTPUT;

/// How much of the output is kept for the case of a process's death.
const TAIL_MAX: usize = 8 << 10;

/// How much of it is told. It becomes part of a result, which people read.
const TAIL_TOLD: usize = 2 << 10;

/// The longest line that is logged whole.
const LINE_MAX: u64 = 16 << 10;

/// Python's `logging.ERROR` and its neighbours.
const ERROR: i64 = 40;
const WARNING: i64 = 30;
const INFO: i64 = 20;

/// A record of Python's `logging`.
#[derive(Deserialize)]
struct Record {
    level: i64,
    logger: String,
    text: String,
    task_id: Option<String>,
    task: Option<String>,
}

/// Logs what the head of a frame says.
pub(super) fn record(head: &[u8]) {
    let Ok(Record { level, logger, text, task_id, task }) = serde_json::from_slice(head) else {
        tracing::debug!("a Python process sent a log record that nobody can read");
        return;
    };
    match level {
        ERROR.. => tracing::error!(target: "umbel::python", logger, task_id, task, "{text}"),
        WARNING.. => tracing::warn!(target: "umbel::python", logger, task_id, task, "{text}"),
        INFO.. => tracing::info!(target: "umbel::python", logger, task_id, task, "{text}"),
        _ => tracing::debug!(target: "umbel::python", logger, task_id, task, "{text}"),
    }
}

/// The end of what a process has written. The lock is held for a copy of at most [`TAIL_MAX`] bytes, never over an await: one
/// task writes, and the slot reads once when the process has died.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    fn push(&self, line: &[u8]) {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend_from_slice(line);
        let cut = bytes.len().saturating_sub(TAIL_MAX);
        bytes.drain(..cut);
    }

    /// The text: its last lines, as many as one wants to read.
    pub(super) fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        let mut from = text.len().saturating_sub(TAIL_TOLD);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let told = &text[from..];
        let line = if from > 0 { told.find('\n').map_or(0, |at| at + 1) } else { 0 };
        told[line..].to_owned()
    }
}

/// Standard output and error of one process.
pub(super) struct Output {
    pub(super) pipe: pipe::Receiver,
    pub(super) pid: i32,
    pub(super) tail: Tail,
    pub(super) current: watch::Receiver<Option<Working>>,
}

impl Output {
    /// Logs line by line, with the task that runs (a JSON object as it is), until the process and all it has started have closed the pipe.
    pub(super) async fn forward(self) {
        let mut lines = BufReader::new(self.pipe);
        let mut line = Vec::new();
        let mut begins = true;
        loop {
            line.clear();
            let read = (&mut lines).take(LINE_MAX).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(1..)) {
                return;
            }
            self.tail.push(&line);
            let ends = line.ends_with(b"\n");
            // A part of a line is never more than that.
            let whole = std::mem::replace(&mut begins, ends) && ends;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if text.is_empty() {
                continue;
            }
            let (id, name) = self.current.borrow().clone().map(|Working { id, name }| (id.to_string(), name.to_string())).unzip();
            let (pid, task_id, task) = (self.pid, id, name);
            if whole {
                tracing::info!(target: OUTPUT, pid, task_id, task, "{text}");
            } else {
                tracing::info!(target: "umbel::python", pid, task_id, task, "{text}");
            }
        }
    }
}
