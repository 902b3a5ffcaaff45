//! A private Redis server.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Client, Connection, Value};

use crate::wait::until;

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Whether every write is on the disk before it is answered; a server without it forgets all when it ends.
    pub durable: bool,
    /// A user and password without which nobody gets in.
    pub login: Option<(String, String)>,
    /// Whether it speaks TLS, and only to those who show a certificate.
    pub tls: bool,
    /// More options, as on its command line.
    pub options: Vec<String>,
}

/// A running server with a folder of its own. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    setup: Setup,
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Default for RedisServer {
    fn default() -> Self {
        Self::start(Setup::default())
    }
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When there is no `redis-server`, or it does not start.
    pub fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if setup.tls {
            certificates(folder.path());
        }
        let mut server = Self { setup, port: free_port(), folder, child: None };
        server.restart();
        server
    }

    /// A server whose every write is on the disk before it is answered.
    pub fn durable() -> Self {
        Self::start(Setup { durable: true, ..Setup::default() })
    }

    /// Starts it again, after [`RedisServer::stop`] or [`RedisServer::kill`], on the same port with the same data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        self.child = Some(self.command().spawn().expect("redis-server is installed; run tests/setup"));
        until("the server answers", || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                assert!(log.contains("Address already in use"), "redis-server ended with {status}: {log}");
                // Somebody else took the port between our looking and the server's: another one, then.
                self.port = free_port();
                self.child = Some(self.command().spawn().unwrap());
                return None;
            }
            let mut connection = self.connect().ok()?;
            // A server that is still reading its file refuses.
            redis::cmd("PING").query::<String>(&mut connection).ok()?;
            let info: String = redis::cmd("INFO").arg("server").query(&mut connection).ok()?;
            info.contains(&format!("process_id:{}\r", self.pid())).then_some(())
        });
    }

    fn command(&self) -> Command {
        let mut command = Command::new("redis-server");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let folder = self.folder.path();
        command.arg("--dir").arg(folder).arg("--logfile").arg(folder.join("log")).args(["--save", "", "--bind", "127.0.0.1"]);
        command.arg("--unixsocket").arg(self.socket()).args(["--unixsocketperm", "700"]);
        let port = self.port.to_string();
        if self.setup.tls {
            command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "yes"]);
            for (option, file) in [("--tls-cert-file", "server.crt"), ("--tls-key-file", "server.key"), ("--tls-ca-cert-file", "ca.crt")] {
                command.arg(option).arg(folder.join(file));
            }
        } else {
            command.args(["--port", &port]);
        }
        if self.setup.durable {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        if let Some((user, password)) = &self.setup.login {
            command.args(["--user", "default", "off", "--user", user, "on", &format!(">{password}"), "~*", "&*", "+@all"]);
        }
        command.args(&self.setup.options);
        command
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        // The unix socket works whatever the TLS settings.
        let login = self.setup.login.as_ref().map_or(String::new(), |(user, password)| format!("user={user}&pass={}", encoded(password)));
        let client = Client::open(format!("redis+unix://{}?{login}", self.socket().display()))?;
        client.get_connection_with_timeout(Duration::from_secs(2))
    }

    /// Runs a command: `server.run(&["LLEN", "celery"])`.
    ///
    /// # Panics
    /// When the server does not answer or refuses.
    pub fn run(&self, words: &[&str]) -> Value {
        self.ask(words)
    }

    /// Runs a command and reads the answer.
    ///
    /// # Panics
    /// When the server does not answer or refuses, or answers with something else.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.connect().unwrap()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Its folder, where the certificates are: `ca.crt`, `client.crt` and `client.key`.
    pub fn certificates(&self) -> &Path {
        self.folder.path()
    }

    /// The address of a database, as Celery writes it.
    pub fn url(&self, db: u8) -> String {
        let login = self.setup.login.as_ref().map_or(String::new(), |(user, password)| format!("{user}:{}@", encoded(password)));
        if !self.setup.tls {
            return format!("redis://{login}127.0.0.1:{}/{db}", self.port);
        }
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "rediss://{login}127.0.0.1:{}/{db}?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={}&ssl_certfile={}&ssl_keyfile={}",
            self.port,
            file("ca.crt"),
            file("client.crt"),
            file("client.key")
        )
    }

    /// The address of a database by the unix socket.
    pub fn socket_url(&self, db: u8) -> String {
        format!("redis+socket://{}?virtual_host={db}", self.socket().display())
    }

    /// The unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Ends it in peace.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.child.take().unwrap().wait().unwrap();
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Freezes it: it neither answers nor closes connections.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Cuts every connection of ordinary clients.
    pub fn cut(&self) {
        self.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Watches over a master, as a sentinel of its own.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    folder: tempfile::TempDir,
    child: Child,
}

impl Sentinel {
    /// Starts a sentinel for `master` under a name.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(name: &str, master: &RedisServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {} 1\nsentinel down-after-milliseconds {name} 500\n\
             sentinel failover-timeout {name} 2000\n",
            folder.path().display(),
            master.port()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&config).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("redis-server is installed; run tests/setup");
        let sentinel = Self { port, folder, child };
        until("the sentinel knows the master", || sentinel.master(name));
        sentinel
    }

    /// The port of the master, as the sentinel knows it.
    pub fn master(&self, name: &str) -> Option<u16> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
        let found: Option<(String, u16)> = redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(name).query(&mut connection).ok()?;
        found.map(|(_, port)| port)
    }

    /// How many replicas of the master it can choose from.
    pub fn replicas(&self, name: &str) -> Option<usize> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
        let found: Vec<std::collections::HashMap<String, String>> =
            redis::cmd("SENTINEL").arg("replicas").arg(name).query(&mut connection).ok()?;
        Some(found.iter().filter(|replica| replica.get("master-link-status").is_some_and(|status| status == "ok")).count())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `text` as it is written in a URL.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An authority of the test's own, and certificates by it for the server and for a client.
pub(super) fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output().expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=test-authority"));
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    for who in ["server", "client"] {
        openssl(&format!("req {key} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
        openssl(&format!("x509 -req -in {who}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {who}.crt -days 2 -extfile names"));
    }
}
