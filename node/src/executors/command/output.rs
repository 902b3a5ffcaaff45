//! What a command writes: kept within bounds, and made into a result.

use std::{io, os::fd::OwnedFd};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::mpsc,
};
use umbel_proto::{Limits, TaskError, Value, codec::Serializer};

use super::task::Output;
use crate::{context::PROGRESS, executors::Progress};

/// How much of stderr is kept: its end, where programs say why they failed.
pub(super) const STDERR_TAIL: usize = 8 << 10;

/// The longest line of progress; longer ones are passed over.
const PROGRESS_LINE_MAX: usize = 64 << 10;

const CHUNK: usize = 16 << 10;

/// The end of a pipe that a command writes to. Its futures may be dropped at any point: nothing read is lost.
pub(super) struct Reader {
    pipe: Option<Receiver>,
    chunk: Vec<u8>,
}

impl Reader {
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self { pipe: Some(Receiver::from_owned_fd(pipe)?), chunk: vec![0; CHUNK] })
    }

    /// Whether the other end has been closed.
    pub(super) fn ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// The next bytes; empty at the end.
    pub(super) async fn next(&mut self) -> &[u8] {
        let read = match &mut self.pipe {
            Some(pipe) => pipe.read(&mut self.chunk).await.unwrap_or(0),
            None => 0,
        };
        if read == 0 {
            self.pipe = None;
        }
        &self.chunk[..read]
    }
}

/// The other end of a command's stdin.
pub(super) struct Writer {
    pipe: Option<Sender>,
    rest: Bytes,
}

impl Writer {
    pub(super) fn new(pipe: OwnedFd, text: Bytes) -> io::Result<Self> {
        Ok(Self { pipe: Some(Sender::from_owned_fd(pipe)?), rest: text })
    }

    pub(super) fn ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// Writes some of what is left; closes the pipe at the end. A command that does not read what it is given is no failure.
    pub(super) async fn next(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let written = if self.rest.is_empty() { 0 } else { pipe.write(&self.rest).await.unwrap_or(0) };
        let _ = self.rest.split_to(written);
        if written == 0 || self.rest.is_empty() {
            self.pipe = None;
        }
    }
}

/// The end of a text of any length.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > STDERR_TAIL {
            self.bytes.drain(..self.bytes.len() - STDERR_TAIL);
            self.cut = true;
        }
    }

    /// The text, without the beginning of a line or character that was cut; what is not UTF-8 is replaced.
    pub(super) fn text(&self) -> String {
        let mut bytes = self.bytes.as_slice();
        if self.cut {
            let line = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1).filter(|at| *at < bytes.len());
            let character = || bytes.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or(0);
            bytes = &bytes[line.unwrap_or_else(character)..];
        }
        String::from_utf8_lossy(bytes).trim_end().to_owned()
    }
}

/// Lines of progress: `{"state": "PROGRESS", "meta": {"percent": 40}}`.
#[derive(Debug, Default)]
pub(super) struct ProgressLines {
    line: Vec<u8>,
    too_long: bool,
}

impl ProgressLines {
    /// Takes in what was read, and sends on every whole line. Lines that are not progress are passed over: a command that
    /// happens to have something else open there is not to be failed for it.
    pub(super) fn push(&mut self, bytes: &[u8], to: &mpsc::Sender<Progress>) {
        for byte in bytes {
            if *byte != b'\n' {
                self.too_long |= self.line.len() >= PROGRESS_LINE_MAX;
                if !self.too_long {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.too_long) {
                tracing::debug!("a line of progress is too long");
            } else if let Some(progress) = progress(&line) {
                // Full: the store is slower than the command, which will have newer news.
                let _ = to.try_send(progress);
            }
        }
    }
}

fn progress(line: &[u8]) -> Option<Progress> {
    let value = Serializer::Json.decode(line, Limits::default()).ok()?;
    let map = value.as_map()?;
    let state = map.get("state").and_then(Value::as_str).unwrap_or(PROGRESS);
    Some(Progress { state: state.to_owned(), meta: map.get("meta")?.clone() })
}

/// The result that `stdout` is. Nothing but space is null, whatever is expected.
///
/// # Errors
/// The task's failure: not JSON where JSON was promised, or not text.
pub(super) fn value(stdout: &[u8], output: Output) -> Result<Value, Box<TaskError>> {
    if stdout.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    let failure = |text: String| Box::new(TaskError::new("builtins", "ValueError", text));
    if output != Output::Text {
        match Serializer::Json.decode(stdout, Limits::default()) {
            Ok(value) => return Ok(value),
            Err(error) if output == Output::Json => return Err(failure(format!("stdout is not JSON: {error}"))),
            Err(_) => {}
        }
    }
    let text = str::from_utf8(stdout).map_err(|error| failure(format!("stdout is neither JSON nor UTF-8 text: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Value::Str(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdout_becomes_a_value() {
        let ok = |stdout: &[u8], output| value(stdout, output).unwrap();
        for output in [Output::Auto, Output::Json, Output::Text] {
            assert_eq!(ok(b"", output), Value::Null);
            assert_eq!(ok(b" \n", output), Value::Null);
        }
        assert_eq!(ok(b"7\n", Output::Auto), Value::Int(7));
        assert_eq!(ok(b"7\n", Output::Text), Value::Str("7".into()));
        assert_eq!(ok(b"{\"a\": [1]}\n", Output::Json).as_map().map(|map| map.len()), Some(1));
        assert_eq!(ok(b"done\n\n", Output::Auto), Value::Str("done\n".into()));
        assert_eq!(ok("ü\r\n".as_bytes(), Output::Text), Value::Str("ü".into()));
        assert_eq!(value(b"done", Output::Json).unwrap_err().exc_type, "ValueError");
        assert_eq!(value(b"\xff\xfe", Output::Auto).unwrap_err().exc_type, "ValueError");
    }

    #[test]
    fn the_tail_begins_with_a_whole_line() {
        let mut tail = Tail::default();
        tail.push("ä".repeat(STDERR_TAIL).as_bytes());
        tail.push(b"x");
        assert!(tail.text().ends_with("äx") && !tail.text().contains('\u{fffd}'));
        tail.push(b"\nlast words\n");
        assert_eq!(tail.text(), "last words");
        let mut short = Tail::default();
        short.push(b"a\nb\n");
        assert_eq!(short.text(), "a\nb");
    }

    #[test]
    fn lines_of_progress() {
        let (to, mut from) = mpsc::channel(8);
        let mut lines = ProgressLines::default();
        lines.push(b"{\"state\": \"LOADING\", \"meta\": 1}\nnonsense\n{\"meta\"", &to);
        lines.push(b": 2}\n[1]\n{\"state\": \"X\"}\n", &to);
        lines.push(&vec![b'x'; PROGRESS_LINE_MAX + 9], &to);
        lines.push(b"\n{\"meta\": 3}\n", &to);
        let mut got = Vec::new();
        while let Ok(progress) = from.try_recv() {
            got.push((progress.state, progress.meta));
        }
        let is = |state: &str, meta| (state.to_owned(), Value::Int(meta));
        assert_eq!(got, [is("LOADING", 1), is(PROGRESS, 2), is(PROGRESS, 3)]);
    }
}
