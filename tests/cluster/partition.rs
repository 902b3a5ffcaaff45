//! A node in a network of its own that is cut off while it works.

use std::{fs, process::Command};

use umbel::{Client, client::KnownTasks, scheduler::Settings};
use umbel_proto::Signature;
use umbel_tests::{
    crash,
    servers::{
        rabbit::{self, RabbitServer},
        redis::{self, RedisServer},
    },
    wait::until,
};

use super::processes::Cluster;

/// A network namespace that is reached over one cable.
struct Net {
    name: String,
    near: String,
    number: u32,
}

fn ip(words: &str) {
    let ran = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed; run tests/setup");
    assert!(ran.status.success(), "ip {words}: {} (network namespaces need root)", String::from_utf8_lossy(&ran.stderr));
}

impl Net {
    fn new() -> Self {
        // Names of interfaces are short; several runs on one machine must not meet.
        let number = std::process::id();
        let net = Self { name: format!("umbel-{number}"), near: format!("um{number}a"), number };
        let (far, near_ip, far_ip) = (format!("um{number}b"), net.near_ip(), net.far_ip());
        ip(&format!("netns add {}", net.name));
        ip(&format!("link add {} type veth peer name {far} netns {}", net.near, net.name));
        ip(&format!("addr add {near_ip}/30 dev {}", net.near));
        ip(&format!("-n {} addr add {far_ip}/30 dev {far}", net.name));
        ip(&format!("-n {} link set lo up", net.name));
        ip(&format!("-n {} link set {far} up", net.name));
        net.connect();
        net
    }

    fn subnet(&self) -> String {
        let block = self.number % 16_384;
        format!("10.213.{}.{}", block / 64, block % 64 * 4)
    }

    fn address(&self, host: u32) -> String {
        let subnet = self.subnet();
        let (front, last) = subnet.rsplit_once('.').unwrap();
        format!("{front}.{}", last.parse::<u32>().unwrap() + host)
    }

    fn near_ip(&self) -> String {
        self.address(1)
    }

    fn far_ip(&self) -> String {
        self.address(2)
    }

    fn connect(&self) {
        ip(&format!("link set {} up", self.near));
    }

    /// Packets are lost without a word, as by a cut cable.
    fn cut(&self) {
        ip(&format!("link set {} down", self.near));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // The cable goes with the namespace.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Who began `hold` tasks: label and attempt, in order.
fn begun(cluster: &Cluster) -> Vec<(String, u32)> {
    let ledger = fs::read_to_string(cluster.path().join("ledger")).unwrap_or_default();
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.len() == 6 && words[2].starts_with("hold/")).then(|| (words[2].to_owned(), words[5].parse().unwrap()))
    };
    ledger.lines().filter_map(run).collect()
}

/// Goal: what a node holds that is cut off runs elsewhere; healed, its late endings change nothing and it takes work again.
async fn cut_off(net: &Net, urls: [String; 2]) {
    let urls = urls.map(|url| url.replace("127.0.0.1", &net.near_ip()));
    let mut cluster = Cluster::on(&urls);
    cluster.variables = vec![("UMBEL_TEST_SLOTS", "20"), ("UMBEL_TEST_HOLD", "10000")];
    let netns = ["ip", "netns", "exec", &net.name];
    let (far, near) = (format!("{}:0", net.far_ip()), format!("{}:0", net.near_ip()));
    cluster.start_within(&netns, "far", Some(&far));
    until("the far node is there", || cluster.view("far", "far"));
    let backbone = crash::backbone(&cluster.path());
    let client = Client::new(backbone.broker.clone(), backbone.backend, backbone.ledger, Settings::default().into(), KnownTasks::default());
    let mut results = Vec::new();
    let call = |label: String| Signature::new("hold").arg(label);
    for n in 0..20 {
        results.push(client.submit(call(format!("hold/{n}"))).await.unwrap());
    }
    until("the far node runs all of it", || (begun(&cluster).len() == 20).then_some(()));
    for name in ["a", "b"] {
        cluster.start_within(&[], name, Some(&near));
    }
    for who in ["a", "b"] {
        until("the near nodes are there", || {
            ["a", "b", "far"].iter().all(|node| cluster.view(who, node).as_deref() == Some("alive")).then_some(())
        });
    }
    net.cut();
    let cut = std::time::Instant::now();
    // The near ones run everything that the far one had begun.
    until("all of it runs elsewhere", || (begun(&cluster).len() == 40).then_some(()));
    println!("20 tasks of a node that was cut off run elsewhere after {:.2} s", cut.elapsed().as_secs_f64());
    for (n, result) in results.iter().enumerate() {
        let value: String = result.get(std::time::Duration::from_secs(60)).await.unwrap();
        assert_eq!(value, format!("hold/{n}"));
    }
    let again = begun(&cluster).into_iter().filter(|(_, attempt)| *attempt == 2).count();
    assert_eq!(again, 20, "what the far node had begun was begun again");
    net.connect();
    for who in ["a", "b"] {
        until("the far node is back", || (cluster.view(who, "far").as_deref() == Some("alive")).then_some(()));
    }
    for (n, result) in results.iter().enumerate() {
        let value: String = result.get(std::time::Duration::from_secs(60)).await.unwrap();
        assert_eq!(value, format!("hold/{n}"), "late endings change nothing");
    }
    until("the late endings are refused", || {
        let refused = fs::read_to_string(cluster.path().join("refused-far")).ok()?;
        (refused == "20").then_some(())
    });
    // With the near ones gone it is the far one that works.
    cluster.stop("a");
    cluster.stop("b");
    let last = client.submit(call("hold/last".to_owned())).await.unwrap();
    assert_eq!(last.get::<String>(std::time::Duration::from_secs(60)).await.unwrap(), "hold/last");
    let held: u64 = backbone.broker.queues().await.unwrap().iter().map(|queue| queue.ready + queue.held).sum();
    assert_eq!(held, 0, "nothing is left over");
}

/// A Redis server that is reached from both sides.
fn redis_on(net: &Net) -> RedisServer {
    let options = ["--bind", "127.0.0.1", &net.near_ip(), "--protected-mode", "no"].map(str::to_owned);
    RedisServer::start(redis::Setup { options: options.into(), ..redis::Setup::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_is_done_without() {
    let net = Net::new();
    let server = redis_on(&net);
    cut_off(&net, [server.url(0), server.url(1)]).await;
}

/// RabbitMQ gives away what a node holds when it has heard nothing from it for two to three heartbeats, of a second each here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_rabbitmq_is_done_without() {
    let net = Net::new();
    let rabbit = RabbitServer::start(rabbit::Setup { addresses: vec![net.near_ip()], ..rabbit::Setup::default() });
    let results = redis_on(&net);
    cut_off(&net, [format!("{}?heartbeat=1", rabbit.url()), results.url(1)]).await;
}
