//! The environments that the project's own users have written down, as they stand there.

use super::*;

/// The mapping of `.env` in the implementation guide, with its compose commands' `-Q`.
#[test]
fn the_implementation_guide() {
    let dotenv = "CELERY_BROKER_URL=redis://redis:6379/0\nCELERY_RESULT_BACKEND=redis://redis:6379/1\n";
    let flags = [("-A", "trinity_backend"), ("-l", "info"), ("-Q", "platform")];
    let given = Given { dotenv, flags: &flags, ..Given::default() };
    assert_eq!(given.warnings(), [""; 0]);
    let config = given.config();
    assert_eq!(config.broker.as_ref().unwrap().to_string(), "redis://redis:6379/0");
    assert_eq!(config.results.as_ref().unwrap().to_string(), "redis://redis:6379/1");
    assert_eq!(plan(&config).unwrap().queues, ["platform".into()]);
}

/// The shared variables of the guide to workers and beat, with the queues that its validation expects to see.
#[test]
fn the_guide_to_workers_and_beat() {
    let dotenv = "\
REDIS_URL=redis://redis:6379/0
CELERY_TASK_DEFAULT_QUEUE=trinity.tasks
CELERY_BEAT_QUEUE=trinity.tasks.beat
CELERY_CPU_QUEUE=trinity.tasks.cpu
CELERY_IO_QUEUE=trinity.tasks.io
CELERY_WORKER_CONCURRENCY=8
";
    let given = Given { dotenv, flags: &[("-A", "config.celery"), ("-l", "info")], ..Given::default() };
    assert_eq!(given.warnings(), [""; 0]);
    let config = given.config();
    let broker = config.broker.as_ref().unwrap();
    assert_eq!((broker.to_string(), broker.origin.to_string()), ("redis://redis:6379/0".into(), "REDIS_URL, .env:1".into()));
    assert_eq!(config.results.as_ref().unwrap().origin.to_string(), "REDIS_URL, .env:1");
    assert_eq!(config.worker.concurrency.value, Concurrency::Fixed(8));
    let queues = ["trinity.tasks", "trinity.tasks.cpu", "trinity.tasks.io", "trinity.tasks.beat"].map(Into::into);
    assert_eq!(plan(&config).unwrap().queues, queues);
}

/// A compose file passes on what nobody set as empty variables, and its own variable overrides the beat queue.
#[test]
fn compose_passes_empty_variables() {
    let env = [
        ("CELERY_BROKER_URL", ""),
        ("CELERY_RESULT_BACKEND", ""),
        ("REDIS_URL", "redis://redis:6379/0"),
        ("CELERY_WORKER_CONCURRENCY", ""),
        ("CELERY_BEAT_QUEUE", "trinity.tasks.beat"),
    ];
    let config = Given { env: &env, ..Given::default() }.config();
    assert_eq!(config.broker.unwrap().origin.to_string(), "REDIS_URL");
    assert_eq!(config.worker.concurrency.value, Concurrency::Auto);
    assert_eq!(config.beat_queue.unwrap().value, "trinity.tasks.beat");
}

/// The example file of the documentation.
#[test]
fn the_documented_file() {
    let config = Given {
        toml: r#"
app = "config.celery"
[broker]
url = "${CELERY_BROKER_URL:-redis://redis:6379/0}"
[results]
url = "redis://redis:6379/1"
expires = "1d"
[queues]
default = "trinity.tasks"
[roles.cpu]
queues = ["trinity.tasks.cpu"]
concurrency = "auto"
[roles.io]
queues = ["trinity.tasks.io"]
concurrency = 32
[routes]
"trinity_backend.platform.tasks.*" = "platform"
"app.atom.tasks.*" = "atom"
[limits."app.tasks.call_api"]
rate = "100/m"
[schedules.nightly]
task = "app.tasks.report"
cron = "0 2 * * *"
timezone = "Europe/Oslo"
[dashboard]
listen = "127.0.0.1:5555"
[drain]
timeout = "25s"
"#,
        flags: &[("--role", "io")],
        ..Given::default()
    }
    .config();
    assert_eq!(
        config.routes.iter().map(|(pattern, _)| pattern.as_str()).collect::<Vec<_>>(),
        ["trinity_backend.platform.tasks.*", "app.atom.tasks.*"]
    );
    assert_eq!(config.limits[0].rate.as_ref().unwrap().value, "100/m");
    assert_eq!(config.schedules["nightly"]["cron"].value, Setting::Text("0 2 * * *".into()));
    let plan = plan(&config).unwrap();
    assert_eq!((plan.queues, plan.concurrency.value), (vec!["trinity.tasks.io".into()], Concurrency::Fixed(32)));
    assert_eq!(config.resolved.origin(&Name::new(["drain", "timeout"])).unwrap().to_string(), "umbel.toml:28");
}
