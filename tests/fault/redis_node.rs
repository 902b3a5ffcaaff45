//! A node on Redis or RabbitMQ as a process, for tests and benches that kill it or weigh it: `redis-node <folder> <name> <broker> <results>`.
//!
//! Its task `nap` writes to the file `ledger` of the folder when it starts and when it ends, one line with one system call.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use umbel::{Context, Node, brokers::Backbone, embedded::StoreOptions, redis::RedisOptions};

static LEDGER: OnceLock<(File, String)> = OnceLock::new();

fn write(word: &str, id: &str) {
    let (file, node) = LEDGER.get().expect("the ledger is opened first");
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    (&*file).write_all(format!("{word} {node} {id} {at}\n").as_bytes()).unwrap();
}

/// Sleeps so many milliseconds.
#[umbel::task(name = "nap")]
async fn nap(ctx: Context, millis: i64) -> i64 {
    write("start", ctx.task_id().as_str());
    tokio::time::sleep(Duration::from_millis(millis.unsigned_abs())).await; // workload
    write("end", ctx.task_id().as_str());
    millis
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let file = OpenOptions::new().create(true).append(true).open(Path::new(&args[0]).join("ledger")).unwrap();
    assert!(LEDGER.set((file, args[1].clone())).is_ok());
    let Backbone { broker, backend, ledger } =
        Backbone::open_with(&args[2], Some(&args[3]), StoreOptions::default(), RedisOptions::default()).unwrap();
    let builder = Node::builder().name(args[1].as_str()).queues(["celery"]).concurrency(4).prefetch_multiplier(2);
    let node = builder.backbone(broker, backend, ledger).task(nap).start().await.unwrap();
    node.wait().await.unwrap();
}
