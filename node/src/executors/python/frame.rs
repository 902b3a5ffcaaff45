//! Frames: what crosses the sockets between the node and its Python processes. `bootstrap/wire.py` is the other side.
//!
//! ```text
//! length: 4 bytes | version: 1 | kind: 1 | length of the head: 4 | head: JSON | payload
//! ```
//!
//! Numbers are big-endian; the first length counts everything behind itself. A head is small and made by one of us; a payload
//! is a body or a result in whatever serializer it came in.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The version of the protocol. Both sides come out of one binary, so another one is a broken peer.
const VERSION: u8 = 1;

/// The most a frame may hold, so that no process can make the node take more memory than that for it.
pub(super) const FRAME_MAX: usize = 256 << 20;

const PREFIX: usize = 10;

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// To the template: start a process. Four descriptors come along.
    Fork = 1,
    /// To a process: run a task.
    Run = 2,
    /// To a process that runs several tasks: one of them is to hurry, or to end.
    Order = 3,
    /// To the template: the node ends in peace; let the processes end by themselves.
    Stop = 4,
    /// To a process with django-celery-beat's tables: what was sent, and what is known of the rows.
    Look = 5,
    /// To a process: another one was killed at a hard limit, or has died, while it ran a task; those who listen are to hear of it.
    Lost = 6,
    /// To a process: whether the ending that it has told of before its run is over is stored.
    Stored = 7,
    /// To a process: run a task, whose frame comes over the other socket.
    Large = 8,
    /// To the template: the node takes work; those who listen are to hear of it.
    Serving = 9,
    /// To a process: how a task has ended that no process tells of, to be stored, or for those who listen.
    Decided = 10,
    /// To the template: the node lives and has its broker; those who listen are to hear of it.
    Heartbeat = 11,
    /// From the template: the application is loaded, and this is what it says.
    Loaded = 16,
    /// From the template: the application cannot be loaded.
    Failed = 17,
    /// From the template: a process has been started.
    Forked = 18,
    /// From the template: a process has ended.
    Exited = 19,
    /// From a process: it can run tasks.
    Ready = 20,
    /// From a process: a task has ended.
    Done = 21,
    /// From a process: a state of a task's own.
    Progress = 22,
    /// From any: a line for the log.
    Log = 23,
    /// From a process with django-celery-beat's tables: the rows, if they have changed.
    Looked = 24,
    /// From a process: a task has ended, and handlers or errbacks are about to be called there.
    Early = 25,
    /// From a process: one of them has been called.
    Called = 26,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Fork,
            2 => Self::Run,
            3 => Self::Order,
            4 => Self::Stop,
            5 => Self::Look,
            6 => Self::Lost,
            7 => Self::Stored,
            8 => Self::Large,
            9 => Self::Serving,
            10 => Self::Decided,
            11 => Self::Heartbeat,
            16 => Self::Loaded,
            17 => Self::Failed,
            18 => Self::Forked,
            19 => Self::Exited,
            20 => Self::Ready,
            21 => Self::Done,
            22 => Self::Progress,
            23 => Self::Log,
            24 => Self::Looked,
            25 => Self::Early,
            26 => Self::Called,
            _ => return None,
        })
    }
}

/// A frame that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// What it is about.
    pub(super) kind: Kind,
    /// JSON.
    pub(super) head: Bytes,
    /// Whatever the head says.
    pub(super) payload: Bytes,
}

/// The part of a head that says which run its frame is about.
#[derive(Debug, Deserialize)]
pub(super) struct Whose {
    /// The number that its process has for it.
    pub(super) run: u64,
}

/// What a peer sent is no frame.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    /// It speaks otherwise.
    #[error("the Python side sent {0}, which is no frame of this version")]
    Broken(String),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// Writes a frame.
pub(super) fn pack(kind: Kind, head: &[u8], payload: &[u8], out: &mut BytesMut) {
    let length = PREFIX - 4 + head.len() + payload.len();
    out.reserve(length + 4);
    out.put_u32(u32::try_from(length).expect("messages are bounded far below this"));
    out.put_u8(VERSION);
    out.put_u8(kind as u8);
    out.put_u32(u32::try_from(head.len()).expect("a part of the length above"));
    out.put_slice(head);
    out.put_slice(payload);
}

/// A frame with one member more in its head.
pub(super) fn with_member(frame: &[u8], name: &str, value: usize) -> Option<BytesMut> {
    let Frame { kind, head, payload } = parse(&mut BytesMut::from(frame)).ok()??;
    let rest = head.strip_prefix(b"{")?;
    let mut longer = BytesMut::with_capacity(frame.len() + 32);
    let head = [format!("{{\"{name}\":{value},").as_bytes(), rest].concat();
    pack(kind, &head, &payload, &mut longer);
    Some(longer)
}

/// The frames that come from a peer. Its futures may be dropped at any point.
#[derive(Debug)]
pub(super) struct Frames<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::with_capacity(8 << 10) }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// When the peer does not speak the protocol, or the socket fails.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = parse(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Takes a frame off the beginning of `buffer`, if it is there whole.
pub(super) fn parse(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    if buffer.len() < PREFIX {
        return Ok(None);
    }
    let number = |at: usize| u32::from_be_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]) as usize;
    let (length, version, kind, head) = (number(0), buffer[4], buffer[5], number(6));
    if version != VERSION || !(PREFIX - 4..=FRAME_MAX).contains(&length) || head > length - (PREFIX - 4) {
        return Err(FrameError::Broken(format!("version {version}, {length} bytes, {head} of them a head")));
    }
    let Some(kind) = Kind::of(kind) else { return Err(FrameError::Broken(format!("a frame of kind {kind}"))) };
    if buffer.len() < length + 4 {
        buffer.reserve(length + 4 - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(length + 4).freeze();
    frame.advance(PREFIX);
    let head = frame.split_to(head);
    Ok(Some(Frame { kind, head, payload: frame }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is packed comes out again, however the bytes are cut on the way.
    #[tokio::test]
    async fn frames_survive_being_cut() {
        let mut bytes = BytesMut::new();
        pack(Kind::Run, b"{\"run\":1}", b"[[],{},{}]", &mut bytes);
        pack(Kind::Done, b"{}", b"", &mut bytes);
        let (mut here, there) = tokio::io::duplex(3);
        let sent = bytes.to_vec();
        let writer = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut here, &sent).await });
        let mut frames = Frames::new(there);
        let first = frames.next().await.unwrap().unwrap();
        assert_eq!((first.kind, &first.head[..], &first.payload[..]), (Kind::Run, &b"{\"run\":1}"[..], &b"[[],{},{}]"[..]));
        let mut one = BytesMut::new();
        pack(first.kind, &first.head, &first.payload, &mut one);
        let longer = parse(&mut with_member(&one, "slot", 7).unwrap()).unwrap().unwrap();
        assert_eq!((&longer.head[..], &longer.payload), (&b"{\"slot\":7,\"run\":1}"[..], &first.payload));
        assert_eq!(frames.next().await.unwrap().unwrap().kind, Kind::Done);
        writer.await.unwrap().unwrap();
        assert_eq!(frames.next().await.unwrap(), None);
    }

    /// Goal: lengths that lie, versions and kinds that nobody knows are errors, and take no memory.
    #[tokio::test]
    async fn hostile_frames_are_refused() {
        for bytes in [
            [0xff, 0xff, 0xff, 0xff, 1, 2, 0, 0, 0, 0],
            [0, 0, 0, 6, 9, 2, 0, 0, 0, 0],
            [0, 0, 0, 6, 1, 99, 0, 0, 0, 0],
            [0, 0, 0, 6, 1, 2, 0, 0, 0, 1],
            [0, 0, 0, 1, 1, 2, 0, 0, 0, 0],
        ] {
            let error = Frames::new(&bytes[..]).next().await.unwrap_err();
            assert!(matches!(error, FrameError::Broken(_)), "{error:?}");
        }
    }
}
