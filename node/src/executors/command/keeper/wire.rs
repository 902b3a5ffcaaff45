//! The request as it crosses the socket: four bytes of length, which carry the descriptors, then JSON.

use std::{
    io::{self, IoSlice, IoSliceMut, Read},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::Request;

/// stdin, stdout, stderr and progress: the command's ends.
pub(super) const DESCRIPTORS: usize = 4;

/// Linux gives a command line and an environment no more than this.
const REQUEST_MAX: usize = 8 << 20;

/// Sends the length and the descriptors. The socket is new and empty, so this does not block.
///
/// # Errors
/// When the keeper is gone or the request is larger than any command line may be.
pub(super) fn send_head(socket: &UnixStream, length: usize, descriptors: &[BorrowedFd<'_>; DESCRIPTORS]) -> io::Result<()> {
    if length > REQUEST_MAX {
        return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, "the arguments are larger than a command line may be"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "the space is made for them");
    let head = u32::try_from(length).expect("checked above").to_be_bytes();
    let sent = sendmsg(socket, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == head.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Waits for the request; `None` when the node is gone before it has come whole.
///
/// # Errors
/// When it is not a request.
pub(super) fn receive(mut socket: &UnixStream) -> io::Result<Option<(Request, [OwnedFd; DESCRIPTORS])>> {
    let mut head = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    let (4, Ok(descriptors)) = (message.bytes, descriptors.try_into()) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(head) as usize;
    if length > REQUEST_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    if socket.read_exact(&mut json).is_err() {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&json)?, descriptors)))
}
