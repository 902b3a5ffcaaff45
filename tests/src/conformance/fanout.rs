//! What every [`Fanout`] must promise.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use umbel::{
    brokers::fanout::{Address, Fanout, Heard, Listen, Listener},
    proto::{Envelope, Map, Value},
};

use super::{Setup, Stage};
use crate::wait::{soon, until_async};

/// Makes one test of every case of the fanout suite.
#[macro_export]
macro_rules! fanout_conformance {
    ($stage:ty) => {
        $crate::conformance_cases!(
            $stage,
            $crate::conformance::fanout,
            [
                a_broadcast_reaches_everybody_who_listens,
                a_message_arrives_as_it_was_sent,
                nobody_listening_is_no_error,
                an_answer_reaches_its_client_alone,
                topics_reach_those_who_want_them,
                a_senders_messages_keep_their_order,
                a_dropped_next_loses_nothing,
                a_name_can_listen_again,
                a_flood_is_bounded_and_admitted,
                kinds_of_exchanges_do_not_mix,
            ]
        );
    };
}

fn fanout<S: Stage>(stage: &S) -> Arc<dyn Fanout> {
    stage.broker().fanout().expect("this broker has a fanout")
}

fn broadcast() -> Address {
    Address::Broadcast { exchange: "celery.pidbox".to_owned() }
}

fn answer(key: &str) -> Address {
    Address::Direct { exchange: "reply.celery.pidbox".to_owned(), key: key.to_owned() }
}

fn event(key: &str) -> Address {
    Address::Topic { exchange: "celeryev".to_owned(), key: key.to_owned() }
}

fn commands(node: &str) -> Listen {
    Listen::Broadcasts { exchange: "celery.pidbox".to_owned(), queue: format!("{node}.celery.pidbox").into() }
}

fn answers(key: &str) -> Listen {
    Listen::Direct { exchange: "reply.celery.pidbox".to_owned(), queue: format!("{key}.reply.celery.pidbox").into(), key: key.to_owned() }
}

fn events(name: &str, pattern: &str) -> Listen {
    Listen::Topics { exchange: "celeryev".to_owned(), queue: format!("celeryev.{name}").into(), pattern: pattern.to_owned() }
}

fn message(text: &str) -> Envelope {
    Envelope {
        body: format!("\"{text}\"").into_bytes().into(),
        content_type: "application/json".to_owned(),
        content_encoding: "utf-8".to_owned(),
        headers: Map::from_iter([("clock".to_owned(), Value::Int(7)), ("nothing".to_owned(), Value::Null)]),
        properties: Map::new(),
    }
}

async fn send(fanout: &Arc<dyn Fanout>, to: Address, texts: &[&str]) {
    let batch = texts.iter().map(|text| (to.clone(), message(text))).collect();
    for sent in soon("sending", fanout.send(batch)).await {
        sent.unwrap();
    }
}

async fn listen(fanout: &Arc<dyn Fanout>, what: Listen) -> Box<dyn Listener> {
    soon("listening", fanout.listen(what)).await.unwrap()
}

async fn heard(listener: &mut Box<dyn Listener>) -> Envelope {
    match soon("a message", listener.next()).await {
        Heard::Message(message) => *message.unwrap(),
        Heard::Missed(count) => panic!("{count} messages were missed"),
    }
}

async fn text(listener: &mut Box<dyn Listener>) -> String {
    String::from_utf8(heard(listener).await.body.to_vec()).unwrap().trim_matches('"').to_owned()
}

/// The first message after those before it is `last`: nothing else came between.
async fn only(listener: &mut Box<dyn Listener>, texts: &[&str]) {
    for expected in texts {
        assert_eq!(text(listener).await, *expected);
    }
}

/// Goal: everybody hears what is sent to everybody.
pub async fn a_broadcast_reaches_everybody_who_listens<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let mut all = [listen(&fanout, commands("a")).await, listen(&fanout, commands("b")).await, listen(&fanout, commands("c")).await];
    send(&fanout, broadcast(), &["one", "two"]).await;
    for listener in &mut all {
        only(listener, &["one", "two"]).await;
    }
}

/// Goal: body, content type and headers are what they were, and it says where it was sent.
pub async fn a_message_arrives_as_it_was_sent<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let mut listener = listen(&fanout, events("a", "#")).await;
    send(&fanout, event("worker.heartbeat"), &["grüße"]).await;
    let came = heard(&mut listener).await;
    let sent = message("grüße");
    assert_eq!((came.body, came.content_type, came.content_encoding), (sent.body, sent.content_type, sent.content_encoding));
    assert_eq!(came.headers.get("clock"), Some(&Value::Int(7)));
    let info = came.properties.get("delivery_info").and_then(Value::as_map).unwrap();
    assert_eq!(info.get("exchange").and_then(Value::as_str), Some("celeryev"));
    assert_eq!(info.get("routing_key").and_then(Value::as_str), Some("worker.heartbeat"));
}

/// Goal: what is sent to nobody is gone, and who listens afterwards does not hear it.
pub async fn nobody_listening_is_no_error<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    for to in [broadcast(), answer("nobody"), event("task.sent")] {
        send(&fanout, to, &["early"]).await;
    }
    let mut all = [
        (listen(&fanout, commands("a")).await, broadcast()),
        (listen(&fanout, answers("nobody")).await, answer("nobody")),
        (listen(&fanout, events("a", "#")).await, event("task.sent")),
    ];
    for (listener, to) in &mut all {
        send(&fanout, to.clone(), &["late"]).await;
        only(listener, &["late"]).await;
    }
}

/// Goal: an answer goes to the client it is for.
pub async fn an_answer_reaches_its_client_alone<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let (mut a, mut b) = (listen(&fanout, answers("a")).await, listen(&fanout, answers("b")).await);
    send(&fanout, answer("a"), &["for a"]).await;
    send(&fanout, answer("b"), &["for b"]).await;
    send(&fanout, answer("a"), &["for a again"]).await;
    only(&mut a, &["for a", "for a again"]).await;
    only(&mut b, &["for b"]).await;
}

/// Goal: patterns choose, as Celery's gossip and monitors use them.
pub async fn topics_reach_those_who_want_them<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let mut all = listen(&fanout, events("all", "#")).await;
    let mut workers = listen(&fanout, events("workers", "worker.#")).await;
    let mut sent = listen(&fanout, events("sent", "task.sent")).await;
    for key in ["worker.online", "task.sent", "task.multi", "worker.elect.ack"] {
        send(&fanout, event(key), &[key]).await;
    }
    only(&mut all, &["worker.online", "task.sent", "task.multi", "worker.elect.ack"]).await;
    only(&mut workers, &["worker.online", "worker.elect.ack"]).await;
    only(&mut sent, &["task.sent"]).await;
}

/// Goal: what one sender sends one after the other is heard in that order.
pub async fn a_senders_messages_keep_their_order<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let texts: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (what, to) in [(commands("a"), broadcast()), (answers("a"), answer("a")), (events("a", "#"), event("task.multi"))] {
        let mut listener = listen(&fanout, what).await;
        send(&fanout, to, &texts).await;
        only(&mut listener, &texts).await;
    }
}

/// Goal: waiting may be given up at any moment.
/// Method: waits for the shortest times while messages come.
pub async fn a_dropped_next_loses_nothing<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    for (what, to) in [(commands("a"), broadcast()), (answers("a"), answer("a")), (events("a", "#"), event("task.multi"))] {
        let mut listener = listen(&fanout, what).await;
        let sending = tokio::spawn({
            let fanout = fanout.clone();
            async move {
                for number in 0..100 {
                    send(&fanout, to.clone(), &[&number.to_string()]).await;
                }
            }
        });
        let mut came = BTreeSet::new();
        let mut wait = 0;
        while came.len() < 100 {
            wait = (wait + 37) % 900;
            if let Ok(heard) = tokio::time::timeout(Duration::from_micros(wait), listener.next()).await {
                let Heard::Message(message) = heard else { panic!("{heard:?}") };
                assert!(came.insert(message.unwrap().body), "a message came twice");
            }
        }
        sending.await.unwrap();
    }
}

/// Goal: a node that starts again under its name hears again, whether it said goodbye or not.
pub async fn a_name_can_listen_again<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let first = listen(&fanout, commands("a")).await;
    soon("closing", first.close()).await.unwrap();
    let mut second = listen(&fanout, commands("a")).await;
    send(&fanout, broadcast(), &["to the second"]).await;
    only(&mut second, &["to the second"]).await;
    drop(second);
    // A broker may need a moment to notice that somebody has gone without a word.
    let mut third = until_async("the name is free", || async { fanout.listen(commands("a")).await.ok() }).await;
    send(&fanout, broadcast(), &["to the third"]).await;
    only(&mut third, &["to the third"]).await;
}

/// Goal: who does not keep up loses the oldest, is told how many, and hears the newest.
pub async fn a_flood_is_bounded_and_admitted<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let (mut slow, mut attentive) = (listen(&fanout, events("slow", "#")).await, listen(&fanout, events("attentive", "#")).await);
    const COUNT: u64 = 6_000;
    let mut last = String::new();
    for round in 0..COUNT / 500 {
        let texts: Vec<String> = (0..500).map(|number| (round * 500 + number).to_string()).collect();
        send(&fanout, event("task.multi"), &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for _ in 0..500 {
            last = text(&mut attentive).await;
        }
    }
    assert_eq!(last, (COUNT - 1).to_string());
    let (mut missed, mut came) = (0, 0);
    let mut newest = String::new();
    while missed + came < COUNT {
        match soon("a message", slow.next()).await {
            Heard::Missed(count) => missed += count,
            Heard::Message(message) => {
                came += 1;
                newest = String::from_utf8(message.unwrap().body.to_vec()).unwrap();
            }
        }
    }
    assert_eq!((missed + came, newest), (COUNT, format!("\"{last}\"")));
    assert!(missed > 0, "everything was kept");
}

/// Goal: commands, answers and events keep apart.
pub async fn kinds_of_exchanges_do_not_mix<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let fanout = fanout(&stage);
    let mut all = [listen(&fanout, commands("a")).await, listen(&fanout, answers("a")).await, listen(&fanout, events("a", "#")).await];
    for to in [event("worker.online"), answer("a"), broadcast(), Address::Broadcast { exchange: "other.pidbox".to_owned() }] {
        send(&fanout, to.clone(), &[&format!("{to:?}").replace('"', "'")]).await;
    }
    for (listener, to) in all.iter_mut().zip([broadcast(), answer("a"), event("worker.online")]) {
        let expected = format!("{to:?}").replace('"', "'");
        only(listener, &[&expected]).await;
    }
    for (listener, to) in all.iter_mut().zip([broadcast(), answer("a"), event("worker.online")]) {
        send(&fanout, to, &["last"]).await;
        only(listener, &["last"]).await;
    }
}
