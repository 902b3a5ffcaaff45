//! What a process's runs come over: a socket of packets, one for each run, whose both ends the node has.
//!
//! A run has begun when the process has received its packet, and it receives one at a time. The node may receive at the process's end
//! as well. So the kernel decides for both, once and for all, whether a run has begun or was taken back, whatever the process is
//! doing, and after its death what lies there had not begun.
//!
//! In the other direction come the endings of runs after which the process has another one already: nobody is woken by them. The node
//! looks for them now and then while there is more than one run, as it knows that something follows. The last ending of a batch,
//! and every one that is large, comes over the process's other socket.
//!
//! **What bounds it.** The socket's buffer, and packets of [`PACKET_MAX`]; of a larger run only the number comes in a packet, and the
//! rest over the other socket.

use std::{io, os::fd::OwnedFd};

use bytes::BytesMut;
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
};

use super::frame::{self, Frame, Kind, Whose};

/// The largest packet. `bootstrap/wire.py` has the same.
const PACKET_MAX: usize = 32 << 10;

/// The node's ends.
#[derive(Debug)]
pub(super) struct Runs {
    ours: OwnedFd,
    /// The process's own: it stays open when that is gone.
    theirs: OwnedFd,
    buffer: Box<[u8]>,
}

impl Runs {
    /// The socket, and the process's end of it.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        // It blocks, for the process; the node asks each time that it does not.
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let end = theirs.try_clone()?;
        Ok((Self { ours, theirs, buffer: vec![0; PACKET_MAX].into_boxed_slice() }, end))
    }

    /// Gives the process a run. `false` when it is too large, or there is no room.
    pub(super) fn give(&self, frame: &[u8]) -> bool {
        frame.len() <= PACKET_MAX && self.send(frame)
    }

    /// Tells the process that the run with this number comes over the other socket.
    pub(super) fn give_large(&self, run: u64) {
        let mut packet = BytesMut::new();
        frame::pack(Kind::Large, format!("{{\"run\":{run}}}").as_bytes(), b"", &mut packet);
        self.send(&packet);
    }

    fn send(&self, packet: &[u8]) -> bool {
        loop {
            match send(&self.ours, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.is_ok(),
            }
        }
    }

    /// The run that the process will receive next. What it has received, it did in the order that it was given: if this one lies there, so does
    /// all that was given behind it.
    pub(super) fn next(&mut self) -> Option<u64> {
        let size = receive(&self.theirs, &mut self.buffer, RecvFlags::PEEK)?;
        run(&self.buffer[..size])
    }

    /// Takes back what the process has not received, and tells which runs these are. The process may receive meanwhile, so that they
    /// need not be the last ones, nor all in a row.
    pub(super) fn take_back(&mut self) -> Vec<u64> {
        let mut runs = Vec::new();
        while let Some(size) = receive(&self.theirs, &mut self.buffer, RecvFlags::empty()) {
            runs.extend(run(&self.buffer[..size]));
        }
        runs
    }

    /// The frames that have come, or what came instead.
    pub(super) fn passed(&mut self) -> Vec<Result<Frame, String>> {
        let mut frames = Vec::new();
        while let Some(size) = receive(&self.ours, &mut self.buffer, RecvFlags::empty()) {
            let frame = frame::parse(&mut BytesMut::from(&self.buffer[..size])).map_err(|error| error.to_string());
            frames.push(frame.and_then(|frame| frame.ok_or_else(|| "it told a part of the end of a run".to_owned())));
        }
        frames
    }
}

/// The run that a packet of the node's is about.
fn run(packet: &[u8]) -> Option<u64> {
    let frame = frame::parse(&mut BytesMut::from(packet)).ok()??;
    serde_json::from_slice(&frame.head).ok().map(|Whose { run }| run)
}

/// The next packet's size, if there is one now.
fn receive(end: &OwnedFd, buffer: &mut [u8], flags: RecvFlags) -> Option<usize> {
    loop {
        match recv(end, &mut *buffer, flags | RecvFlags::DONTWAIT) {
            Ok((size, _)) => return (size > 0).then_some(size),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, thread};

    use super::*;

    fn packet(run: u64, payload: &[u8]) -> BytesMut {
        let mut packet = BytesMut::new();
        frame::pack(Kind::Run, format!("{{\"run\":{run}}}").as_bytes(), payload, &mut packet);
        packet
    }

    /// Gives these, each as a packet.
    fn give(runs: &Runs, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| assert!(runs.give(&packet(number, b""))));
    }

    /// As the process receives it.
    fn received(theirs: &OwnedFd, flags: RecvFlags) -> Option<u64> {
        let mut buffer = [0; 64];
        let (size, _) = recv(theirs, &mut buffer, flags).ok()?;
        run(&buffer[..size])
    }

    /// Goal: what is not received can be taken back, and then it is nobody's; what is received cannot. The same after its death.
    #[test]
    fn a_run_is_begun_or_taken_back() {
        let (mut runs, theirs) = Runs::new().unwrap();
        give(&runs, 1..3);
        runs.give_large(3);
        assert_eq!(runs.next(), Some(1));
        assert_eq!(received(&theirs, RecvFlags::DONTWAIT), Some(1));
        assert_eq!(runs.next(), Some(2));
        assert_eq!(runs.take_back(), [2, 3]);
        assert_eq!(received(&theirs, RecvFlags::DONTWAIT), None);
        assert_eq!((runs.next(), runs.take_back()), (None, Vec::new()));
        give(&runs, 4..6);
        assert_eq!(received(&theirs, RecvFlags::empty()), Some(4));
        drop(theirs);
        assert_eq!(runs.take_back(), [5], "the dead have begun what they received");
    }

    /// Goal: the same whatever the process does meanwhile. Method: it receives while the node takes back, and what both have is all
    /// there is, and each of it once.
    #[test]
    fn a_run_is_begun_or_taken_back_at_any_time() {
        let (mut runs, theirs) = Runs::new().unwrap();
        let process = thread::spawn(move || {
            let mut begun = Vec::new();
            while let Some(run) = received(&theirs, RecvFlags::empty()) {
                begun.push(run);
                thread::yield_now();
            }
            begun
        });
        let mut taken = Vec::new();
        for round in 0..2000 {
            give(&runs, round * 16..(round + 1) * 16);
            taken.extend(runs.take_back());
        }
        drop(runs);
        let begun = process.join().unwrap();
        let all: BTreeSet<u64> = begun.iter().chain(&taken).copied().collect();
        assert_eq!(all, (0..32_000).collect());
        assert_eq!(begun.len() + taken.len(), all.len(), "none is there twice");
    }

    /// Goal: no run is so large, and none are so many, that the node waits for its process.
    #[test]
    fn giving_never_waits() {
        let (mut runs, _theirs) = Runs::new().unwrap();
        assert!(!runs.give(&packet(0, &vec![0; PACKET_MAX])));
        let mut given = 0;
        while runs.give(&packet(given, &vec![0; PACKET_MAX / 2])) {
            given += 1;
        }
        assert!(given > 0);
        assert_eq!(runs.take_back(), (0..given).collect::<Vec<_>>());
    }
}
