//! chitchat's transport: sealed datagrams in pieces, within the budget.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chitchat::{
    ChitchatEnvelope, ChitchatMessage,
    transport::{RecvOutcome, SendOutcome, Socket, Transport},
};
use tokio::net::UdpSocket;

use super::{
    budget::Budget,
    codec::Codec,
    keys::KeyRing,
    pieces::{PIECE_MAX, Pieces, cut},
    seal::{OVERHEAD, Opener, Refused, Sealer},
    traffic::Counters,
};
use crate::{clock, fault};

/// How often somebody who is not listened to is mentioned in the log.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Makes the socket of one life of the gossip actor. The port below it outlives the actor.
pub(super) struct SealedTransport {
    pub(super) port: Arc<UdpSocket>,
    pub(super) ring: KeyRing,
    pub(super) bytes_per_second: u32,
    pub(super) counters: Arc<Counters>,
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let sealer = Sealer::new(&self.ring).ok_or_else(|| anyhow::anyhow!("no key can be derived from the cluster's secret"))?;
        Ok(Box::new(SealedSocket {
            port: Arc::clone(&self.port),
            codec: Codec::open().await?,
            sealer,
            opener: Opener::new(self.ring.clone()),
            pieces: Pieces::default(),
            budget: Budget::new(self.bytes_per_second, Instant::now()),
            counters: Arc::clone(&self.counters),
            messages: 0,
            buffer: vec![0; PIECE_MAX + OVERHEAD + 64],
            decoding: None,
            warned: None,
            tidied: Instant::now(),
        }))
    }
}

struct SealedSocket {
    port: Arc<UdpSocket>,
    codec: Codec,
    sealer: Sealer,
    opener: Opener,
    pieces: Pieces,
    budget: Budget,
    counters: Arc<Counters>,
    messages: u16,
    buffer: Vec<u8>,
    /// Whose message the codec has: a future that was dropped in the middle goes on with it.
    decoding: Option<(SocketAddr, usize)>,
    warned: Option<Instant>,
    tidied: Instant,
}

fn seconds() -> u32 {
    u32::try_from(clock::now() / 1000).unwrap_or(u32::MAX)
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.port.local_addr()?)
    }

    async fn send(&mut self, to: SocketAddr, message: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let begins = matches!(message.message, ChitchatMessage::Syn { .. });
        if begins && !self.budget.allows(Instant::now()) {
            Counters::add(&self.counters.withheld, 1);
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        self.messages = self.messages.wrapping_add(1);
        let Some(pieces) = self.codec.encode(message).await?.and_then(|message| cut(message, self.messages)) else {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        };
        let mut num_bytes_sent = 0;
        for piece in pieces {
            let datagram = self.sealer.seal(&piece, seconds()).ok_or_else(|| anyhow::anyhow!("this sender has run out of numbers"))?;
            // A peer that is not there, a route that is gone: what is lost on its way is lost, and said again.
            let Ok(sent) = self.port.send_to(&datagram, to).await else { break };
            self.budget.sent(sent);
            Counters::add(&self.counters.sent, 1);
            Counters::add(&self.counters.sent_bytes, sent);
            num_bytes_sent += sent;
        }
        Ok(SendOutcome { num_bytes_sent })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            if let Some((from_addr, num_bytes_received)) = self.decoding {
                let decoded = self.codec.decoded().await?;
                self.decoding = None;
                if let Some(envelope) = decoded {
                    return Ok(RecvOutcome { from_addr, envelope, num_bytes_received });
                }
            }
            let (length, from) = match self.port.recv_from(&mut self.buffer).await {
                Ok(received) => received,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            if fault::loses_gossip() {
                continue;
            }
            let now = Instant::now();
            if now.duration_since(self.tidied) > WARN_EVERY {
                self.tidied = now;
                self.opener.tidy();
            }
            match self.opener.open(&self.buffer[..length], seconds()) {
                Ok((sender, piece)) => {
                    Counters::add(&self.counters.heard, 1);
                    Counters::add(&self.counters.heard_bytes, length);
                    if let Some(message) = self.pieces.take(sender, &piece, now) {
                        self.codec.feed(&message).await?;
                        self.decoding = Some((from, length));
                    }
                }
                Err(why) => self.refuse(from, why, now),
            }
        }
    }
}

impl SealedSocket {
    fn refuse(&mut self, from: SocketAddr, why: Refused, now: Instant) {
        Counters::add(&self.counters.refused, 1);
        // Networks repeat datagrams.
        if why != Refused::Replayed && self.warned.is_none_or(|at| now.duration_since(at) > WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!(%from, "gossip is not listened to: {why}");
        }
    }
}

/// Errors of earlier sends that the kernel tells the next receiver, and what passes by itself.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::OutOfMemory
            | Kind::Interrupted
    )
}
