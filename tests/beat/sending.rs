//! What is sent, to where, and what becomes of it when the broker goes away.

use std::time::Duration;

use serde_json::Value as Json;
use umbel::{
    Node,
    actors::beat::BeatOptions,
    brokers::Backbone,
    embedded::{Store, StoreOptions},
    scheduler::{
        beat::{CatchUp, Entry, Source, tick_id},
        schedule::When,
    },
};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

use super::{beat, ids, mark, node, sent};

#[umbel::task(name = "beat.note")]
async fn note(number: i64) -> i64 {
    number
}

/// Goal: a node sends what is declared, to the queue of beat, marks it as beat's, and tells of it; another entry comes at run
/// time, is paused, is run out of turn and is removed; a declared one cannot be removed.
#[test]
fn entries_are_declared_and_added() {
    let server = RedisServer::default();
    let folder = tempfile::tempdir().unwrap();
    let config = "[beat]\nqueue = \"proj.beat\"\n[schedules.declared]\ntask = \"proj.tick\"\nevery = \"200ms\"\nargs = [1, \"two\"]\n";
    std::fs::write(folder.path().join("umbel.toml"), config).unwrap();
    let url = server.url(0);
    let _node = beat(folder.path(), &url, "beat@test");
    let verb = |args: &[&str]| {
        let words = [&["-b", url.as_str(), "schedules"], args, &["-o", "json"]].concat();
        let ran = node().args(words).env("HOME", folder.path()).within(folder.path()).run();
        let answer: Json = serde_json::from_str(&ran.stdout).unwrap_or(Json::Null);
        (ran.code, answer, ran.stderr)
    };
    let first = until("a tick is sent", || sent(&server, "proj.beat").into_iter().next());
    assert_eq!(first.headers["task"], "proj.tick");
    assert_eq!((&first.headers["celery_beat_task"], &first.headers["periodic_task_name"]), (&Json::Bool(true), &"declared".into()));
    assert_eq!(first.headers["argsrepr"], "(1, 'two')");
    let (code, all, _) = verb(&["ls"]);
    assert_eq!((code, all["leader"].as_str(), all["items"][0]["source"].as_str()), (Some(0), Some("beat@test"), Some("config")));
    assert!(all["items"][0]["last"].is_i64() && all["items"][0]["next"].is_i64(), "{all}");

    let (code, added, error) = verb(&["add", "more", "proj.more", "--every", "0.1", "--queue", "more", "-a", "[7]"]);
    assert_eq!((code, added["source"].as_str()), (Some(0), Some("api")), "{error}");
    until("the added one is sent", || sent(&server, "more").into_iter().next());
    assert_eq!(verb(&["pause", "more"]).0, Some(0));
    let paused = mark(&server, "more").unwrap();
    let declared = mark(&server, "declared").unwrap().1;
    until("the other one goes on", || mark(&server, "declared").filter(|(_, runs)| *runs > declared + 2));
    assert_eq!(mark(&server, "more").unwrap(), paused, "a paused entry is not sent");
    let (_, ran, _) = verb(&["run", "more"]);
    let id = ran["id"].as_str().unwrap().to_owned();
    assert!(sent(&server, "more").iter().any(|message| message.id == id));
    assert_eq!(verb(&["resume", "more"]).0, Some(0));
    until("the resumed one is sent", || mark(&server, "more").filter(|(_, runs)| *runs > paused.1));
    let (_, next, _) = verb(&["next", "declared", "-n", "3"]);
    let times: Vec<i64> = next["items"].as_array().unwrap().iter().map(|at| at.as_i64().unwrap()).collect();
    assert_eq!((times.len(), times[2] - times[1]), (3, 200));

    let (code, _, error) = verb(&["rm", "declared", "--yes"]);
    assert!(code == Some(2) && error.contains("umbel.toml"), "{error}");
    assert_eq!(verb(&["rm", "more", "--yes"]).0, Some(0));
    assert_eq!(verb(&["show", "more"]).0, Some(5));
    let (code, _, error) = verb(&["add", "wrong", "proj.more", "--cron", "61 * * * *"]);
    assert!(code == Some(2) && error.contains("61"), "{error}");
    let (code, _, error) = verb(&["show", "declard"]);
    assert!(code == Some(5) && error.contains("did you mean \"declared\"?"), "{error}");
}

/// Goal: an entry that is not declared any more is gone with the next node that leads, and one that is changed goes on.
#[test]
fn what_is_not_declared_any_more_is_gone() {
    let server = RedisServer::default();
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("umbel.toml"), text).unwrap();
    let entry = |name: &str, every: &str| format!("[schedules.{name}]\ntask = \"t\"\nqueue = \"q\"\nevery = \"{every}\"\n");
    write(&(entry("a", "100ms") + &entry("b", "1h")));
    let first = beat(folder.path(), &server.url(0), "beat@test");
    let before = until("the first is sent", || mark(&server, "a").filter(|(_, runs)| *runs > 0));
    assert!(mark(&server, "b").is_some());
    drop(first);
    write(&entry("a", "200ms"));
    let _second = beat(folder.path(), &server.url(0), "beat@test");
    until("the other is gone", || mark(&server, "b").is_none().then_some(()));
    until("the first goes on", || mark(&server, "a").filter(|(_, runs)| *runs > before.1 + 1));
}

/// Goal: while the broker is away nothing is sent; when it is back, each entry catches up by its own policy.
#[test]
fn an_outage_is_caught_up_with() {
    let mut server = RedisServer::durable();
    let folder = tempfile::tempdir().unwrap();
    let entry = |name: &str, catch_up: &str| {
        format!("[schedules.{name}]\ntask = \"t\"\nqueue = \"{name}\"\nevery = \"100ms\"\ncatch_up = \"{catch_up}\"\n")
    };
    std::fs::write(folder.path().join("umbel.toml"), entry("all", "all") + &entry("one", "one")).unwrap();
    let _node = beat(folder.path(), &server.url(0), "beat@test");
    until("both are sent", || mark(&server, "all").zip(mark(&server, "one")).filter(|(all, one)| all.1 > 1 && one.1 > 1));
    server.kill();
    std::thread::sleep(Duration::from_millis(1_500)); // workload: the length of the outage
    server.restart();
    let (_, all) = mark(&server, "all").unwrap();
    let (_, one) = mark(&server, "one").unwrap();
    until("both go on", || mark(&server, "all").zip(mark(&server, "one")).filter(|(a, o)| a.1 > all + 15 && o.1 > one + 1));
    let (messages, (due, runs)) = until("a tick is whole", || {
        let mark = mark(&server, "all")?;
        let messages = sent(&server, "all");
        (messages.len() == mark.1).then_some((messages, mark))
    });
    let found: Vec<String> = messages.into_iter().map(|message| message.id).collect();
    assert_eq!(found, ids("all", due, 100, runs), "all of them, once each, in order");
    let (due_of_one, runs_of_one) = mark(&server, "one").unwrap();
    let spanned = usize::try_from((due_of_one - due) / 100 + i64::try_from(runs).unwrap()).unwrap();
    assert!(runs_of_one + 5 < spanned, "one of those that were missed is sent, not all: {runs_of_one} of {spanned}");
}

/// Goal: the embedded store keeps schedules as well; a node runs what it sends itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_sends_and_runs() {
    let store = Store::temporary(StoreOptions::default()).unwrap();
    let Backbone { broker, backend, ledger } = Backbone::embedded(store).unwrap();
    let mut entry = Entry::new("own", "beat.note", When::Every { every_ms: 100, relative: false });
    entry.args = vec![umbel::Value::Int(42)];
    entry.source = Source::Config;
    entry.catch_up = CatchUp::All { window_ms: 60_000 };
    let options = BeatOptions { declared: [(Source::Config, vec![entry])].into(), ..BeatOptions::default() };
    let builder = Node::builder().name("single").backbone(broker.clone(), backend, ledger).task(note).beat(options);
    let node = soon("the node", builder.start()).await.unwrap();
    let report = until_async("it has sent", || async { node.report().await?.beat.filter(|beat| beat.sent > 3) }).await;
    assert!(report.leads && report.entries == 1 && report.outage.is_none(), "{report:?}");
    let book = broker.schedules().unwrap().book().await.unwrap();
    let id = tick_id("own", book.entries[0].mark.due);
    let value: i64 = soon("the result", node.client().result(id).get(Duration::from_secs(30))).await.unwrap();
    assert_eq!(value, 42);
}
