//! A connection that is always being kept.
//!
//! **What it owns.** One connection to one database of one server, and the task that looks after it. **Who sends to it.** Any
//! task, through [`Link::run`] and [`Link::script`]; commands are pipelined in the order they are given. **What bounds it.**
//! [`ANSWER`] for each command. **When it dies.** The connection is given up as soon as a command is not answered in time or
//! the socket breaks; callers get [`RedisError::Unavailable`] at once while there is none, and reconnecting goes on with jitter
//! for ever. Dropping the last handle ends the task.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use tokio::sync::{mpsc, watch};

use super::{
    error::{RedisError, breaks, judge},
    script::Script,
    sentinel, tls,
    url::{Address, Target},
};

/// How long a command may take. A server that is frozen for longer is treated as gone.
pub(crate) const ANSWER: Duration = Duration::from_secs(4);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a server may take to accept a connection. Where packets are dropped, a TCP connection tries again after one, three and
/// seven seconds; beginning anew sooner finds the server sooner when it is back.
const REACH: Duration = Duration::from_millis(1500);

/// How often a connection is tried that only listens, and on which nothing is heard: what is not heard is not missed otherwise.
const PING: Duration = Duration::from_secs(6);

/// How often one is tried that nobody uses: whoever uses it finds out as well.
const PING_UNUSED: Duration = Duration::from_secs(15);

/// The longest wait between two attempts to connect; short, because a server that is back should be used within seconds.
const PAUSE_MAX: Duration = Duration::from_millis(800);

const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Whether there is a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not yet for the first time.
    Connecting,
    /// Yes.
    Up,
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
    connection: watch::Sender<Option<Live>>,
    state: watch::Sender<LinkState>,
    broken: mpsc::Sender<u64>,
}

/// One connection.
#[derive(Clone)]
struct Live {
    /// Which connection this is; errors of an older one do not harm a newer one.
    epoch: u64,
    connection: MultiplexedConnection,
    /// How many commands have been answered and how much has been heard, so that a connection in use is not tried as well.
    answered: Arc<AtomicU64>,
}

/// Hears the server's own messages, on the connection's task and in their order with answers: it must not block.
pub(crate) type Hearer = Arc<dyn Fn(PushInfo) + Send + Sync>;

impl Live {
    /// Sends a command. What the server answers with an error is an error, which the library leaves to the caller.
    async fn ask(&mut self, command: &Cmd) -> redis::RedisResult<Value> {
        let answer = self.connection.req_packed_command(command).await;
        self.answered.fetch_add(u64::from(answer.is_ok()), Ordering::Relaxed);
        answer.and_then(Value::extract_error)
    }
}

/// What a link does besides answering commands.
#[derive(Clone, Default)]
pub(crate) struct Habits {
    /// Commands for each new connection, before anybody else's.
    pub(crate) greeting: Vec<Vec<String>>,
    /// Where the server's own messages go (invalidations, publications); a disconnection is one of them.
    pub(crate) pushes: Option<Hearer>,
}

impl Link {
    /// A link to `target`. It connects in the background; must be called within a runtime.
    pub fn open(target: Target) -> Self {
        Self::with_habits(target, Habits::default())
    }

    pub(crate) fn with_habits(target: Target, habits: Habits) -> Self {
        let (broken, reports) = mpsc::channel(8);
        let inner =
            Arc::new(Inner { target, connection: watch::Sender::new(None), state: watch::Sender::new(LinkState::Connecting), broken });
        crate::task::spawn(keep(Arc::downgrade(&inner), habits, reports));
        Self(inner)
    }

    /// The server.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// The state, now and from now on.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.0.state.subscribe()
    }

    /// Waits until there is a connection, but not for longer than [`ANSWER`].
    async fn live(&self) -> Result<Live, RedisError> {
        if let Some(live) = &*self.0.connection.borrow() {
            return Ok(live.clone());
        }
        let mut connection = self.0.connection.subscribe();
        let live = tokio::time::timeout(ANSWER, connection.wait_for(Option::is_some)).await;
        match live {
            Ok(Ok(live)) => live.clone().ok_or_else(|| self.down()),
            _ => Err(self.down()),
        }
    }

    fn down(&self) -> RedisError {
        let reason = match &*self.0.state.borrow() {
            LinkState::Reconnecting { reason, .. } => format!("there is no connection now: {reason}"),
            _ => format!("{}: there is no connection yet", self.0.target),
        };
        RedisError::Unavailable(reason)
    }

    fn failed(&self, epoch: u64, error: &redis::RedisError) -> RedisError {
        if breaks(error) {
            // A full channel holds a report already.
            let _ = self.0.broken.try_send(epoch);
        }
        judge(error, &self.0.target.to_string())
    }

    /// Sends a command and awaits the answer.
    pub(crate) async fn run(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut live = self.live().await?;
        live.ask(command).await.map_err(|error| self.failed(live.epoch, &error))
    }

    /// As [`Link::run`], with the answer read as a `T`.
    pub(crate) async fn query<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let value = self.run(command).await?;
        redis::from_redis_value(value).map_err(|_| RedisError::strange("a command"))
    }

    /// Sends commands together and awaits all answers.
    pub(crate) async fn pipeline<T: redis::FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, RedisError> {
        let mut live = self.live().await?;
        pipeline.query_async(&mut live.connection).await.map_err(|error| self.failed(live.epoch, &error))
    }

    /// Has the server tell of what is published on channels; needs a link that hears.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<(), RedisError> {
        let mut live = self.live().await?;
        live.connection.subscribe(channels).await.map_err(|error| self.failed(live.epoch, &error))
    }

    /// No longer.
    pub(crate) async fn unsubscribe(&self, channels: &[String]) -> Result<(), RedisError> {
        let mut live = self.live().await?;
        live.connection.unsubscribe(channels).await.map_err(|error| self.failed(live.epoch, &error))
    }

    /// Calls a script; `call` is made with [`Script::call`].
    pub(crate) async fn script(&self, script: &Script, call: &Cmd) -> Result<Value, RedisError> {
        let mut live = self.live().await?;
        let mut loaded = false;
        loop {
            match live.ask(call).await {
                Ok(value) => return Ok(value),
                Err(error) if !loaded && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    loaded = true;
                    live.ask(&script.load()).await.map_err(|error| self.failed(live.epoch, &error))?;
                }
                Err(error) => {
                    return Err(match self.failed(live.epoch, &error) {
                        RedisError::Refused(reason) => RedisError::Refused(format!("script {}: {reason}", script.name)),
                        unavailable @ RedisError::Unavailable(_) => unavailable,
                    });
                }
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("target", &self.0.target).field("state", &*self.0.state.borrow()).finish()
    }
}

/// Connects, watches, and connects again, while anybody has a handle.
async fn keep(link: Weak<Inner>, habits: Habits, mut reports: mpsc::Receiver<u64>) {
    let mut epoch = 0;
    let mut pause = PAUSE_MIN;
    let mut lost: Option<Instant> = None;
    loop {
        let Some(target) = link.upgrade().map(|inner| inner.target.clone()) else { return };
        let answered = Arc::default();
        match connect(&target, &habits, &answered).await {
            Ok(connection) => {
                epoch += 1;
                let Some(inner) = link.upgrade() else { return };
                if let Some(since) = lost.take() {
                    tracing::info!(server = %target, after = ?since.elapsed(), "connected to Redis again");
                }
                pause = PAUSE_MIN;
                let live = Live { epoch, connection, answered };
                inner.connection.send_replace(Some(live.clone()));
                // Whoever relied on the connection before has to begin again with this one.
                if let Some(pushes) = habits.pushes.as_ref().filter(|_| epoch > 1) {
                    pushes(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
                }
                inner.state.send_replace(LinkState::Up);
                drop(inner);
                let pause = if habits.pushes.is_some() { PING } else { PING_UNUSED };
                let reason = watch_over(&link, live, pause, &mut reports).await;
                let Some(inner) = link.upgrade() else { return };
                inner.connection.send_replace(None);
                if let Some(pushes) = &habits.pushes {
                    pushes(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
                }
                tracing::warn!(server = %target, %reason, "the connection to Redis is lost, connecting again");
                lost = Some(Instant::now());
                inner.state.send_replace(LinkState::Reconnecting { since: Instant::now(), reason });
            }
            Err(error) => {
                let Some(inner) = link.upgrade() else { return };
                let since = *lost.get_or_insert_with(|| {
                    tracing::warn!(server = %target, reason = %error, "cannot connect to Redis, trying again for ever");
                    Instant::now()
                });
                inner.state.send_replace(LinkState::Reconnecting { since, reason: error.to_string() });
            }
        }
        tokio::time::sleep(pause.mul_f64(0.5 + jitter() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Returns when the connection is of no use any more, or nobody has a handle.
async fn watch_over(link: &Weak<Inner>, mut live: Live, pause: Duration, reports: &mut mpsc::Receiver<u64>) -> String {
    loop {
        let answered = live.answered.load(Ordering::Relaxed);
        tokio::select! {
            report = reports.recv() => match report {
                Some(epoch) if epoch == live.epoch => return "a command was not answered".to_owned(),
                Some(_) => {}
                None => return "nobody uses it".to_owned(),
            },
            () = tokio::time::sleep(pause) => {
                if link.strong_count() == 0 {
                    return "nobody uses it".to_owned();
                }
                if live.answered.load(Ordering::Relaxed) == answered
                    && let Err(error) = live.ask(&redis::cmd("PING")).await
                    && breaks(&error)
                {
                    return judge(&error, "the server").to_string();
                }
            }
        }
    }
}

async fn connect(target: &Target, habits: &Habits, heard: &Arc<AtomicU64>) -> Result<MultiplexedConnection, RedisError> {
    let at = target.to_string();
    let judged = |error: redis::RedisError| judge(&error, &at);
    let (host, port) = match &target.address {
        Address::Tcp(host, port) => (host.clone(), *port),
        Address::Unix(_) => (String::new(), 0),
        Address::Sentinel { hosts, master, password } => sentinel::master(hosts, master, password.as_deref(), CONNECT).await?,
    };
    if port != 0 {
        reach(&host, port).await.map_err(|reason| RedisError::Unavailable(format!("{at}: {reason}")))?;
    }
    let address = match (&target.address, &target.tls) {
        (Address::Unix(path), _) => ConnectionAddr::Unix(path.clone()),
        (_, Some(tls)) => ConnectionAddr::TcpTls { host, port, insecure: tls.unverified, tls_params: None },
        (_, None) => ConnectionAddr::Tcp(host, port),
    };
    let mut settings = RedisConnectionInfo::default().set_db(target.db).set_lib_name("umbel", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &target.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &target.password {
        settings = settings.set_password(password);
    }
    let mut config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
    if let Some(pushes) = &habits.pushes {
        settings = settings.set_protocol(ProtocolVersion::RESP3);
        let (pushes, heard) = (Arc::clone(pushes), Arc::clone(heard));
        config = config.set_push_sender(move |push| -> Result<(), redis::aio::SendError> {
            heard.fetch_add(1, Ordering::Relaxed);
            pushes(push);
            Ok(())
        });
    }
    let tcp = TcpSettings::default().set_nodelay(true);
    let info = address.into_connection_info().map_err(judged)?.set_redis_settings(settings).set_tcp_settings(tcp);
    let client = match &target.tls {
        Some(tls) => {
            tls::provide();
            Client::build_with_tls(info, tls.certificates()?).map_err(judged)?
        }
        None => Client::open(info).map_err(judged)?,
    };
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = match tokio::time::timeout(CONNECT + ANSWER, connecting).await {
        Ok(connection) => connection.map_err(judged)?,
        Err(_) => return Err(RedisError::Unavailable(format!("{at} does not answer"))),
    };
    for words in &habits.greeting {
        let mut command = Cmd::new();
        for word in words {
            command.arg(word);
        }
        connection.req_packed_command(&command).await.and_then(Value::extract_error).map_err(judged)?;
    }
    Ok(connection)
}

/// Whether a server takes connections at all.
async fn reach(host: &str, port: u16) -> Result<(), String> {
    match tokio::time::timeout(REACH, tokio::net::TcpStream::connect((host, port))).await {
        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("it takes no connection within {} ms", REACH.as_millis())),
    }
}

/// A number from `[0, 1)`, good enough to keep many nodes from coming at once.
pub(crate) fn jitter() -> f64 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    f64::from(u16::from_be_bytes([bytes[0], bytes[1]])) / 65536.0
}
