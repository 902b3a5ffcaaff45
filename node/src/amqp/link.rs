//! A connection that is always being kept.
//!
//! **What it owns.** One connection to one of the servers, and the task that looks after it. **Who sends to it.** Any task,
//! through channels of its own ([`Link::channel`]). **What bounds it.** [`ANSWER`] for each request ([`answer`]). **When it
//! dies.** Callers get [`AmqpError::Unavailable`] at once while there is no connection; connecting goes on from host to host
//! with jitter, for ever. A server that is frozen is noticed by its missing heartbeats. Dropping the last handle closes the
//! connection and ends the task.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::{sync::watch, time::timeout};

use super::{
    AmqpOptions,
    error::{AmqpError, judge},
    tls::Tls,
    url::Target,
    wire::{self, WiredRuntime},
};
use crate::redis::link::jitter;

/// How long a request may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// How long connecting to one host may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest wait between two attempts to connect; short, because a server that is back should be used within a second.
const PAUSE_MAX: Duration = Duration::from_millis(600);

const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Whether there is a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not yet for the first time.
    Connecting,
    /// Yes.
    Up,
    /// Yes, but the server takes no messages: it is short of memory or disk.
    Blocked {
        /// Since when.
        since: Instant,
        /// In the server's words.
        reason: String,
    },
    /// Not any more; attempts go on.
    Reconnecting {
        /// When it was lost.
        since: Instant,
        /// Why the last attempt failed.
        reason: String,
    },
}

/// A handle; clones share the connection.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    target: Target,
    live: watch::Sender<Option<Live>>,
    state: watch::Sender<LinkState>,
}

/// One connection.
#[derive(Clone)]
pub(crate) struct Live {
    /// Which connection this is.
    pub(crate) epoch: u64,
    connection: Arc<Connection>,
}

/// How many connections there have been.
static EPOCHS: AtomicU64 = AtomicU64::new(1);

impl Link {
    /// A link to `target`, `what` being what it is for. It connects in the background; must be called within a runtime.
    pub fn open(target: Target, options: &AmqpOptions, what: &str) -> Self {
        let inner = Arc::new(Inner { target, live: watch::Sender::new(None), state: watch::Sender::new(LinkState::Connecting) });
        crate::task::spawn(keep(Arc::downgrade(&inner), options.clone(), what.to_owned()));
        Self(inner)
    }

    /// The state, now and from now on.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.0.state.subscribe()
    }

    /// Where it leads to.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// The connection that is used, now and from now on.
    pub(crate) fn lives(&self) -> watch::Receiver<Option<Live>> {
        self.0.live.subscribe()
    }

    /// The connection. Waits for the first one; after that an outage is answered at once.
    pub(crate) async fn live(&self) -> Result<Live, AmqpError> {
        let mut lives = self.lives();
        let mut state = self.0.state.subscribe();
        let waiting = async {
            loop {
                if let Some(live) = lives.borrow_and_update().clone() {
                    return Ok(live);
                }
                if let LinkState::Reconnecting { reason, .. } = &*state.borrow_and_update() {
                    return Err(AmqpError::Unavailable(reason.clone()));
                }
                tokio::select! {
                    changed = lives.changed() => changed.is_err(),
                    changed = state.changed() => changed.is_err(),
                };
            }
        };
        match timeout(ANSWER, waiting).await {
            Ok(live) => live,
            Err(_) => Err(AmqpError::Unavailable(format!("{} does not answer", self.0.target))),
        }
    }

    /// A channel of its own, with the number of its connection.
    pub(crate) async fn channel(&self) -> Result<(u64, Channel), AmqpError> {
        let live = self.live().await?;
        Ok((live.epoch, live.channel().await?))
    }

    /// Why the server takes no messages now, if it does not.
    pub(crate) fn blocked(&self) -> Option<String> {
        match &*self.0.state.borrow() {
            LinkState::Blocked { reason, .. } => Some(reason.clone()),
            _ => None,
        }
    }
}

impl Live {
    /// A channel.
    pub(crate) async fn channel(&self) -> Result<Channel, AmqpError> {
        answer("opening a channel", self.connection.create_channel()).await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("target", &self.0.target).field("state", &*self.0.state.borrow()).finish()
    }
}

/// Awaits the server's answer to `what`, for so long.
pub(crate) async fn answer<T>(what: &str, asked: impl Future<Output = lapin::Result<T>>) -> Result<T, AmqpError> {
    match timeout(ANSWER, asked).await {
        Ok(answered) => answered.map_err(|error| judge(&error, what)),
        Err(_) => Err(AmqpError::Unavailable(format!("{what}: no answer within {ANSWER:?}"))),
    }
}

/// Connects, watches, and connects again, while anybody has a handle.
async fn keep(link: Weak<Inner>, options: AmqpOptions, what: String) {
    let mut pause = PAUSE_MIN;
    let mut lost: Option<Instant> = None;
    let mut turn = 0;
    loop {
        let Some(target) = link.upgrade().map(|inner| inner.target.clone()) else { return };
        match connect(&target, turn, &options, &what).await {
            Ok(connection) => {
                let Some(inner) = link.upgrade() else { return };
                if let Some(since) = lost.take() {
                    tracing::info!(server = %target, after = ?since.elapsed(), "connected to RabbitMQ again");
                }
                pause = PAUSE_MIN;
                let mut events = Box::pin(connection.events_listener());
                let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
                let connection = Arc::new(connection);
                inner.live.send_replace(Some(Live { epoch, connection: Arc::clone(&connection) }));
                inner.state.send_replace(LinkState::Up);
                let mut users = inner.state.clone();
                drop(inner);
                let reason = watch_over(&link, &connection, &mut events, &mut users).await;
                let Some(inner) = link.upgrade() else { return };
                inner.live.send_replace(None);
                tracing::warn!(server = %target, %reason, "the connection to RabbitMQ is lost, connecting again");
                lost = Some(Instant::now());
                inner.state.send_replace(LinkState::Reconnecting { since: Instant::now(), reason });
            }
            Err(error) => {
                let Some(inner) = link.upgrade() else { return };
                let since = *lost.get_or_insert_with(|| {
                    tracing::warn!(server = %target, reason = %error, "cannot connect to RabbitMQ, trying again for ever");
                    Instant::now()
                });
                inner.state.send_replace(LinkState::Reconnecting { since, reason: error.to_string() });
            }
        }
        turn += 1;
        tokio::time::sleep(pause.mul_f64(0.5 + jitter() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Returns when the connection is of no use any more, or nobody has a handle.
async fn watch_over(
    link: &Weak<Inner>,
    connection: &Connection,
    events: &mut (impl futures::Stream<Item = Event> + Unpin),
    state: &mut watch::Sender<LinkState>,
) -> String {
    const LOOK: Duration = Duration::from_millis(200);
    loop {
        tokio::select! {
            event = events.next() => match event {
                // Errors of channels are told here too, and harm nobody else.
                Some(Event::Error(error)) if !connection.status().connected() => return error.to_string(),
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(%reason, "RabbitMQ takes no messages for now");
                    state.send_replace(LinkState::Blocked { since: Instant::now(), reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!("RabbitMQ takes messages again");
                    state.send_replace(LinkState::Up);
                }
                Some(_) => {}
                None => return "the connection has ended".to_owned(),
            },
            // lapin does not tell of every ending; and nobody tells when the last handle goes.
            () = tokio::time::sleep(LOOK) => {
                if link.strong_count() == 0 {
                    return "nobody uses it".to_owned();
                }
                if !connection.status().connected() {
                    return "the connection has ended".to_owned();
                }
            }
        }
    }
}

/// Connects to one of the hosts.
pub(crate) async fn connect(target: &Target, turn: usize, options: &AmqpOptions, what: &str) -> Result<Connection, AmqpError> {
    let host = &target.hosts[turn % target.hosts.len()];
    let at = target.at(host);
    let seconds = |duration: Duration| u16::try_from(duration.as_secs()).unwrap_or(u16::MAX).max(1);
    let uri = AMQPUri {
        scheme: if target.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: target.user.clone(), password: target.password.clone() },
            host: host.0.clone(),
            port: host.1,
        },
        vhost: target.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(target.heartbeat.unwrap_or_else(|| seconds(options.heartbeat))),
            ..AMQPQueryString::default()
        },
    };
    let tls = target.tls.as_ref().map(Tls::config).transpose()?;
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("{} {what}", options.name).into())
        .with_client_property("product".into(), "umbel".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let reach = async move |uri: AMQPUri, _: WiredRuntime| Ok(wire::connect(&uri.authority.host, uri.authority.port, tls.clone()).await?);
    match timeout(CONNECT, Connection::connector(uri, wire::runtime(), reach, properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(AmqpError::Unavailable(format!("{at}: {error}"))),
        Err(_) => Err(AmqpError::Unavailable(format!("{at} does not answer"))),
    }
}
