//! The node that `fault::crash` kills.
//!
//! `crash-node run <folder> <round> <from> <to>` opens the store in the folder, or the Redis server that the folder names, runs a node on it, submits the units of work
//! `from..to`, and goes on until it is killed. `crash-node drain …` does the same until nothing is waiting, held or scheduled
//! any more.
//!
//! `crash-node serve <folder> <round> 0 0 <name>` runs a node of a cluster until SIGTERM, and appends how it sees the others to the
//! file `views`: `<milliseconds> <who looks> <node> <state>`. `crash-node submit <folder> <round> <from> <to> <tasks a second>`
//! submits and runs nothing.
//!
//! What happens is written to the file `ledger` of the folder, one line with one system call at a time, so that it is there
//! whatever becomes of the process: `submitting <unit>`, `accepted <unit> <id of the result>`, and from inside of the tasks
//! `run <round> <label> <task id> <retries> <attempt>`.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use umbel::{
    Context, NativeExecutor, Signature, SignatureExt, TaskFailure, TaskResult, brokers::Backbone, node::Node, scheduler::Settings,
};
use umbel_tests::{crash, wait};

static LEDGER: OnceLock<(File, String)> = OnceLock::new();

fn write(line: &str) {
    let (file, _) = LEDGER.get().expect("the ledger is opened first");
    (&*file).write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Writes down that a task runs, and takes as long as tasks do: between 1 and 15 ms.
async fn begin(ctx: &Context, label: &str) {
    let (_, round) = LEDGER.get().expect("the ledger is opened first");
    write(&format!("run {round} {label} {} {} {}", ctx.task_id(), ctx.retries(), ctx.attempt()));
    let millis = 1 + label.bytes().map(u64::from).sum::<u64>() % 15;
    tokio::time::sleep(Duration::from_millis(millis)).await; // workload
}

/// Returns its label.
#[umbel::task(name = "work")]
async fn work(ctx: Context, label: String) -> String {
    begin(&ctx, &label).await;
    label
}

/// Returns its label behind what the step before returned.
#[umbel::task(name = "step")]
async fn step(ctx: Context, before: String, label: String) -> String {
    begin(&ctx, &label).await;
    format!("{before}>{label}")
}

/// Returns its label and what the members of its chord returned.
#[umbel::task(name = "body")]
async fn body(ctx: Context, parts: Vec<String>, label: String) -> String {
    begin(&ctx, &label).await;
    format!("{label}({})", parts.join(","))
}

/// Asks to be run again once.
#[umbel::task(name = "again")]
async fn again(ctx: Context, label: String) -> TaskResult<String> {
    begin(&ctx, &label).await;
    if ctx.retries() == 0 { Err(ctx.retry_in(Duration::from_millis(40)).into()) } else { Ok(label) }
}

/// Fails.
#[umbel::task(name = "fail")]
async fn fail(ctx: Context, label: String) -> TaskResult<String> {
    begin(&ctx, &label).await;
    Err(TaskFailure::new("ValueError", label))
}

/// Runs for three seconds, or as many milliseconds as `UMBEL_TEST_HOLD` says.
#[umbel::task(name = "hold")]
async fn hold(ctx: Context, label: String) -> String {
    begin(&ctx, &label).await;
    let millis = env::var("UMBEL_TEST_HOLD").map_or(3_000, |millis| millis.parse().unwrap());
    tokio::time::sleep(Duration::from_millis(millis)).await; // workload
    label
}

/// Writes down how many endings of a node were refused, because others had taken over.
async fn count_refused(node: Node, folder: PathBuf) {
    let mut before = 0;
    loop {
        let refused = node.facts().counters().total(umbel::facts::Kind::Zombie);
        if refused > before {
            before = refused;
            std::fs::write(folder.join(format!("refused-{}", node.name())), refused.to_string()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // workload
    }
}

/// Writes down how a node sees the others.
async fn look(node: Node, folder: PathBuf) {
    let file = OpenOptions::new().create(true).append(true).open(folder.join("views")).unwrap();
    let mut view = node.cluster();
    let mut before = std::collections::BTreeMap::new();
    loop {
        let now = view.borrow_and_update().clone();
        for (name, member) in &now.members {
            if before.insert(name.clone(), member.state) != Some(member.state) {
                let ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
                (&file).write_all(format!("{ms} {} {name} {}\n", now.me, member.state.as_str()).as_bytes()).unwrap();
            }
        }
        if view.changed().await.is_err() {
            return;
        }
    }
}

/// Submits, so many tasks a second: nine units are 24.
async fn submit(client: umbel::Client, from: u64, to: u64, tasks_per_second: f64) {
    let begun = tokio::time::Instant::now();
    for unit in from..to {
        let due = begun + Duration::from_secs_f64((unit - from) as f64 * 24.0 / 9.0 / tasks_per_second);
        tokio::time::sleep_until(due).await; // workload
        write(&format!("submitting {unit}"));
        let result = client.submit(workflow(unit)).await.unwrap();
        write(&format!("accepted {unit} {}", result.id()));
    }
}

/// Whether parts of a chord are missing. When nothing is in any queue they never come: where a submission is several steps, one that
/// was cut off between opening its chord and sending all of the header leaves this behind, until it expires. It was not accepted;
/// of those that were, the verdict knows whether their bodies have run.
fn is_short(redis: &mut redis::Connection, group: &str) -> bool {
    let key = |suffix: &str| format!("celery-taskset-meta-{group}{suffix}");
    let (parts, size, more): (u64, Option<u64>, Option<u64>) =
        redis::pipe().cmd("ZCARD").arg(key(".j")).cmd("GET").arg(key(".s")).cmd("GET").arg(key(".t")).query(redis).unwrap();
    size.is_some_and(|size| parts < size + more.unwrap_or(0))
}

/// A unit of work as a workflow.
fn workflow(unit: u64) -> Signature {
    let label = |part: &str| crash::label(unit, part);
    match crash::Kind::of(unit) {
        crash::Kind::Task => work::s(label("task")),
        crash::Kind::Scheduled => work::s(label("task")).countdown(Duration::from_millis(100 + unit * 37 % 1_500)),
        crash::Kind::Retried => again::s(label("task")),
        crash::Kind::Chain => {
            let step = |part| step::partial().arg(label(part));
            Signature::chain([work::s(label("a")), step("b"), step("c")])
        }
        crash::Kind::Chord => Signature::chord((0..5).map(|n| work::s(label(&format!("h{n}")))), body::partial().arg(label("body"))),
        crash::Kind::Nested => {
            let inner = Signature::chord([work::s(label("i0")), work::s(label("i1"))], body::partial().arg(label("inner")));
            let last = again::s(label("h2"));
            Signature::chord([work::s(label("h0")), inner, last], body::partial().arg(label("body")))
        }
        crash::Kind::FailedChord => {
            let errback = work::si(label("errback"));
            let body = body::partial().arg(label("body")).link_error(errback);
            Signature::chord([work::s(label("h0")), fail::s(label("h1")), work::s(label("h2"))], body)
        }
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let folder = PathBuf::from(&args[1]);
    let file = OpenOptions::new().create(true).append(true).open(folder.join("ledger")).unwrap();
    assert!(LEDGER.set((file, args[2].clone())).is_ok());

    let Backbone { broker, backend, ledger } = crash::backbone(&folder);
    let number = |at: usize| args[at].parse::<u64>().unwrap();
    if args[0] == "submit" {
        let settings = Arc::new(Settings::default());
        let client = umbel::Client::new(broker, backend, ledger, settings, umbel::client::KnownTasks::default());
        return submit(client.with_patience(Duration::from_secs(60)), number(3), number(4), args[5].parse().unwrap()).await;
    }
    let builder = NativeExecutor::builder().task(work).task(step).task(body).task(again).task(fail).task(hold);
    let executor = builder.build();
    // A message is taken in many rounds, and none of them may make it a dead letter.
    let settings = Settings { max_deliveries: 10_000, ..Settings::default() };
    let slots = env::var("UMBEL_TEST_SLOTS").map_or(4, |slots| slots.parse().unwrap());
    let mut builder = Node::builder().settings(settings).concurrency(slots).lease(Duration::from_millis(600));
    if args[0] == "serve" {
        let keys = umbel::gossip::KeyRing::new("the secret of the tests", []);
        let options = match env::var("UMBEL_TEST_GOSSIP") {
            Ok(listen) => umbel::gossip::GossipOptions { listen: listen.parse().unwrap(), ..umbel::gossip::GossipOptions::loopback(keys) },
            Err(_) => umbel::gossip::GossipOptions::loopback(keys),
        };
        builder = builder.name(args[5].as_str()).lease(Duration::from_millis(2_500)).gossip(options);
    }
    let node = builder.backbone(broker, backend, ledger).executor(Arc::new(executor)).start().await.unwrap();
    for unit in args[3].parse::<u64>().unwrap()..args[4].parse().unwrap() {
        write(&format!("submitting {unit}"));
        let result = node.client().submit(workflow(unit)).await.unwrap();
        write(&format!("accepted {unit} {}", result.id()));
    }
    match args[0].as_str() {
        "serve" => {
            let looking = tokio::spawn(look(node.clone(), folder.clone()));
            let counting = tokio::spawn(count_refused(node.clone(), folder.clone()));
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            terminate.recv().await;
            node.shutdown(umbel::Shutdown::Warm { grace: Duration::from_secs(20) });
            node.wait().await.unwrap();
            looking.abort();
            counting.abort();
        }
        "run" => node.wait().await.unwrap(),
        "drain" => {
            let broker = node.broker();
            wait::until_async("nothing is left to do", || async {
                let queues = broker.queues().await.unwrap();
                queues.iter().all(|queue| queue.ready + queue.held + queue.scheduled == 0).then_some(())
            })
            .await;
            if let Ok(urls) = std::fs::read_to_string(folder.join(crash::REDIS)) {
                // A chord whose conclusion died with its node is in no queue.
                let mut redis = redis::Client::open(urls.lines().last().unwrap()).unwrap().get_connection().unwrap();
                let in_steps = urls.starts_with("amqp");
                wait::until("every chord is concluded", || {
                    let open: Vec<String> = redis::cmd("ZRANGE").arg("umbel:chords").arg(0).arg(-1).query(&mut redis).unwrap();
                    open.iter().all(|group| in_steps && is_short(&mut redis, group)).then_some(())
                });
                wait::until_async("what followed from them is done", || async {
                    let queues = broker.queues().await.unwrap();
                    queues.iter().all(|queue| queue.ready + queue.held + queue.scheduled == 0).then_some(())
                })
                .await;
            }
        }
        other => panic!("no such order: {other}"),
    }
}
