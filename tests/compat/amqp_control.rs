//! Celery's remote control on RabbitMQ: its own control API and command line ask, nodes answer. That every command answers as it
//! should is shown on Redis (`tests/control`); here, that commands and answers find their way, and change what they should.

use std::{path::Path, process::Command, time::Duration};

use serde_json::{Value as Json, json};
use umbel::{Node, amqp::AmqpOptions, brokers::Backbone, redis::RedisOptions};
use umbel_tests::{
    servers::{rabbit::Vhost, redis::RedisServer},
    wait::{soon, until_async},
};

use super::{VERSIONS, python};

#[umbel::task(name = "proj.add")]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// Runs a program of Celery's on the seeds' application, with these addresses.
async fn run(vhost: &Vhost, redis: &RedisServer, program: &Path, args: &[&str]) -> std::process::Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("control")).env_clear();
    command.envs([("CELERY_BROKER_URL", vhost.url()), ("CELERY_RESULT_BACKEND", redis.url(1)), ("PYTHONDONTWRITEBYTECODE", "1".into())]);
    soon("Celery", tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
}

/// Asks with Celery's control API; what the one node said to each.
async fn ask(vhost: &Vhost, redis: &RedisServer, version: &str, commands: Json) -> Vec<Json> {
    let output = run(vhost, redis, &python(version), &["ask.py", &commands.to_string()]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    answers.into_iter().map(|answer| answer["node@here"].clone()).collect()
}

/// Goal: commands of both versions are answered by way of RabbitMQ's exchanges, and a queue that is added is taken from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_find_their_way() {
    let (vhost, redis) = (Vhost::new(), RedisServer::default());
    let Backbone { broker, backend, ledger } =
        Backbone::amqp(&vhost.url(), Some(&redis.url(1)), AmqpOptions::default(), RedisOptions::default()).unwrap();
    let builder = Node::builder().name("node@here").queues(["celery"]).concurrency(2).backbone(broker, backend, ledger).task(add);
    let node = soon("the node", builder.start()).await.unwrap();
    let client = node.client();
    for version in VERSIONS {
        // It listens when it answers.
        let ping = json!([["ping", {}, { "limit": 1 }]]);
        until_async("it answers", || async { (ask(&vhost, &redis, version, ping.clone()).await[0]["ok"] == "pong").then_some(()) }).await;
        let extra = format!("extra-{version}");
        let one = json!({ "limit": 1 });
        let told = ask(
            &vhost,
            &redis,
            version,
            json!([
                ["add_consumer", { "queue": extra, "exchange": null, "exchange_type": "direct", "routing_key": null }, one],
                ["rate_limit", { "task_name": "proj.add", "rate_limit": "200/m" }, one],
                ["rate_limit", { "task_name": "proj.add", "rate_limit": 0 }, one],
                ["revoke", { "task_id": format!("revoked-{version}") }, one],
            ]),
        );
        let expected = [
            json!({ "ok": format!("add consumer {extra}") }),
            json!({ "ok": "new rate limit set successfully" }),
            json!({ "ok": "rate limit disabled successfully" }),
            json!({ "ok": format!("tasks {{'revoked-{version}'}} flagged as revoked") }),
        ];
        assert_eq!(told.await, expected, "celery {version}");
        let result = soon("the submission", client.submit(add::s(20, 22).set("queue", extra.as_str()))).await.unwrap();
        assert_eq!(soon("the result", result.get::<i64>(Duration::from_secs(60))).await.unwrap(), 42, "a queue that was added is served");
        let told = ask(&vhost, &redis, version, json!([["cancel_consumer", { "queue": extra }, one], ["active_queues", {}, one]])).await;
        assert_eq!(told[0], json!({ "ok": format!("no longer consuming from {extra}") }));
        let names: Vec<&Json> = told[1].as_array().unwrap().iter().map(|queue| &queue["name"]).collect();
        assert_eq!(names, ["celery"], "celery {version}");
        let program = python(version).with_file_name("celery");
        let output = run(&vhost, &redis, &program, &["-A", "config.celery", "inspect", "ping", "-t", "10", "-d", "node@here"]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("node@here") && text.contains("pong"), "celery {version}: {output:?}");
    }
}
