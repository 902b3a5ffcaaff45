//! Publishing and settling: what both write into the one script of commits.

use bytes::Bytes;
use umbel_proto::{DeliveryTag, QueueName};
use umbel_scheduler::{Publish, Release};

use super::{
    super::{BrokerError, Held},
    Shared,
};
use crate::{
    clock,
    redis::{
        commit::{Batch, Letter, Outcome},
        entry::{self, Back, Passage},
        error::RedisError,
    },
};

/// How many commits go into one call of the script: enough to be cheap, few enough that nobody waits long for the server.
pub(crate) const COMMITS: usize = 500;

/// A message ready to be written.
#[derive(Debug)]
pub(crate) struct Posting {
    queue: QueueName,
    list: String,
    tag: String,
    due: Option<i64>,
    envelope: Vec<u8>,
}

/// What paying for a delivery comes to.
#[derive(Debug)]
pub(crate) enum Payment {
    Ack,
    Begin,
    Requeue {
        list: String,
        envelope: Vec<u8>,
    },
    RequeueAfter {
        queue: QueueName,
        id: String,
        /// In milliseconds.
        wait: i64,
        list: String,
        envelope: Vec<u8>,
    },
    Dead {
        id: String,
        letter: Vec<u8>,
    },
    /// Another message is sent in its place.
    SentOn(Posting),
    /// It is not held any more.
    Gone,
}

/// How a delivery is settled.
pub(super) struct Settle {
    pub(super) held: Held,
    pub(super) release: Release,
    /// What is sent in its place, where it is acknowledged.
    pub(super) instead: Option<Publish>,
}

impl Posting {
    pub(crate) fn write(&self, batch: &mut Batch) {
        match self.due {
            Some(due) => batch.schedule(&self.queue, &self.tag, due, &self.list, &self.envelope),
            None => batch.push(&self.list, &self.envelope),
        }
    }

    /// As arguments of the script of ticks.
    pub(crate) fn words(&self, call: &mut redis::Cmd) {
        match self.due {
            Some(due) => call.arg("S").arg(self.queue.as_str()).arg(&self.tag).arg(due).arg(&self.list).arg(&self.envelope),
            None => call.arg("P").arg(&self.list).arg(&self.envelope),
        };
    }

    /// Where it goes.
    pub(crate) fn queue(&self) -> &QueueName {
        &self.queue
    }
}

impl Payment {
    pub(crate) fn write(&self, batch: &mut Batch, dead_limit: u64) {
        match self {
            Self::Ack | Self::Gone => batch.ack(),
            Self::SentOn(posting) => {
                posting.write(batch);
                batch.ack();
            }
            Self::Begin => batch.begin(),
            Self::Requeue { list, envelope } => batch.requeue(list, envelope),
            Self::RequeueAfter { queue, id, wait, list, envelope } => batch.requeue_after(queue, id, *wait, list, envelope),
            Self::Dead { id, letter } => batch.dead(id, letter, dead_limit),
        }
    }

    /// Whether the delivery is not held any more after it.
    pub(crate) fn ends(&self) -> bool {
        !matches!(self, Self::Begin)
    }
}

impl Shared {
    /// Makes a message ready. Its delivery tag is new; that it is due already counts as no time at all.
    pub(crate) async fn posting(&self, publish: &Publish) -> Result<Posting, RedisError> {
        let queue = self.queue_of(&publish.route).await?;
        let tag = uuid::Uuid::new_v4().to_string();
        let mut envelope = publish.invocation.encode(&tag, None).map_err(|error| RedisError::Refused(error.to_string()))?;
        if let Some(umbel_proto::Value::Map(info)) = envelope.properties.get_mut("delivery_info") {
            info.insert("exchange".to_owned(), publish.route.exchange.as_str().into());
            info.insert("routing_key".to_owned(), publish.route.routing_key.as_str().into());
        }
        // kombu writes one always, and tasks look at it.
        envelope.properties.entry("priority".to_owned()).or_insert(umbel_proto::Value::Int(0));
        let now = clock::now();
        Passage { at: Some(now), ..Passage::default() }.put(&mut envelope.properties);
        let list = self.keys.list(&queue, publish.invocation.properties.priority.map(i64::from));
        Ok(Posting { queue, list, tag, due: publish.due.filter(|due| *due > now), envelope: envelope.to_kombu() })
    }

    pub(super) async fn publish(&self, batch: Vec<Publish>) -> Vec<Result<(), BrokerError>> {
        let mut answers = Vec::with_capacity(batch.len());
        for slice in batch.chunks(COMMITS) {
            self.publish_slice(slice, &mut answers).await;
        }
        answers
    }

    async fn publish_slice(&self, slice: &[Publish], answers: &mut Vec<Result<(), BrokerError>>) {
        let mut postings = Vec::with_capacity(slice.len());
        for publish in slice {
            postings.push(self.posting(publish).await);
        }
        let good: Vec<&Posting> = postings.iter().filter_map(|posting| posting.as_ref().ok()).collect();
        let sent = self.post(&good).await;
        for posting in postings {
            answers.push(match (&sent, posting) {
                (_, Err(error)) => Err(error.into()),
                (Err(error), Ok(_)) => Err(error.clone().into()),
                (Ok(()), Ok(_)) => Ok(()),
            });
        }
    }

    /// Publishes all of it or nothing.
    pub(super) async fn publish_whole(&self, batch: &[Publish]) -> Result<(), RedisError> {
        let mut postings = Vec::with_capacity(batch.len());
        for publish in batch {
            postings.push(self.posting(publish).await?);
        }
        self.declare(postings.iter().map(Posting::queue)).await?;
        let mut commits = Batch::new(&self.keys, self.db(), None, 1);
        commits.open();
        postings.iter().for_each(|posting| posting.write(&mut commits));
        commits.end();
        commits.send(&self.link).await.map(drop)
    }

    async fn post(&self, postings: &[&Posting]) -> Result<(), RedisError> {
        self.declare(postings.iter().map(|posting| posting.queue())).await?;
        let mut commits = Batch::new(&self.keys, self.db(), None, postings.len());
        for posting in postings {
            commits.open();
            posting.write(&mut commits);
            commits.end();
        }
        commits.send(&self.link).await.map(drop)
    }

    /// Settles deliveries, each with what is sent in its place, in one step.
    pub(super) async fn settle(&self, batch: Vec<Settle>) -> Vec<Result<bool, BrokerError>> {
        let mut answers = Vec::with_capacity(batch.len());
        for slice in batch.chunks(COMMITS) {
            match self.settle_slice(slice).await {
                Ok(done) => answers.extend(done.into_iter().map(Ok)),
                Err(error) => answers.extend(slice.iter().map(|_| Err(error.clone().into()))),
            }
        }
        answers
    }

    async fn settle_slice(&self, slice: &[Settle]) -> Result<Vec<bool>, RedisError> {
        let wanted: Vec<(&DeliveryTag, u32, &Release)> =
            slice.iter().map(|Settle { held, release, .. }| (&held.tag, held.attempt, release)).collect();
        let mut payments = self.payments(&wanted).await?;
        for (settle, payment) in slice.iter().zip(&mut payments) {
            if let (Some(publish), Payment::Ack) = (&settle.instead, &payment) {
                *payment = Payment::SentOn(self.posting(publish).await?);
            }
        }
        let instead =
            payments.iter().filter_map(|payment| if let Payment::SentOn(posting) = payment { Some(posting.queue()) } else { None });
        self.declare(instead).await?;
        let sent: Vec<usize> = (0..slice.len()).filter(|at| !matches!(payments[*at], Payment::Gone)).collect();
        let mut commits = Batch::new(&self.keys, self.db(), None, sent.len());
        for at in &sent {
            commits.held(&slice[*at].held.tag);
            payments[*at].write(&mut commits, self.options.max_dead_letters);
            commits.end();
        }
        let mut done = vec![false; slice.len()];
        for (at, outcome) in sent.iter().zip(commits.send(&self.link).await?) {
            done[*at] = matches!(outcome, Outcome::Done(_));
        }
        // Refused or settled: either way this process does not hold them any more.
        let ended = sent.iter().filter(|at| payments[**at].ends() || !done[**at]);
        self.let_go(ended.map(|at| slice[*at].held.tag.as_str()));
        Ok(done)
    }

    /// Works out what is to be paid. What goes back or to the dead letters is read first, because what is written on a message
    /// changes with each taking; should it be settled by somebody else meanwhile, the fence says so.
    pub(crate) async fn payments(&self, wanted: &[(&DeliveryTag, u32, &Release)]) -> Result<Vec<Payment>, RedisError> {
        let reading: Vec<usize> = (0..wanted.len())
            .filter(|at| {
                let (tag, attempt, release) = wanted[*at];
                matches!(release, Release::Requeue { .. } | Release::Dead { .. }) && self.may_hold(tag, attempt)
            })
            .collect();
        let entries = self.entries(reading.iter().map(|at| wanted[*at].0.as_str())).await?;
        let mut entries = entries.into_iter();
        let mut payments = Vec::with_capacity(wanted.len());
        for (at, (tag, attempt, release)) in wanted.iter().enumerate() {
            let entry = if reading.binary_search(&at).is_ok() { entries.next().flatten() } else { None };
            payments.push(match (release, entry) {
                _ if !self.may_hold(tag, *attempt) => Payment::Gone,
                (Release::Ack, _) => Payment::Ack,
                (Release::Begin, _) => Payment::Begin,
                (Release::Requeue { due, crashes }, Some(entry)) => self.requeue(tag, &entry, *due, *crashes).await?,
                (Release::Dead { reason, detail }, Some(entry)) => {
                    let back = entry::restore(&entry, |passage| passage.attempts += 1);
                    let queue = self.home(&back).await?;
                    let letter = Letter {
                        queue,
                        reason: *reason,
                        detail: detail.clone(),
                        attempts: back.passage.attempts,
                        priority: back.priority,
                        envelope: back.envelope,
                    };
                    Payment::Dead { id: back.tag.unwrap_or_else(|| tag.as_str().to_owned()), letter: letter.write()? }
                }
                (Release::Requeue { .. } | Release::Dead { .. }, None) => Payment::Gone,
            });
        }
        Ok(payments)
    }

    async fn requeue(&self, tag: &DeliveryTag, entry: &[u8], due: Option<i64>, crashes: u32) -> Result<Payment, RedisError> {
        let back = entry::restore(entry, |passage| {
            passage.attempts += 1;
            passage.crashes = crashes;
        });
        let queue = self.home(&back).await?;
        let list = self.list_of(&back, &queue);
        let envelope = back.envelope;
        // A pause after a crash or until a rate limit's turn is a length of time: this node's clock says how long, the server's
        // when it is over, whatever the two think of the time of day.
        Ok(match due.map(|due| due - clock::now()).filter(|wait| *wait > 0) {
            Some(wait) => Payment::RequeueAfter { queue, id: tag.as_str().to_owned(), wait, list, envelope },
            None => Payment::Requeue { list, envelope },
        })
    }

    /// Which deliveries are held.
    pub(super) async fn holds(&self, deliveries: &[Held]) -> Result<Vec<bool>, RedisError> {
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for held in deliveries {
            pipeline.cmd("HEXISTS").arg(self.keys.kombu.unacked()).arg(held.tag.as_str());
        }
        let held: Vec<bool> = self.link.pipeline(&pipeline).await?;
        Ok(deliveries.iter().zip(held).map(|(delivery, held)| held && self.may_hold(&delivery.tag, delivery.attempt)).collect())
    }

    /// The queue that an entry goes back to.
    pub(super) async fn home(&self, back: &Back) -> Result<QueueName, RedisError> {
        if !back.exchange.is_empty()
            && back.exchange != back.routing_key
            && let Some(queue) = self.bound_by_pattern(&back.exchange, &back.routing_key).await?
        {
            return Ok(queue);
        }
        Ok(QueueName::from(back.routing_key.as_str()))
    }

    /// The list that an entry goes back to.
    pub(super) fn list_of(&self, back: &Back, queue: &QueueName) -> String {
        if back.passage.lost { self.keys.lost(queue) } else { self.keys.list(queue, back.priority) }
    }

    /// Entries of `unacked`.
    pub(super) async fn entries<'a>(&self, fields: impl Iterator<Item = &'a str>) -> Result<Vec<Option<Bytes>>, RedisError> {
        let fields: Vec<&str> = fields.collect();
        let mut entries = Vec::with_capacity(fields.len());
        for slice in fields.chunks(COMMITS) {
            let mut command = redis::cmd("HMGET");
            command.arg(self.keys.kombu.unacked()).arg(slice);
            let values: Vec<Option<Vec<u8>>> = self.link.query(&command).await?;
            entries.extend(values.into_iter().map(|value| value.map(Bytes::from)));
        }
        Ok(entries)
    }
}
