//! The RabbitMQ broker with Redis results under a node, against what the server itself can do and against Celery's prefork pool,
//! all in the same run.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde_json::json;
use umbel::{
    Node,
    amqp::{AmqpOptions, Target},
    brokers::{Backbone, Broker, amqp::AmqpBroker},
    proto::{Invocation, Map, TaskId, TaskName, Value},
    redis::RedisOptions,
    scheduler::{Publish, Route},
};
use umbel_tests::{
    conformance::making,
    servers::{
        rabbit::{RabbitServer, Setup},
        redis::RedisServer,
    },
    wait::until_async,
};

use crate::{print, tasks};

static DONE: AtomicUsize = AtomicUsize::new(0);

#[umbel::task(name = "echo")]
async fn nothing(value: Value) -> Value {
    DONE.fetch_add(1, Ordering::Relaxed);
    value
}

/// A call of `echo` with 300 bytes, which Celery's `fleet.py` knows too.
fn call(queue: &str, number: usize) -> Publish {
    let id = TaskId::from(format!("{queue}-{number}"));
    let args = [Value::from("x".repeat(300).as_str())];
    let invocation = Invocation::new(TaskName::from("echo"), id, &args, &Map::new()).unwrap();
    Publish { invocation, route: Route { queue: queue.into(), exchange: String::new(), routing_key: queue.to_owned() }, due: None }
}

async fn fill(broker: &dyn Broker, queue: &str, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(500) {
        making::publish(broker, chunk.iter().map(|number| call(queue, *number)).collect()).await;
    }
}

/// The raw limit: consuming with acknowledgements of a hundred at a time, without any node.
async fn limit(url: &str, count: usize) -> f64 {
    let connection =
        Connection::connect(&url.replace("//", "/%2f").replacen("/%2f", "//", 1), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(512, BasicQosOptions::default()).await.unwrap();
    let begun = Instant::now();
    let mut consumer =
        channel.basic_consume("limit".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await.unwrap();
    for number in 1..=count {
        let delivery = consumer.next().await.unwrap().unwrap();
        if number % 100 == 0 || number == count {
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await.unwrap();
        }
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Celery's prefork pool of two, late acknowledgement, results in Redis.
async fn celery(server: &RabbitServer, redis: &RedisServer, count: usize) -> f64 {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(top.join("../target/celery-5.6/bin/python"));
    command.env_clear().envs([("BROKER", server.url()), ("BACKEND", redis.url(2))]).current_dir(top.join("compat"));
    command.args(["-m", "celery", "-A", "fleet", "worker", "-P", "prefork", "-c", "2", "-Q", "celery-bench", "-n", "bench@test"]);
    command.args(["--prefetch-multiplier", "8", "--without-gossip", "--without-mingle"]);
    let mut worker = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let results = || -> usize {
        let keys: String = redis.ask(&["INFO", "keyspace"]);
        let db = keys.lines().find_map(|line| line.strip_prefix("db2:keys="));
        db.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
    };
    let first = until_async("Celery has begun", || async { Some(results()).filter(|count| *count > 0) }).await;
    let begun = Instant::now();
    while results() < count {
        tokio::time::sleep(Duration::from_millis(20)).await; // workload: Celery's
    }
    let rate = (count - first) as f64 / begun.elapsed().as_secs_f64();
    let _ = worker.kill();
    let _ = worker.wait();
    rate
}

/// A drain of no-op tasks with results in Redis, acknowledged late.
pub(crate) async fn run() {
    let server = RabbitServer::start(Setup::default());
    let redis = RedisServer::default();
    let count = tasks();
    let broker = AmqpBroker::open(Target::parse(&server.url()).unwrap(), AmqpOptions::default());
    until_async("the broker is ready", || async { broker.ready().await.ok() }).await;
    fill(&broker, "limit", count).await;
    let limit = limit(&server.url(), count).await;
    fill(&broker, "drain", count).await;
    let Backbone { broker: messages, backend, ledger } =
        Backbone::amqp(&server.url(), Some(&redis.url(1)), AmqpOptions::default(), RedisOptions::default()).unwrap();
    let builder = Node::builder().name("bench").queues(["drain"]).concurrency(64).prefetch_multiplier(8);
    let begun = Instant::now();
    let node = builder.backbone(messages, backend, ledger).task(nothing).start().await.unwrap();
    until_async("everything is done", || async {
        (DONE.load(Ordering::Relaxed) >= count && !broker.waits(&["drain".into()]).await.ok()?).then_some(())
    })
    .await;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    drop(node);
    let share = (count / 20).max(500);
    fill(&broker, "celery-bench", share).await;
    let peer = celery(&server, &redis, share).await;
    print(
        "amqp",
        json!({
            "tasks": count, "limit_per_s": limit.round(), "drain_per_s": rate.round(), "ratio": rate / limit,
            "celery_prefork_2_per_s": peer.round(), "times_celery": rate / peer,
        }),
    );
}
