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
//! **What bounds it.** The socket's buffer, and packets of [`PACKET_MAX`]; a larger run is begun by a packet of one byte, and comes
//! over the other socket.

use std::{io, os::fd::OwnedFd};

use bytes::BytesMut;
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
};

use super::frame::{self, Frame};

/// The largest packet. `bootstrap/wire.py` has the same.
const PACKET_MAX: usize = 32 << 10;

/// Says that the run comes over the other socket.
const LARGE: &[u8] = b"+";

/// A run that was taken back.
#[derive(Debug)]
pub(super) struct Packet(Box<[u8]>);

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

    /// Tells the process that its run comes over the other socket.
    pub(super) fn give_large(&self) {
        self.send(LARGE);
    }

    fn send(&self, packet: &[u8]) -> bool {
        loop {
            match send(&self.ours, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.is_ok(),
            }
        }
    }

    /// Takes back what the process has not received.
    pub(super) fn take_back(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(size) = receive(&self.theirs, &mut self.buffer) {
            packets.push(Packet(self.buffer[..size].into()));
        }
        packets
    }

    /// Gives the process once more what was taken back.
    pub(super) fn give_again(&self, packet: &Packet) {
        self.send(&packet.0);
    }

    /// The frames that have come.
    pub(super) fn passed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(size) = receive(&self.ours, &mut self.buffer) {
            match frame::parse(&mut BytesMut::from(&self.buffer[..size])) {
                Ok(frame) => frames.extend(frame),
                Err(error) => tracing::error!("{error}"),
            }
        }
        frames
    }
}

/// The next packet's size, if there is one now.
fn receive(end: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match recv(end, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((size, _)) => return (size > 0).then_some(size),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is not received can be taken back, and then it is nobody's; what is received cannot.
    #[test]
    fn a_run_is_begun_or_taken_back() {
        let (mut runs, theirs) = Runs::new().unwrap();
        for run in [b"one", b"two", b"six"] {
            assert!(runs.give(run));
        }
        let mut buffer = [0; 16];
        assert_eq!(receive(&theirs, &mut buffer), Some(3));
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(runs.take_back().len(), 2);
        assert_eq!(receive(&theirs, &mut buffer), None);
        assert_eq!(runs.take_back().len(), 0);
    }

    /// Goal: what lies there when the process is gone is still there, and can be told from what it has begun.
    #[test]
    fn the_dead_have_begun_what_they_received() {
        let (mut runs, theirs) = Runs::new().unwrap();
        assert!(runs.give(b"one") && runs.give(b"two"));
        assert_eq!(receive(&theirs, &mut [0; 16]), Some(3));
        drop(theirs);
        assert_eq!(runs.take_back().len(), 1);
    }

    /// Goal: no run is so large, and none are so many, that the node waits for its process.
    #[test]
    fn giving_never_waits() {
        let (mut runs, _theirs) = Runs::new().unwrap();
        assert!(!runs.give(&vec![0; PACKET_MAX + 1]));
        let mut given = 0;
        while runs.give(&vec![0; PACKET_MAX]) {
            given += 1;
        }
        assert!(given > 0);
        assert_eq!(runs.take_back().len(), given);
    }
}
