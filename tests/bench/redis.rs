//! The Redis broker, backend and ledger under a node, against what the server itself can do in the same run.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use umbel::{
    Node,
    brokers::{Backbone, redis::RedisBroker},
    redis::{RedisOptions, Target},
};
use umbel_tests::{conformance::making, servers::redis::RedisServer, wait::until_async};

use crate::{call, number, peers, print, tasks};

static DONE: AtomicUsize = AtomicUsize::new(0);

#[umbel::task(name = "tests.echo")]
async fn nothing(padding: String, number: i64) -> i64 {
    drop(padding);
    DONE.fetch_add(1, Ordering::Relaxed);
    number
}

const TAKE: &str = "
local got = redis.call('RPOP', KEYS[1], 100)
if not got then return {} end
local entries, index, now = {}, {}, redis.call('TIME')[1]
for i = 1, #got do
  local field = ARGV[1] .. i
  entries[i * 2 - 1], entries[i * 2] = field, got[i]
  index[i * 2 - 1], index[i * 2] = now, field
end
redis.call('HSET', KEYS[2], unpack(entries))
redis.call('ZADD', KEYS[3], unpack(index))
return got";

const END: &str = "
local fields = {}
for i = 1, tonumber(ARGV[2]) do
  local field = ARGV[1] .. i
  fields[i] = field
  redis.call('SETEX', 'limit-' .. field, 86400, ARGV[3])
  redis.call('PUBLISH', 'limit-' .. field, ARGV[3])
end
redis.call('HDEL', KEYS[2], unpack(fields))
redis.call('ZREM', KEYS[3], unpack(fields))";

/// CPU seconds of the server so far.
fn cpu(server: &RedisServer) -> f64 {
    let info: String = server.ask(&["INFO", "cpu"]);
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap();
    value("used_cpu_user:") + value("used_cpu_sys:")
}

async fn fill(server: &RedisServer, queue: &str, count: usize) {
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    until_async("the broker is ready", || async { broker.ready().await.ok() }).await;
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(500) {
        making::publish(&broker, chunk.iter().map(|number| call(queue, "tests.echo", *number)).collect()).await;
    }
}

/// The raw limit: scripted takes and endings of a hundred, one after the other, without any node.
async fn limit(server: &RedisServer, count: usize) -> (f64, f64) {
    fill(server, "limit", count).await;
    let client = redis::Client::open(server.url(0)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let record = format!("{{\"status\": \"SUCCESS\", \"result\": 1, \"pad\": \"{}\"}}", "x".repeat(150));
    let (take, end) = (redis::Script::new(TAKE), redis::Script::new(END));
    let (begun, before) = (Instant::now(), cpu(server));
    for round in 0..count.div_ceil(100) {
        let prefix = format!("{round}-");
        let got: Vec<Vec<u8>> = take.key("limit").key("limit-unacked").key("limit-index").arg(&prefix).invoke(&mut connection).unwrap();
        let _: () = end
            .key("limit")
            .key("limit-unacked")
            .key("limit-index")
            .arg(&prefix)
            .arg(got.len())
            .arg(&record)
            .invoke(&mut connection)
            .unwrap();
    }
    (count as f64 / begun.elapsed().as_secs_f64(), (cpu(server) - before) * 1000.0 / count as f64)
}

/// A drain of no-op tasks with results, acknowledged late.
pub(crate) async fn run(with_peers: bool) {
    let server = RedisServer::default();
    let count = tasks();
    let (limit, limit_cpu) = limit(&server, count).await;
    fill(&server, "drain", count).await;
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    let Backbone { broker, backend, ledger } = Backbone::redis(broker, Target::parse(&server.url(1)).unwrap(), RedisOptions::default());
    let builder =
        Node::builder().name("bench").queues(["drain"]).concurrency(number("SLOTS", 64)).prefetch_multiplier(number("PREFETCH", 8));
    DONE.store(0, Ordering::Relaxed);
    let (begun, before) = (Instant::now(), cpu(&server));
    let node = builder.backbone(broker, backend, ledger).task(nothing).start().await.unwrap();
    until_async("everything is done", || async {
        (DONE.load(Ordering::Relaxed) >= count && server.ask::<u64>(&["HLEN", "unacked"]) == 0).then_some(())
    })
    .await;
    let (elapsed, spent) = (begun.elapsed().as_secs_f64(), cpu(&server) - before);
    let idle = idle(&server);
    let rate = count as f64 / elapsed;
    let mut figures = json!({
        "tasks": count, "limit_per_s": limit.round(), "limit_server_ms": limit_cpu, "drain_per_s": rate.round(),
        "ratio": rate / limit, "server_ms_per_task": spent * 1000.0 / count as f64, "idle": idle,
    });
    drop(node);
    if with_peers {
        let (celery, bull) = (peers::celery(), peers::bull());
        figures["celery_prefork_per_s"] = celery.round().into();
        figures["times_celery"] = (rate / celery).into();
        figures["bullmq_per_s"] = bull.into();
        figures["times_bullmq"] = (rate / bull).into();
    }
    print("redis", figures);
}

/// Commands that an idle node sends in a second; what scripts call is the server's own business.
fn idle(server: &RedisServer) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut lines = BufReader::new(stream);
    let (begun, mut seen, mut line) = (Instant::now(), BTreeMap::<String, u64>::new(), String::new());
    while begun.elapsed() < Duration::from_secs(20) {
        // An error is a tenth of a second without a command; what has come of a line is kept.
        if lines.read_line(&mut line).is_ok() {
            if line.contains("] \"") && !line.contains(" lua]") {
                let name = line.split('"').nth(1).unwrap_or_default().to_lowercase();
                *seen.entry(name).or_default() += 1;
            }
            line.clear();
        }
    }
    let per_s = seen.values().sum::<u64>() as f64 / begun.elapsed().as_secs_f64();
    json!({ "per_s": per_s, "commands": seen, "seconds": begun.elapsed().as_secs() })
}
