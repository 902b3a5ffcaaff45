//! Three nodes, and their leader is killed again and again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::runtime::Runtime;
use umbel::{
    amqp::{AmqpOptions, Target},
    brokers::{Broker, Subscribe, amqp::AmqpBroker},
    proto::Millis,
    scheduler::{Release, beat::Mark},
};
use umbel_tests::{
    conformance::making::{id, now},
    servers::{rabbit::Vhost, redis::RedisServer},
    wait::until,
};

use super::{Process, beat, ids, mark, sent};

const CONFIG: &str = r#"
[schedules.fast]
task = "tests.tick"
every = "1s"
queue = "fast"
catch_up = "all"

[schedules.minutely]
task = "tests.tick"
cron = "* * * * *"
queue = "minutely"
catch_up = "all"
"#;

const NAMES: [&str; 3] = ["one@test", "two@test", "three@test"];

/// The entries, and their distances in milliseconds.
const ENTRIES: [(&str, Millis); 2] = [("fast", 1_000), ("minutely", 60_000)];

/// The most a tick may be late, in milliseconds, whoever was killed.
const GAP_MAX: i64 = 2_000;

/// How often the leader is killed; `make beat KILLS=200` is the long run.
fn kills() -> usize {
    std::env::var("UMBEL_BEAT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6)
}

/// A broker, seen from outside.
trait Seen {
    fn url(&self) -> String;
    fn leader(&self) -> Option<String>;
    /// How far an entry has come: its due time, and how often it was sent.
    fn mark(&self, name: &str) -> Option<(Millis, usize)>;
    /// The ids of what was sent, the oldest first, and when.
    fn sent(&self, queue: &str) -> Vec<(String, Millis)>;
}

impl Seen for RedisServer {
    fn url(&self) -> String {
        RedisServer::url(self, 0)
    }

    fn leader(&self) -> Option<String> {
        let leader: Option<String> = self.ask(&["GET", "umbel:beat:leader"]);
        leader.and_then(|leader| leader.split_once(' ').map(|(_, node)| node.to_owned()))
    }

    fn mark(&self, name: &str) -> Option<(Millis, usize)> {
        mark(self, name)
    }

    fn sent(&self, queue: &str) -> Vec<(String, Millis)> {
        sent(self, queue).into_iter().map(|message| (message.id, message.at)).collect()
    }
}

/// What came from each queue: the ids, the oldest first, and when.
type Came = Arc<Mutex<BTreeMap<String, Vec<(String, Millis)>>>>;

/// RabbitMQ, and somebody who takes what is sent and notes when it came.
struct Rabbit {
    vhost: Vhost,
    broker: Arc<AmqpBroker>,
    came: Came,
    runtime: Runtime,
}

impl Rabbit {
    fn new() -> Self {
        let vhost = Vhost::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let target = Target::parse(&vhost.url()).unwrap();
        let broker = Arc::new(runtime.block_on(async { AmqpBroker::open(target, AmqpOptions::default()) }));
        until("the broker is ready", || runtime.block_on(broker.ready()).ok());
        let came = Came::default();
        runtime.spawn(take(Arc::clone(&broker), Arc::clone(&came)));
        Self { vhost, broker, came, runtime }
    }

    fn marks(&self) -> Option<Vec<(String, Mark)>> {
        let book = self.runtime.block_on(async { self.broker.schedules()?.book().await.ok() })?;
        Some(book.entries.into_iter().map(|kept| (kept.entry.name, kept.mark)).collect())
    }
}

async fn take(broker: Arc<AmqpBroker>, came: Came) {
    let request = Subscribe::new("taker", ENTRIES.map(|(name, _)| name), Duration::from_secs(60));
    let mut subscription = broker.subscribe(request).await.unwrap();
    loop {
        let deliveries = subscription.fetch(10).await.unwrap();
        let at = now();
        for delivery in &deliveries {
            came.lock().unwrap().entry(delivery.held.queue.as_str().to_owned()).or_default().push((id(delivery), at));
        }
        for settled in broker.release(deliveries.into_iter().map(|delivery| (delivery.held, Release::Ack)).collect()).await {
            settled.unwrap();
        }
    }
}

impl Seen for Rabbit {
    fn url(&self) -> String {
        self.vhost.url()
    }

    fn leader(&self) -> Option<String> {
        let book = self.runtime.block_on(async { self.broker.schedules()?.book().await.ok() })?;
        Some(book.leader?.as_str().to_owned())
    }

    fn mark(&self, name: &str) -> Option<(Millis, usize)> {
        let (_, mark) = self.marks()?.into_iter().find(|(entry, _)| entry == name)?;
        Some((mark.due, usize::try_from(mark.runs).unwrap()))
    }

    fn sent(&self, queue: &str) -> Vec<(String, Millis)> {
        let wanted = self.mark(queue).unwrap().1;
        until("everything that was sent has come", || {
            let came = self.came.lock().unwrap().get(queue).cloned().unwrap_or_default();
            (came.len() >= wanted).then_some(came)
        })
    }
}

/// Goal: every due time of every entry is sent exactly once, and none much too late, while leaders die at random moments.
/// Method: the ids of the messages are worked out again from entry and due time and compared with what lies in the queues.
#[test]
fn killed_leaders_neither_lose_nor_double_a_tick_on_redis() {
    kill_leaders(&RedisServer::default());
}

/// Goal and method as on Redis; what lies in the queues is taken from them as it comes.
#[test]
fn killed_leaders_neither_lose_nor_double_a_tick_on_rabbitmq() {
    kill_leaders(&Rabbit::new());
}

fn kill_leaders(broker: &impl Seen) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("umbel.toml"), CONFIG).unwrap();
    let start = |name: &str| beat(folder.path(), &broker.url(), name);
    let mut nodes: BTreeMap<&str, Process> = NAMES.into_iter().map(|name| (name, start(name))).collect();
    let seed = std::process::id() as usize;
    println!("kills: {}, seed: {seed}", kills());
    let mut last = 0;
    for kill in 0..kills() {
        // After none, one or two further ticks, and a moment that is another each time.
        let wanted = last + (seed + kill * 7) % 3;
        let moment = (seed + kill * 37) % 97;
        let mut looks = 0;
        let name = until("a leader sends", || {
            let (_, runs) = broker.mark("fast")?;
            looks += usize::from(runs > wanted);
            broker.leader().filter(|name| looks > moment && nodes.contains_key(name.as_str()))
        });
        let (name, _) = nodes.remove_entry(name.as_str()).map(|(name, process)| (name, drop(process))).unwrap();
        last = broker.mark("fast").unwrap().1;
        nodes.insert(name, start(name));
    }
    until("the last leader sends", || broker.mark("fast").filter(|(_, runs)| *runs > last + 2));
    drop(nodes);

    // The machine of a test may be too busy to start a process within two seconds; it may not be too busy for a minute.
    let bound = if std::env::var_os("UMBEL_BEAT_KILLS").is_some() { GAP_MAX } else { 60_000 };
    let mut late = Vec::new();
    for (name, every) in ENTRIES {
        let (due, runs) = broker.mark(name).unwrap();
        let messages = broker.sent(name);
        let found: Vec<String> = messages.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(found, ids(name, due, every, runs), "{name}: sent are not the due times, one by one");
        let dues = (0..).map(|back| due - back * every);
        let mut gaps: Vec<Millis> = messages.iter().rev().zip(dues).map(|((_, at), due)| at - due).collect();
        gaps.sort_unstable();
        let Some((least, most)) = gaps.first().zip(gaps.last()) else { continue };
        assert!(*least >= -5, "{name}: a tick was {least} ms early");
        println!(
            "{name}: {} ticks over {} kills, each once; largest gap {most} ms, median {} ms",
            gaps.len(),
            kills(),
            gaps[gaps.len() / 2]
        );
        if *most >= bound {
            late.push(format!("{name}: a tick was {most} ms late"));
        }
    }
    assert!(late.is_empty(), "{late:?}");
}
