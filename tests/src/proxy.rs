//! A TCP proxy that can stop forwarding: to both ends the network drops every packet, and no connection breaks.
//!
//! It can do so for all connections, or only for those on which the client has said a certain word.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// A proxy before one server. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    open_to_marked: watch::Sender<bool>,
    accepted: Arc<AtomicU64>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a free port before `server`; a connection is marked when the client says `word` within one packet.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn before(server: SocketAddr, word: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, open_to_marked, accepted) = (watch::Sender::new(true), watch::Sender::new(true), Arc::new(AtomicU64::new(0)));
        let (gates, count) = ((open.subscribe(), open_to_marked.subscribe()), Arc::clone(&accepted));
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let gates = Gates { all: gates.0.clone(), marked: gates.1.clone(), is_marked: Arc::default() };
                connections.spawn(connect(client, server, gates, word.as_bytes()));
            }
        });
        Self { address, open, open_to_marked, accepted, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has taken.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// From now on nothing gets through, in either direction.
    pub fn drop_packets(&self) {
        self.open.send_replace(false);
    }

    /// From now on nothing gets through on marked connections.
    pub fn drop_packets_of_marked(&self) {
        self.open_to_marked.send_replace(false);
    }

    /// What was held up gets through, as packets that are sent again do.
    pub fn heal(&self) {
        self.open.send_replace(true);
        self.open_to_marked.send_replace(true);
    }
}

/// What a connection has to pass.
#[derive(Debug, Clone)]
struct Gates {
    all: watch::Receiver<bool>,
    marked: watch::Receiver<bool>,
    is_marked: Arc<AtomicBool>,
}

impl Gates {
    /// Waits until a packet may pass; an error means that the proxy is gone.
    async fn pass(&mut self) -> Result<(), watch::error::RecvError> {
        self.all.wait_for(|open| *open).await?;
        if self.is_marked.load(Ordering::Relaxed) {
            self.marked.wait_for(|open| *open).await?;
        }
        Ok(())
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut gates: Gates, word: &[u8]) {
    if gates.pass().await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    // A proxy that waits for more to send would be what is measured.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // Either end closing closes the other: the halves go with the futures.
    tokio::select! {
        () = forward(from_client, to_server, gates.clone(), word) => {}
        () = forward(from_server, to_client, gates, b"") => {}
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gates: Gates, word: &[u8]) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let packet = &buffer[..count];
                if !word.is_empty() && packet.windows(word.len()).any(|part| part == word) {
                    gates.is_marked.store(true, Ordering::Relaxed);
                }
                if gates.pass().await.is_err() || to.write_all(packet).await.is_err() {
                    return;
                }
            }
        }
    }
}
