//! The wire to a RabbitMQ server: TCP, or TLS over it, handed to lapin ready to use.
//!
//! **What it owns.** Nothing: a wire belongs to the connection it was made for. **Who sends to it.** [`link`](super::link),
//! once for each attempt to connect. **What bounds it.** The caller's time limit. **When it dies.** lapin tells the link.
//!
//! lapin's own TLS would bring readers of PKCS #12 and of half a dozen other formats, 55 crates, for files that are PEM here; so it is
//! built without, and gets its wires from here.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures::{AsyncRead, AsyncWrite, Stream};
use lapin::AsyncTcpStream;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// What lapin runs on: tokio, but for its wires.
pub(super) type WiredRuntime = Runtime<RuntimeParts<Tokio, Wires>>;

/// The runtime this is called in.
pub(super) fn runtime() -> WiredRuntime {
    let tokio = Tokio::current();
    Runtime::new(RuntimeParts::new(tokio.clone(), Wires(tokio)))
}

/// Connects to a server, whose certificate is verified if there is a TLS configuration.
///
/// # Errors
///
/// No address, no answer, or no trust.
pub(super) async fn connect(host: &str, port: u16, tls: Option<Arc<ClientConfig>>) -> io::Result<AsyncTcpStream<Wire>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let wire = match tls {
        None => Wire::Plain(stream.compat()),
        Some(config) => {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Wire::Tls(Box::new(TlsConnector::from(config).connect(name, stream).await?.compat()))
        }
    };
    Ok(AsyncTcpStream::Plain(wire))
}

/// A connected wire.
pub(super) enum Wire {
    /// As it is.
    Plain(Compat<TcpStream>),
    /// Encrypted.
    Tls(Box<Compat<TlsStream<TcpStream>>>),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_read(context, into),
            Self::Tls(wire) => Pin::new(wire).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write(context, bytes),
            Self::Tls(wire) => Pin::new(wire).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_flush(context),
            Self::Tls(wire) => Pin::new(wire).poll_flush(context),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_close(context),
            Self::Tls(wire) => Pin::new(wire).poll_close(context),
        }
    }
}

/// tokio's reactor, whose streams are wires.
#[derive(Debug, Clone)]
pub(super) struct Wires(Tokio);

impl Reactor for Wires {
    type TcpStream = Wire;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Wire::Plain(connecting.await?.into_inner().compat())) }
    }
}
