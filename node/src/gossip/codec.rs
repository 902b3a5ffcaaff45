//! chitchat's messages as bytes.
//!
//! chitchat 0.13 keeps its wire format to itself: only its own UDP socket can write and read it. So one of those, on loopback,
//! serves as the codec: what it sends to us is the encoding, and what we send to it comes out decoded. It listens to nobody
//! else on the machine: its messages name their sender, and only ours counts.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use chitchat::{
    ChitchatEnvelope,
    transport::{Socket, UdpSocket as ChitchatSocket},
};
use tokio::{net::UdpSocket, time::timeout};

/// The longest message: what chitchat allows itself.
const MESSAGE_MAX: usize = 65_507;

/// How long the kernel may take to carry a datagram over loopback.
const PATIENCE: Duration = Duration::from_millis(200);

/// The codec.
pub(super) struct Codec {
    inner: ChitchatSocket,
    inner_address: SocketAddr,
    outer: UdpSocket,
    outer_address: SocketAddr,
    buffer: Vec<u8>,
}

impl Codec {
    pub(super) async fn open() -> io::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let inner = ChitchatSocket::open(loopback).await.map_err(io::Error::other)?;
        let inner_address = inner.local_addr().map_err(io::Error::other)?;
        let outer = UdpSocket::bind(loopback).await?;
        // From here on the kernel drops what others on this machine send to it.
        outer.connect(inner_address).await?;
        Ok(Self { inner, inner_address, outer_address: outer.local_addr()?, outer, buffer: vec![0; MESSAGE_MAX] })
    }

    /// The bytes of a message; `None` when they did not arrive, which is a message lost like any other.
    pub(super) async fn encode(&mut self, message: ChitchatEnvelope) -> io::Result<Option<&[u8]>> {
        debug_assert_ne!(self.inner_address, self.outer_address);
        self.inner.send(self.outer_address, message).await.map_err(io::Error::other)?;
        match timeout(PATIENCE, self.outer.recv(&mut self.buffer)).await {
            Ok(length) => Ok(Some(&self.buffer[..length?])),
            Err(_) => Ok(None),
        }
    }

    /// Hands bytes over to be decoded. [`Codec::decoded`] has the message.
    pub(super) async fn feed(&self, bytes: &[u8]) -> io::Result<()> {
        self.outer.send(bytes).await.map(drop)
    }

    /// The message that was handed over; `None` when it is none that this version of chitchat understands. Dropping the future
    /// loses nothing.
    pub(super) async fn decoded(&mut self) -> io::Result<Option<ChitchatEnvelope>> {
        let reading = async {
            loop {
                let read = self.inner.recv().await.map_err(io::Error::other)?;
                if read.from_addr == self.outer_address {
                    return Ok(read.envelope);
                }
            }
        };
        timeout(PATIENCE, reading).await.ok().transpose()
    }
}
