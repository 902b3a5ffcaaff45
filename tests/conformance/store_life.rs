//! The process that `conformance::killed` kills.
//!
//! `store-life live <store> <log> <round>` publishes, takes, ends and opens chords as fast as it can, until it is killed.
//! `store-life drain <store> <log> <round>` publishes nothing and goes on until nothing is left. What is answered or taken is
//! appended to the log, one system call a line, so that it is there whatever becomes of the process:
//!
//! * `P id`: the publish of `id` was acknowledged;
//! * `C group`: the submission of a chord of two was acknowledged;
//! * `T id tag`: a message was taken;
//! * `E id tag`: its ending was answered as done;
//! * `B group`: the conclusion of a chord was answered as done.
//!
//! The ending of a message stores its result, records its part in its chord, and sends its successor, `id+`; a successor has
//! none.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    sync::Arc,
};

use umbel::{
    brokers::{Backbone, Delivery},
    embedded::StoreOptions,
    proto::{GroupId, State},
    scheduler::{Answer, Commit, Effect, Fence, ReadyChord, Release},
};
use umbel_tests::{conformance::making::*, wait::until_async};

struct Life {
    backbone: Backbone,
    log: File,
    round: String,
}

impl Life {
    fn write(&self, line: &str) {
        (&self.log).write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Publishes for ever, in batches of 1 to 8.
    async fn publish(&self, publisher: usize) {
        for batch in 0.. {
            let ids = ids(&format!("r{}-p{publisher}-b{batch}-", self.round), 1 + batch % 8);
            let messages = ids.iter().map(|id| message("q", id)).collect();
            for (id, answer) in ids.iter().zip(self.backbone.broker.publish(messages).await) {
                answer.unwrap();
                self.write(&format!("P {id}"));
            }
        }
    }

    /// Submits chords for ever.
    async fn submit(&self) {
        for number in 0.. {
            let group = format!("r{}-c{number}", self.round);
            let members = (0..2).map(|index| Effect::Publish(Box::new(message("q", &format!("{group}/{index}")))));
            let effects = std::iter::once(open_chord(&group, 2)).chain(members).collect();
            let answers = self.backbone.ledger.commit(vec![open(effects)]).await.unwrap();
            assert_eq!(answers, [Answer::Done { ready: Vec::new() }]);
            self.write(&format!("C {group}"));
        }
    }

    /// Takes and ends for ever.
    async fn work(&self, worker: usize) {
        let mut subscription = subscribe(&*self.backbone.broker, &format!("node{worker}"), &["q", "bodies"], LONG_LEASE).await;
        loop {
            let taken = subscription.fetch(20).await.unwrap();
            taken.iter().for_each(|delivery| self.write(&format!("T {} {}", id(delivery), delivery.held.tag)));
            let answers = self.backbone.ledger.commit(taken.iter().map(end).collect()).await.unwrap();
            for (delivery, answer) in taken.iter().zip(answers) {
                let Answer::Done { ready } = answer else { panic!("{} was refused", id(delivery)) };
                self.write(&format!("E {} {}", id(delivery), delivery.held.tag));
                self.conclude(ready).await;
            }
        }
    }

    async fn conclude(&self, ready: Vec<ReadyChord>) {
        for chord in ready {
            let effects = vec![Effect::Publish(Box::new(message("bodies", &format!("{}-body+", chord.group))))];
            let commit = Commit { fence: Fence::Chord { group: chord.group.clone(), failed: false }, effects };
            if self.backbone.ledger.commit(vec![commit]).await.unwrap() != [Answer::Refused] {
                self.write(&format!("B {}", chord.group));
            }
        }
    }

    async fn is_empty(&self) -> bool {
        let waiting = |queues: Vec<umbel::brokers::QueueStatus>| queues.iter().map(|queue| queue.ready + queue.held).sum::<u64>();
        waiting(self.backbone.broker.queues().await.unwrap()) == 0 && self.backbone.ledger.unconcluded(1).await.unwrap().is_empty()
    }
}

fn end(delivery: &Delivery) -> Commit {
    let id = id(delivery);
    let mut effects = Vec::new();
    if !id.ends_with('+') {
        effects.push(Effect::Publish(Box::new(message("q", &format!("{id}+")))));
    }
    effects.push(Effect::Store(Box::new(result(&id, State::Success, id.as_str()))));
    if let Some((group, index)) = id.split_once('/').filter(|_| !id.ends_with('+')) {
        let effect = part(group, index.parse().unwrap(), &id);
        let Effect::Part(part) = &effect else { unreachable!() };
        assert_eq!(part.group, GroupId::from(group));
        effects.push(effect);
    }
    effects.push(Effect::Release(Release::Ack));
    ending(&delivery.held, effects)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = env::args().collect();
    let log = OpenOptions::new().create(true).append(true).open(&args[3]).unwrap();
    let backbone = Backbone::open(&format!("umbel://{}", args[2]), None, StoreOptions::default()).unwrap();
    let life = Arc::new(Life { backbone, log, round: args[4].clone() });
    life.conclude(life.backbone.ledger.unconcluded(usize::MAX).await.unwrap()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..2 {
        let life = Arc::clone(&life);
        tasks.spawn(async move { life.work(worker).await });
    }
    if args[1] == "drain" {
        until_async("nothing is left", || async { life.is_empty().await.then_some(()) }).await;
        return;
    }
    for publisher in 0..3 {
        let life = Arc::clone(&life);
        tasks.spawn(async move { life.publish(publisher).await });
    }
    let submitter = Arc::clone(&life);
    tasks.spawn(async move { submitter.submit().await });
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
