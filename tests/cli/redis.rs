//! Verbs and nodes on a Redis server, with nothing but `CELERY_BROKER_URL`.

use std::{
    path::Path,
    process::{Child, Stdio},
};

use serde_json::{Value as Json, json};
use umbel_tests::{
    program::{Call, Ran},
    servers::redis::{RedisServer, Sentinel, Setup, free_port},
    wait::until,
};

use super::node;

/// Tasks that the configuration declares, so that the plain program has some.
const TASKS: &str = "[http]\nlisten = \"127.0.0.1:0\"\n[tasks.\"text.upper\"]\ncommand = [\"tr\", \"a-z\", \"A-Z\"]\noutput = \"text\"\n\
                     [tasks.\"text.echo\"]\ncommand = [\"echo\", \"{0}\"]\noutput = \"text\"\n[tasks.\"fail\"]\ncommand = [\"false\"]\n";

/// A machine with nodes on one broker.
struct Machine {
    home: tempfile::TempDir,
    broker: String,
    nodes: Vec<Child>,
}

impl Machine {
    fn new(broker: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("umbel.toml"), TASKS).unwrap();
        Self { home, broker: broker.to_owned(), nodes: Vec::new() }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn call(&self, args: &[&str]) -> Call {
        node().args(args).env("HOME", self.home()).env("CELERY_BROKER_URL", &self.broker).within(self.home())
    }

    fn start(&mut self, name: &str) {
        let log = std::fs::File::create(self.home().join(format!("{name}.log"))).unwrap();
        let args = ["--role", "cpu", "-Q", "celery", "-c", "2", "-n", name];
        self.nodes.push(self.call(&args).command().stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.call(args).run()
    }

    fn text(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}{}\n{}", ran.stdout, ran.stderr, self.logs());
        ran.stdout.trim_end().to_owned()
    }

    fn json(&self, args: &[&str]) -> Json {
        serde_json::from_str(&self.text(&[args, &["-o", "json"]].concat())).unwrap()
    }

    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.home()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|ext| ext == "log")).map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }

    /// Waits until that many nodes are ready.
    fn ready(&self, count: usize) {
        until("the nodes are ready", || {
            let status = self.run(&["status", "-o", "json"]);
            let nodes: Json = serde_json::from_str(&status.stdout).ok()?;
            (nodes["nodes"].as_array()?.len() == count && self.run(&["healthcheck"]).code == Some(0)).then_some(())
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in &mut self.nodes {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Goal: what the embedded store can do through the verbs, several nodes on Redis can, without an address or a flag.
#[test]
fn every_verb_finds_the_nodes_by_the_broker() {
    let server = RedisServer::default();
    let mut machine = Machine::new(&server.url(0));
    let nobody = machine.run(&["status"]);
    assert_eq!(nobody.code, Some(69), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("No nodes replied within time constraint"), "{}", nobody.stderr);
    machine.start("one");
    machine.start("two");
    machine.ready(2);
    let status = machine.text(&["status", "--verbose"]);
    assert!(
        status.contains("->  celery@one: OK") && status.contains("->  celery@two: OK") && status.ends_with("2 nodes online."),
        "{status}"
    );

    let upper = machine.text(&["call", "text.upper", "abc", "--wait", "-t", "60"]);
    assert!(upper.contains("ABC"), "{upper}");
    let chain = machine.text(&["submit", "text.echo(\"a\") | text.echo()", "--wait", "-t", "60"]);
    assert_eq!(chain, "\"a\"");
    let group = machine.text(&["submit", "group(text.echo(\"a\"), text.echo(\"b\"))"]);
    assert_eq!(machine.text(&["wait", &group, "-t", "60"]), "[\"a\",\"b\"]");
    assert_eq!(machine.json(&["workflows", "show", &group])["tree"]["children"].as_array().unwrap().len(), 2);
    let once = || machine.text(&["submit", "text.echo(\"a\")", "--idempotency-key", "k"]);
    assert_eq!(once(), once());

    let ids: Vec<String> = (0..8).map(|number| machine.text(&["call", "text.echo", &format!("\"{number}\"")])).collect();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(machine.text(&["wait", id, "-t", "60"]), format!("\"{number}\""));
    }
    // What any of the two has run is listed once, whoever is asked.
    let seen = |id: &String| until("it is listed", || (machine.json(&["tasks", "show", id])["task"]["state"] == "SUCCESS").then_some(()));
    ids.iter().for_each(seen);
    let listed = machine.json(&["tasks", "ls", "--name", "text.echo", "-n", "100"]);
    let listed: Vec<&str> = listed["items"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| listed.iter().filter(|listed| *listed == id).count() == 1), "{listed:?}");
    assert_eq!(listed.len(), 8 + 2 + 2 + 1, "the two of the chain, the two of the group, and one for the key");

    let failed = machine.text(&["call", "fail"]);
    assert_eq!(machine.run(&["wait", &failed, "-t", "60"]).code, Some(1));
    until("the failure is listed", || machine.json(&["tasks", "show", &failed])["task"]["ended"].as_i64());
    assert_eq!(machine.text(&["tasks", "retry", &failed]), format!("{failed} sent again"));
    assert_eq!(machine.run(&["tasks", "retry", "nobody-knows-it"]).code, Some(5));

    let unknown = machine.text(&["call", "nobody.knows"]);
    let letter = until("there is a dead letter", || machine.json(&["dead"])["items"][0]["id"].as_str().map(str::to_owned));
    assert_eq!(machine.run(&["wait", &unknown, "-t", "60"]).code, Some(1));
    machine.text(&["dead", "drop", &letter, "--yes"]);
    machine.text(&["queues", "pause", "celery"]);
    machine.text(&["call", "text.echo", "later"]);
    let queue = machine.json(&["queues", "show", "celery"]);
    assert_eq!((&queue["ready"], &queue["consumers"], &queue["paused"]), (&json!(1), &json!(2), &json!(true)));
    assert_eq!(machine.json(&["queues", "purge", "celery", "--yes"])["purged"], 1);
    machine.text(&["queues", "resume", "celery"]);
    let doctor = machine.text(&["doctor"]);
    assert!(doctor.contains("celery@one is running") && doctor.contains("celery@two is running"), "{doctor}");

    // A node that is gone is forgotten with its lease, and named until then.
    machine.nodes[1].kill().unwrap();
    machine.nodes[1].wait().unwrap();
    until("its lease has ended", || (machine.json(&["queues", "show", "celery"])["consumers"] == 1).then_some(()));
    let status = machine.text(&["status"]);
    assert!(status.contains("celery@one") && !status.contains("celery@two"), "{status}");
}

/// Goal: the program gets into every kind of server that Celery's URLs lead to: TLS with an own authority and client
/// certificates, users, unix sockets.
#[test]
fn every_address_of_celerys_works() {
    let login = Some(("someone".to_owned(), "p@ss/w:rd".to_owned()));
    let secured = RedisServer::start(Setup { tls: true, login, ..Setup::default() });
    let plain = RedisServer::default();
    for url in [secured.url(2), plain.socket_url(3)] {
        let mut machine = Machine::new(&url);
        machine.start("one");
        machine.ready(1);
        assert_eq!(machine.text(&["call", "text.echo", "in", "--wait", "-t", "60"]), "\"in\"");
        let shown = machine.text(&["config", "show"]) + &machine.text(&["doctor"]) + &machine.logs();
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "the password is shown: {shown}");
    }
}

/// Goal: names that a fleet has agreed on stand before every key.
#[test]
fn prefixes_are_kept_to() {
    let server = RedisServer::default();
    let mut machine = Machine::new(&server.url(0));
    let more = "[broker]\nglobal_keyprefix = \"shop:\"\nvisibility_timeout = \"12h\"\n[results]\nglobal_keyprefix = \"results\"\n";
    std::fs::write(machine.home().join("umbel.toml"), format!("{more}{TASKS}")).unwrap();
    machine.start("one");
    machine.ready(1);
    assert_eq!(machine.text(&["call", "text.echo", "in", "--wait", "-t", "60"]), "\"in\"");
    let keys: Vec<String> = server.ask(&["KEYS", "*"]);
    let strangers: Vec<&String> = keys.iter().filter(|key| !key.starts_with("shop:") && !key.starts_with("results_")).collect();
    assert!(strangers.is_empty() && keys.len() > 3, "{keys:?}");
}

/// Goal: steps of priority and a separator that clients have agreed on are a node's as well; steps that cannot be are refused, by name.
#[test]
fn steps_of_priority_are_kept_to() {
    let server = RedisServer::default();
    let mut machine = Machine::new(&server.url(0));
    let configure = |steps: &str| format!("[broker]\nseparator = \":\"\npriority_steps = {steps}\n{TASKS}");
    let file = machine.home().join("umbel.toml");
    std::fs::write(&file, configure("[0, 5]")).unwrap();
    let waiting = machine.text(&["call", "text.echo", "in", "--priority", "7"]);
    assert_eq!(server.ask::<u64>(&["LLEN", "celery:5"]), 1);
    machine.start("one");
    machine.ready(1);
    assert_eq!(machine.text(&["wait", &waiting, "-t", "60"]), "\"in\"");
    for (steps, shown) in [("[3, 6]", "3, 6"), ("[0, 12]", "0, 12"), ("[0, \"x\"]", "0, x")] {
        std::fs::write(&file, configure(steps)).unwrap();
        let ran = machine.run(&["queues", "ls"]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        let named =
            format!("cannot use the broker {shown} (umbel.toml:3): its steps of priority are not numbers from 0 to 9, with 0 among them");
        assert!(ran.stderr.contains(&named) && ran.stderr.contains("try: "), "{}", ran.stderr);
    }
}

/// Goal: when a sentinel makes another server the master, the node follows without a restart, and what was replicated is done.
#[test]
fn a_node_follows_a_failover() {
    let mut master = RedisServer::default();
    let options = ["--replicaof", "127.0.0.1", &master.port().to_string()].map(str::to_owned).to_vec();
    let replica = RedisServer::start(Setup { options, ..Setup::default() });
    until("the replica is in step", || replica.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up").then_some(()));
    let sentinel = Sentinel::start("mymaster", &master);
    let mut machine = Machine::new(&format!("sentinel://127.0.0.1:{};127.0.0.1:{}/1?master_name=mymaster", free_port(), sentinel.port()));
    machine.start("one");
    machine.ready(1);
    assert_eq!(machine.text(&["call", "text.echo", "before", "--wait", "-t", "60"]), "\"before\"");
    machine.text(&["queues", "pause", "celery"]);
    let waiting = machine.text(&["call", "text.echo", "waiting"]);
    until("it is replicated", || in_step(&master, &replica).then_some(()));
    until("the sentinel knows the replica", || sentinel.replicas("mymaster").filter(|count| *count == 1));
    master.kill();
    until("the replica is the master", || (sentinel.master("mymaster")? == replica.port()).then_some(()));
    until("the queue can be resumed", || (machine.run(&["queues", "resume", "celery"]).code == Some(0)).then_some(()));
    assert_eq!(machine.text(&["wait", &waiting, "-t", "60"]), "\"waiting\"");
    assert_eq!(machine.text(&["call", "text.echo", "after", "--wait", "-t", "60"]), "\"after\"");
    assert!(machine.nodes[0].try_wait().unwrap().is_none(), "the node ended: {}", machine.logs());
}

/// Whether the replica has everything that the master has sent.
fn in_step(master: &RedisServer, replica: &RedisServer) -> bool {
    let offset = |server: &RedisServer, name: &str| {
        let info: String = server.ask(&["INFO", "replication"]);
        info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    offset(master, "master_repl_offset:") == offset(replica, "slave_repl_offset:")
}
