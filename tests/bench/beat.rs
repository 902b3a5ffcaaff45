//! Ten thousand scheduled entries: what a leader costs while little is due, and how late what is due is sent.

use std::time::{Duration, Instant};

use redis::Value as Answer;
use serde_json::{Value, json};
use umbel::{
    proto::Millis,
    redis::{RedisOptions, Target},
    scheduler::{beat::Entry, schedule::When},
};
use umbel_tests::{servers::redis::RedisServer, wait::until};

use crate::{print, process::Process};

const ENTRIES: usize = 10_000;

/// How long is measured.
const SPAN: Duration = Duration::from_secs(30);

/// Once with entries that are due in an hour, once with entries that are due every ten minutes, about 17 a second.
pub(crate) async fn run() {
    let idle = measure(3_600_000).await;
    let busy = measure(600_000).await;
    print(
        "beat",
        json!({
            "entries": ENTRIES, "idle_cpu_percent": idle["cpu_percent"], "rss_mb": idle["rss_mb"],
            "busy_per_second": ENTRIES / 600, "busy_cpu_percent": busy["cpu_percent"], "sent": busy["sent"],
            "lateness_p50_ms": busy["p50"], "lateness_p99_ms": busy["p99"], "lateness_max_ms": busy["max"],
        }),
    );
}

async fn measure(every_ms: Millis) -> Value {
    let server = RedisServer::default();
    let broker = umbel::brokers::redis::RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    let store = umbel::brokers::Broker::schedules(&broker).unwrap();
    let entry = |number: usize| {
        let mut entry = Entry::new(format!("entry-{number:05}"), "bench.tick", When::Every { every_ms, relative: false });
        entry.options.insert("queue".to_owned(), "ticks".into());
        entry
    };
    store.put((0..ENTRIES).map(entry).collect()).await.unwrap();
    // Entries that began at different times: their due times are spread over the distance, another each time.
    let now = umbel::clock::now();
    for number in 0..ENTRIES {
        let began = now - every_ms + 5_000 + number as Millis * (every_ms - 10_000) / ENTRIES as Millis;
        server.run(&["HSET", "umbel:beat:marks", &format!("entry-{number:05}"), &format!("{began} 0 -")]);
    }
    let home = tempfile::tempdir().unwrap();
    let url = server.url(0);
    let (process, _) = Process::start(home.path(), &["-b", &url, "beat", "--listen", "127.0.0.1:0", "-l", "warning"], " ready.");
    let leads = || matches!(server.run(&["EXISTS", "umbel:beat:leader"]), Answer::Int(1)).then_some(());
    until("it leads", leads);
    // Reading the entries is no part of it.
    let begun = Instant::now();
    until("it has read them", || (begun.elapsed() > Duration::from_secs(4)).then_some(()));
    let begun = (Instant::now(), process.ticks());
    until("the span has passed", || (begun.0.elapsed() > SPAN).then_some(()));
    let cpu = (process.ticks() - begun.1) as f64 / begun.0.elapsed().as_secs_f64();
    let rss = process.resident_mb();
    let marks: Vec<String> = server.ask(&["HVALS", "umbel:beat:marks"]);
    let mut late: Vec<Millis> = marks
        .iter()
        .filter_map(|mark| {
            let words: Vec<&str> = mark.split(' ').collect();
            Some(words[2].parse::<Millis>().ok()? - words[0].parse::<Millis>().ok()?)
        })
        .collect();
    late.sort_unstable();
    let at = |part: f64| late.get(((late.len() as f64 * part) as usize).min(late.len().saturating_sub(1)));
    json!({
        "cpu_percent": (cpu * 100.0).round() / 100.0, "rss_mb": rss, "sent": late.len(),
        "p50": at(0.5), "p99": at(0.99), "max": late.last(),
    })
}
