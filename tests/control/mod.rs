//! Remote control and events, with Celery's own programs as the judges: the `celery` command line of every supported version,
//! its control API, its event receiver, and what others have built on them.

mod changes;
mod commands;
mod events;
mod hostile;
mod monitors;
mod seed;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use umbel::{Context, Node, NodeBuilder, brokers::Backbone, embedded::StoreOptions, redis::RedisOptions, telling::Description};
use umbel_tests::{
    program::{Call, Ran},
    servers::redis::RedisServer,
    wait::soon,
};

/// The versions of Celery that are supported.
const VERSIONS: [&str; 2] = ["5.6", "5.7"];

#[umbel::task(name = "proj.add")]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[umbel::task(name = "proj.fail")]
async fn fail() -> Result<(), String> {
    Err("no".to_owned())
}

#[umbel::task(name = "proj.limited", rate_limit = "10/m")]
async fn limited() {}

/// Runs until it is told to stop.
#[umbel::task(name = "proj.wait")]
async fn wait_for_ever(ctx: Context) {
    ctx.cancelled().await;
    std::future::pending::<()>().await;
}

/// Keeps a processor busy until it is told to stop.
#[umbel::task(name = "proj.burn")]
fn burn(ctx: &Context) {
    let mut number = 1u64;
    while !ctx.is_cancelled() {
        for _ in 0..100_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        std::hint::black_box(number);
    }
}

fn backbone(server: &RedisServer) -> Backbone {
    Backbone::open_with(&server.url(0), Some(&server.url(1)), StoreOptions::default(), RedisOptions::default()).unwrap()
}

/// A node with the tasks above on two slots.
async fn node(server: &RedisServer, name: &str, queues: &[&str]) -> Node {
    described(server, name, queues, Description { drain: Duration::from_secs(1), ..Description::default() }).await
}

async fn described(server: &RedisServer, name: &str, queues: &[&str], description: Description) -> Node {
    start(server, name, Node::builder().queues(queues.iter().copied()).concurrency(2).describe(description)).await
}

/// One with as many slots as there is work for.
async fn scaled(server: &RedisServer, name: &str, bounds: &str) -> Node {
    start(server, name, Node::builder().queues(["celery"]).autoscale(bounds.parse().unwrap())).await
}

async fn start(server: &RedisServer, name: &str, builder: NodeBuilder) -> Node {
    let Backbone { broker, backend, ledger } = backbone(server);
    let builder = builder.name(name);
    let builder = builder.backbone(broker, backend, ledger).task(add).task(fail).task(limited).task(wait_for_ever).task(burn);
    let node = soon("the node", builder.start()).await.unwrap();
    soon("remote control", async {
        let broker = node.broker();
        let listening = || async { broker.fanout().unwrap().listening("celery.pidbox").await.unwrap().unwrap() };
        let wanted = format!("{name}.celery.pidbox");
        umbel_tests::wait::until_async("it listens", || async {
            listening().await.iter().any(|queue| queue.as_str() == wanted).then_some(())
        })
        .await;
    })
    .await;
    node
}

fn environment(version: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = top.join(format!("target/celery-{version}"));
    assert!(folder.join("bin/python").is_file(), "{} is not there; try: tests/setup", folder.display());
    folder
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("control")
}

/// The variables of the seeds.
fn variables(server: &RedisServer) -> [(&'static str, String); 3] {
    [("CELERY_BROKER_URL", server.url(0)), ("CELERY_RESULT_BACKEND", server.url(1)), ("PYTHONDONTWRITEBYTECODE", "1".to_owned())]
}

/// Runs a Python program of this suite and reads the JSON that it prints.
async fn python(version: &str, server: &RedisServer, script: &str, input: &Json) -> Json {
    let mut command = Command::new(environment(version).join("bin/python"));
    command.env_clear().envs(variables(server)).current_dir(folder()).arg(script).arg(input.to_string());
    command.stdin(Stdio::null());
    let output = soon(script, tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Asks with Celery's control API: a list of `[method, arguments]` or `[method, arguments, how]`; for each, who said what.
async fn ask(version: &str, server: &RedisServer, commands: Json) -> Vec<Json> {
    python(version, server, "ask.py", &commands).await.as_array().unwrap().clone()
}

/// The answer of the node called `node` to one command.
async fn said(version: &str, server: &RedisServer, node: &str, method: &str, arguments: Json) -> Json {
    ask(version, server, json!([[method, arguments]])).await[0][node].clone()
}

/// Runs the real `celery` command line on the seeds' application.
async fn celery(version: &str, server: &RedisServer, args: &[&str]) -> Ran {
    let exe = environment(version).join("bin/celery");
    let call = Call::new(exe.to_str().unwrap(), "celery").args(["-A", "config.celery"]).args(args).within(&folder());
    let call = variables(server).into_iter().fold(call, |call, (name, value)| call.env(name, value));
    soon("celery", tokio::task::spawn_blocking(|| call.run())).await.unwrap()
}
