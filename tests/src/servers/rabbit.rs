//! RabbitMQ servers: one that all tests of a run share, each with a virtual host of its own, and private ones for tests that
//! kill the server.
//!
//! Starting a server takes seconds and every test is a process of its own; so the first that needs it starts it, under a file
//! lock, others find it, and it ends by itself when nobody has used it for a while (`rabbit.sh`). The Erlang machine gets one
//! scheduler. Nothing outside the server's folder is touched: its ports, its data, its port mapper and its cookie are its own.

use std::{
    collections::hash_map::DefaultHasher,
    fs::{self, File, OpenOptions},
    hash::{Hash, Hasher},
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::redis::{certificates, free_port};

/// How long a server may take to start; on a machine whose processors are all taken, that is long.
const START: Duration = Duration::from_secs(240);

/// How long the shared server stays when nobody uses it.
const IDLE_SECS: u32 = 20;

/// A virtual host on the shared server. Dropping it removes it.
#[derive(Debug)]
pub struct Vhost {
    name: String,
    port: u16,
    management: u16,
    _users: File,
}

impl Vhost {
    /// A new virtual host; starts the server if it does not run.
    ///
    /// # Panics
    /// When there is no RabbitMQ, or it does not start.
    pub fn new() -> Self {
        let (port, management, users) = shared();
        let name = format!("test-{:016x}", unique());
        let vhost = Self { name, port, management, _users: users };
        vhost.manage("PUT", &format!("/api/vhosts/{}", vhost.name), "{}");
        vhost.manage("PUT", &format!("/api/permissions/{}/guest", vhost.name), r#"{"configure":".*","write":".*","read":".*"}"#);
        vhost
    }

    /// Its address, as Celery writes it.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the management API.
    ///
    /// # Panics
    /// When it refuses.
    pub fn manage(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, answer) = request(self.management, method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        serde_json::from_str(&answer).unwrap_or(serde_json::Value::Null)
    }

    /// Declarations in this virtual host that the server has refused because something is there with other properties.
    pub fn refused_declarations(&self) -> Vec<String> {
        let logs = fs::read_dir(folder().join("log")).into_iter().flatten().flatten();
        let text: String = logs.filter_map(|log| fs::read_to_string(log.path()).ok()).collect();
        text.lines().filter(|line| line.contains(&self.name) && line.contains("inequivalent")).map(str::to_owned).collect()
    }

    /// Cuts every connection to this virtual host.
    pub fn cut(&self) {
        let connections = self.manage("GET", &format!("/api/vhosts/{}/connections", self.name), "");
        for connection in connections.as_array().into_iter().flatten() {
            let name = connection["name"].as_str().unwrap_or_default().replace(' ', "%20").replace('>', "%3E");
            let _ = request(self.management, "DELETE", &format!("/api/connections/{name}"), "");
        }
    }
}

impl Default for Vhost {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let _ = request(self.management, "DELETE", &format!("/api/vhosts/{}", self.name), "");
    }
}

/// How a private server is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Whether it speaks TLS, and only to those who show a certificate.
    pub tls: bool,
    /// Where it listens besides loopback, for guests from elsewhere too.
    pub addresses: Vec<String>,
    /// More lines of `rabbitmq.conf`.
    pub lines: Vec<String>,
}

/// A server with a folder of its own. Dropping it kills it.
#[derive(Debug)]
pub struct RabbitServer {
    setup: Setup,
    folder: tempfile::TempDir,
    ports: Ports,
    child: Option<Child>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    distribution: u16,
    mapper: u16,
    management: u16,
}

impl Ports {
    fn free() -> Self {
        Self { amqp: free_port(), distribution: free_port(), mapper: free_port(), management: free_port() }
    }
}

impl RabbitServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When there is no RabbitMQ, or it does not start.
    pub fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if setup.tls {
            certificates(folder.path());
        }
        let mut server = Self { setup, folder, ports: Ports::free(), child: None };
        server.restart();
        server
    }

    /// Starts it again, after [`RabbitServer::kill`], on the same port with the same data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.launch();
        wait_for(self.ports.amqp, self.folder.path(), self.setup.tls);
    }

    /// As [`RabbitServer::restart`], without waiting until it answers.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let listener = if self.setup.tls { "listeners.ssl.1" } else { "listeners.tcp.1" };
        let mut lines = vec![format!("{listener} = 127.0.0.1:{}", self.ports.amqp)];
        if self.setup.tls {
            let file = |name: &str| self.folder.path().join(name).display().to_string();
            lines.push("listeners.tcp = none".to_owned());
            lines.push(format!("ssl_options.cacertfile = {}", file("ca.crt")));
            lines.push(format!("ssl_options.certfile = {}", file("server.crt")));
            lines.push(format!("ssl_options.keyfile = {}", file("server.key")));
            lines.push("ssl_options.verify = verify_peer".to_owned());
            lines.push("ssl_options.fail_if_no_peer_cert = true".to_owned());
        }
        for (number, address) in (2..).zip(&self.setup.addresses) {
            lines.push(format!("listeners.tcp.{number} = {address}:{}", self.ports.amqp));
            lines.push("loopback_users.guest = false".to_owned());
        }
        lines.extend(self.setup.lines.iter().cloned());
        self.child = Some(spawn(self.folder.path(), self.ports, &lines, "", 0));
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn await_answer(&self) {
        wait_for(self.ports.amqp, self.folder.path(), self.setup.tls);
    }

    /// Its address, as Celery writes it.
    pub fn url(&self) -> String {
        if !self.setup.tls {
            return format!("amqp://guest:guest@127.0.0.1:{}//", self.ports.amqp);
        }
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "amqps://guest:guest@127.0.0.1:{}//?ssl_ca_certs={}&ssl_certfile={}&ssl_keyfile={}",
            self.ports.amqp,
            file("ca.crt"),
            file("client.crt"),
            file("client.key")
        )
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The process of the Erlang machine.
    ///
    /// # Panics
    /// When it has not written it down yet.
    pub fn pid(&self) -> String {
        fs::read_to_string(self.folder.path().join("pid")).unwrap().trim().to_owned()
    }

    /// Runs `rabbitmqctl`.
    ///
    /// # Panics
    /// When that fails.
    pub fn control(&self, args: &[&str]) {
        let mut command = Command::new(server().with_file_name("rabbitmqctl"));
        command.args(args).env("HOME", self.folder.path()).env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        command.env("ERL_EPMD_PORT", self.ports.mapper.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", format!("umbel{}@localhost", self.ports.amqp));
        let ran = command.stdin(Stdio::null()).output().expect("rabbitmqctl is installed with the server");
        let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(ran.status.success(), "rabbitmqctl {args:?}: {said}");
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        kill_group(&mut child, self.ports.mapper);
    }

    /// Freezes it: it neither answers nor closes connections.
    pub fn freeze(&self) {
        signal("STOP", &self.pid());
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal("CONT", &self.pid());
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the shared server.
fn folder() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
    std::env::temp_dir().join(format!("umbel-rabbitmq-{:016x}", hasher.finish()))
}

/// The ports of the shared server, and the lock that keeps it running.
fn shared() -> (u16, u16, File) {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let open = |name: &str| OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(name)).unwrap();
    let gate = open("gate");
    gate.lock().unwrap();
    let users = open("users");
    users.lock_shared().unwrap();
    let ready = folder.join("ready");
    if let Some((amqp, management)) = fs::read_to_string(&ready).ok().and_then(|text| {
        let (amqp, management) = text.split_once(' ')?;
        Some((amqp.parse().ok()?, management.trim().parse().ok()?))
    }) && answers(amqp, false)
    {
        return (amqp, management, users);
    }
    for old in ["ready", "pid", "out", "mnesia", "log"] {
        let old = folder.join(old);
        let _ = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
    }
    let ports = Ports::free();
    let lines = [
        format!("listeners.tcp.1 = 127.0.0.1:{}", ports.amqp),
        "management.tcp.ip = 127.0.0.1".to_owned(),
        format!("management.tcp.port = {}", ports.management),
    ];
    // It outlives the process that has started it.
    drop(spawn(&folder, ports, &lines, "rabbitmq_management", IDLE_SECS));
    wait_for(ports.amqp, &folder, false);
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", ports.management)).is_err() {
        assert!(began.elapsed() < START, "the management API does not answer");
        crate::wait::moment();
    }
    fs::write(&ready, format!("{} {}", ports.amqp, ports.management)).unwrap();
    (ports.amqp, ports.management, users)
}

/// Starts a server in a process group of its own.
fn spawn(folder: &Path, ports: Ports, lines: &[String], plugins: &str, idle_secs: u32) -> Child {
    let mut text = String::from(
        "log.file.level = warning\ndisk_free_limit.absolute = 10MB\nvm_memory_high_watermark.absolute = 1GB\ncollect_statistics_interval = 60000\n",
    );
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    fs::write(folder.join("rabbitmq.conf"), text).unwrap();
    fs::write(folder.join("plugins"), format!("[{plugins}].\n")).unwrap();
    let script = folder.join("rabbit.sh");
    fs::write(&script, include_str!("rabbit.sh")).unwrap();
    let mut command = Command::new("bash");
    command.arg(&script).arg(folder).arg(idle_secs.to_string());
    command.env("RABBITMQ_SERVER", server()).env("HOME", folder).env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
    command.env("ERL_EPMD_PORT", ports.mapper.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command.env("RABBITMQ_NODENAME", format!("umbel{}@localhost", ports.amqp)).env("RABBITMQ_DIST_PORT", ports.distribution.to_string());
    command.env("RABBITMQ_MNESIA_BASE", folder.join("mnesia")).env("RABBITMQ_LOG_BASE", folder.join("log"));
    command.env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf")).env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"));
    command.env("RABBITMQ_PID_FILE", folder.join("pid"));
    command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +SDio 1 +sbwt none +sbwtdcpu none +sbwtdio none");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().expect("bash is installed")
}

/// The server's own start script; Debian's wrapper wants to be root.
fn server() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let scripts = installed.map(|entry| entry.path().join("sbin/rabbitmq-server")).filter(|script| script.exists());
    scripts.last().unwrap_or_else(|| PathBuf::from("rabbitmq-server"))
}

fn wait_for(port: u16, folder: &Path, tls: bool) {
    let began = Instant::now();
    while !answers(port, tls) {
        if began.elapsed() > START {
            let out = fs::read_to_string(folder.join("out")).unwrap_or_default();
            panic!("RabbitMQ does not answer after {START:?} (is it installed? run tests/setup): {out}");
        }
        crate::wait::moment();
    }
}

/// Whether an AMQP server answers a greeting.
fn answers(port: u16, tls: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    if tls {
        return true;
    }
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut first = [0u8; 1];
    stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok() && stream.read_exact(&mut first).is_ok() && first[0] == 1
}

fn kill_group(child: &mut Child, mapper: u16) {
    let group = child.id();
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
    let _ = child.wait();
    let _ = Command::new("epmd").args(["-port", &mapper.to_string(), "-kill"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn signal(name: &str, pid: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap();
    assert!(status.success());
}

fn unique() -> u64 {
    let mut hasher = DefaultHasher::new();
    (std::process::id(), std::time::SystemTime::now(), std::thread::current().id()).hash(&mut hasher);
    hasher.finish()
}

/// One request to the management API: status and body.
fn request(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return (0, "no connection".to_owned()) };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut answer = String::new();
    if stream.write_all(head.as_bytes()).is_err() || stream.read_to_string(&mut answer).is_err() {
        return (0, answer);
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}
