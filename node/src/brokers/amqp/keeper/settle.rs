//! Settling: acknowledgements up to the watermark, and everything that sends a message on.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::join_all};
use lapin::{
    options::{BasicAckOptions, BasicPublishOptions, QueueDeclareOptions},
    types::AMQPValue,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use umbel_proto::{Map, QueueName, Value};
use umbel_scheduler::Release;

use super::{Keeper, front};
use crate::{
    amqp::{
        error::{AmqpError, judge},
        link::{ANSWER, answer},
        table::{name, text},
    },
    brokers::{
        Held,
        amqp::{
            declare::typed,
            hand::Holding,
            letters,
            message::{Passage, Post},
            session::Settle,
        },
    },
    clock,
};

/// How long the copy by which a message is held outlives its holder. Long enough to reach him in the first place.
const HOLDING_MILLIS: i64 = 5_000;

/// How long a holding queue that nobody uses is there.
const HOLDING_QUEUE_MILLIS: i64 = 3_600_000;

/// A batch of settlements and who waits for their answers.
type Asked = (Vec<Settle>, oneshot::Sender<Result<Vec<bool>, AmqpError>>);

/// What a batch comes to.
#[derive(Default)]
struct Plan {
    posts: Vec<Post>,
    /// Number and consumer of each delivery.
    acks: Vec<(u64, u64)>,
    ended: Vec<u64>,
    /// What is held on by a copy.
    held_on: Vec<u64>,
    /// Where something goes to the front.
    requeued: BTreeSet<QueueName>,
}

impl Keeper {
    /// Settles batches in one transaction.
    pub(super) async fn release(&mut self, asked: Vec<Asked>) -> Result<(), AmqpError> {
        if asked.is_empty() {
            return Ok(());
        }
        let mut plan = Plan::default();
        let mut answers = Vec::with_capacity(asked.len());
        for (batch, reply) in asked {
            let mut done = Vec::with_capacity(batch.len());
            let mut failed = None;
            for Settle { held, release, post } in &batch {
                match self.plan(held, release, post.as_ref(), &mut plan).await {
                    Ok(held) => done.push(held),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            match failed {
                // What was planned of it by then happens; its caller asks again and is told so.
                Some(error) => drop(reply.send(Err(error))),
                None => answers.push((done, reply)),
            }
        }
        let Plan { posts, acks, ended, held_on, requeued } = plan;
        let settled = async {
            self.transact(posts, acks).await?;
            {
                let mut hand = self.hand.lock();
                for serial in &ended {
                    hand.holdings.remove(serial);
                }
            }
            self.await_holds(&held_on).await?;
            if !requeued.is_empty() {
                self.come_in(&requeued.into_iter().collect::<Vec<_>>()).await?;
            }
            Ok(())
        };
        let settled: Result<(), AmqpError> = settled.await;
        for (done, reply) in answers {
            let _ = reply.send(settled.clone().map(|()| done));
        }
        settled
    }

    /// Adds to a plan what settling one delivery takes; whether it is held.
    async fn plan(&mut self, held: &Held, release: &Release, post: Option<&Post>, plan: &mut Plan) -> Result<bool, AmqpError> {
        let Some(serial) = self.hand.find(held).filter(|serial| !plan.ended.contains(serial)) else { return Ok(false) };
        if matches!(release, Release::Begin) {
            let queue = self.hand.lock().holdings.get(&serial).map(|holding| holding.queue.clone());
            if let Some(queue) = queue {
                self.holding_for(&queue).await?;
            }
        }
        let mut hand = self.hand.lock();
        let Some(holding) = hand.holdings.get_mut(&serial) else { return Ok(false) };
        let mut passage = holding.message.passage.clone();
        passage.attempts = holding.attempt;
        passage.lost = false;
        passage.due = None;
        passage.hold = None;
        let queue = holding.queue.clone();
        let delivery = (holding.tag, holding.source);
        match release {
            Release::Ack => {
                plan.posts.extend(post.cloned());
                plan.ended.push(serial);
            }
            Release::Begin if holding.begun => return Ok(true),
            Release::Begin => {
                passage.lost = true;
                passage.hold = Some(serial.to_string());
                plan.posts.push(holding.message.copy(&holding_queue(&self.id, &queue), &passage)?);
                holding.begun = true;
                holding.tag = 0;
                plan.held_on.push(serial);
            }
            Release::Requeue { due, crashes } => {
                passage.crashes = *crashes;
                passage.due = *due;
                let message = holding.message.clone();
                drop(hand);
                plan.posts.push(self.requeue(&queue, &message, passage)?);
                plan.requeued.insert(queue);
                plan.ended.push(serial);
            }
            Release::Dead { reason, detail } => {
                let reason = serde_json::to_value(reason).ok().and_then(|reason| reason.as_str().map(str::to_owned)).unwrap_or_default();
                let death = Map::from_iter([
                    ("id".to_owned(), Value::Str(uuid::Uuid::new_v4().to_string())),
                    ("queue".to_owned(), queue.as_str().into()),
                    ("reason".to_owned(), reason.into()),
                    ("detail".to_owned(), detail.as_str().into()),
                    ("at".to_owned(), Value::Int(clock::now())),
                    ("attempts".to_owned(), Value::Int(i64::from(holding.attempt))),
                ]);
                plan.posts.push(holding.message.dead(letters::QUEUE, &death)?);
                plan.ended.push(serial);
            }
        }
        plan.acks.push(delivery);
        Ok(true)
    }

    /// Sends copies and acknowledges, in one transaction.
    pub(super) async fn transact(&mut self, posts: Vec<Post>, mut acks: Vec<(u64, u64)>) -> Result<(), AmqpError> {
        if posts.is_empty() && acks.is_empty() {
            return Ok(());
        }
        let sending = posts.iter().map(|post| {
            let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
            self.channel.basic_publish(post.exchange.clone(), post.routing_key.clone(), mandatory, &post.body, post.properties.clone())
        });
        for sent in join_all(sending).await {
            sent.map_err(|error| judge(&error, "sending a message on"))?;
        }
        acks.sort_unstable();
        let low = self.watermark(&acks);
        let below = acks.iter().rev().find(|(tag, _)| *tag <= low);
        let mut frames = Vec::new();
        if let Some((tag, _)) = below {
            frames.push((*tag, true));
        }
        frames.extend(acks.iter().filter(|(tag, _)| *tag > low).map(|(tag, _)| (*tag, false)));
        for (tag, multiple) in frames {
            // The answer is that of the transaction.
            let _ = self.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
        }
        self.commit().await?;
        let sent = posts.len();
        for (tag, source) in acks {
            self.paid(tag, source);
        }
        if sent > 0 { self.returned().await } else { Ok(()) }
    }

    /// Up to which number everything is settled once these are.
    fn watermark(&self, acks: &[(u64, u64)]) -> u64 {
        let mut low = self.low;
        let mut acks = acks.iter().map(|(tag, _)| *tag).peekable();
        loop {
            let next = low + 1;
            while acks.next_if(|tag| *tag < next).is_some() {}
            if acks.next_if_eq(&next).is_some() || self.settled.contains(&next) {
                low = next;
            } else {
                return low;
            }
        }
    }

    /// Waits for the end of the transaction. A server that is short of memory takes no messages, and answers when it does.
    pub(super) async fn commit(&mut self) -> Result<(), AmqpError> {
        let mut committing = std::pin::pin!(self.channel.tx_commit());
        loop {
            match timeout(ANSWER, &mut committing).await {
                Ok(committed) => return committed.map_err(|error| judge(&error, "settling")),
                Err(_) if self.connection.status().blocked() => {}
                Err(_) => return Err(AmqpError::Unavailable(format!("settling: no answer within {ANSWER:?}"))),
            }
        }
    }

    /// Gives back what was dropped unsettled.
    pub(super) async fn give_back(&mut self, first: Held, more: &mut mpsc::UnboundedReceiver<Held>) -> Result<(), AmqpError> {
        let mut back = Vec::new();
        let mut next = Some(first);
        while let Some(held) = next {
            if let Some(serial) = self.hand.find(&held) {
                back.extend(self.hand.lock().holdings.remove(&serial));
            }
            next = more.try_recv().ok();
        }
        let queues: BTreeSet<QueueName> = back.iter().map(|holding| holding.queue.clone()).collect();
        self.return_all(back).await?;
        if queues.is_empty() { Ok(()) } else { self.come_in(&queues.into_iter().collect::<Vec<_>>()).await }
    }

    /// Gives back what a subscription has taken.
    pub(super) async fn give_up(&mut self, subscription: u64) -> Result<(), AmqpError> {
        let mut back = Vec::new();
        {
            let mut hand = self.hand.lock();
            let serials: Vec<u64> =
                hand.holdings.iter().filter(|(_, holding)| holding.handed == Some(subscription)).map(|(serial, _)| *serial).collect();
            back.extend(serials.iter().filter_map(|serial| hand.holdings.remove(serial)));
        }
        back.sort_by_key(|holding| holding.tag);
        self.return_all(back).await
    }

    /// Gives holdings back: by their own queue, or, where a copy holds them, as a copy to the front.
    async fn return_all(&mut self, back: Vec<Holding>) -> Result<(), AmqpError> {
        let held_on = |holding: &Holding| holding.begun || holding.message.passage.hold.is_some();
        let (copies, plain): (Vec<_>, Vec<_>) = back.into_iter().partition(held_on);
        self.go_on_as(copies, |holding| {
            let passage = holding.message.passage.clone();
            Passage { attempts: holding.attempt, lost: holding.begun, hold: None, ..passage }
        })
        .await?;
        self.reject(plain).await
    }

    /// Holds on, by a copy, to what has been held for long: RabbitMQ closes the channel of a consumer that seems to have
    /// forgotten a delivery (`consumer_timeout`).
    pub(super) async fn hold_on(&mut self) -> Result<(), AmqpError> {
        let old: Vec<(u64, QueueName)> = {
            let hand = self.hand.lock();
            let old = hand.holdings.iter().filter(|(_, holding)| holding.handed.is_some() && holding.since.elapsed() > self.hold);
            old.map(|(serial, holding)| (*serial, holding.queue.clone())).collect()
        };
        if old.is_empty() {
            return Ok(());
        }
        for (_, queue) in &old {
            self.holding_for(queue).await?;
        }
        let (mut posts, mut acks, mut serials) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut hand = self.hand.lock();
            for (serial, queue) in &old {
                let Some(holding) = hand.holdings.get_mut(serial) else { continue };
                let passage = &mut holding.message.passage;
                passage.hold = Some(serial.to_string());
                let mut passage = passage.clone();
                passage.attempts = holding.attempt;
                passage.lost = holding.begun;
                posts.push(holding.message.copy(&holding_queue(&self.id, queue), &passage)?);
                acks.push((holding.tag, holding.source));
                holding.tag = 0;
                holding.since = Instant::now();
                serials.push(*serial);
            }
        }
        self.transact(posts, acks).await?;
        self.await_holds(&serials).await
    }

    /// Waits until the copies that hold these have come.
    async fn await_holds(&mut self, serials: &[u64]) -> Result<(), AmqpError> {
        let missing = |keeper: &Self| {
            let hand = keeper.hand.lock();
            serials.iter().any(|serial| hand.holdings.get(serial).is_some_and(|holding| holding.tag == 0))
        };
        let end = Instant::now() + ANSWER;
        while missing(self) {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match timeout(left, self.incoming.next()).await {
                Ok(Some((source, delivery))) => self.come_quietly(source, delivery)?,
                Ok(None) => return Err(AmqpError::Unavailable("the channel has ended".to_owned())),
                Err(_) => return Err(AmqpError::Unavailable("a copy that holds a message has not come".to_owned())),
            }
        }
        // Others may have come meanwhile.
        self.move_on().await?;
        self.hand.tell();
        Ok(())
    }

    /// The queue of this session in which copies of a queue's messages are held, and its consumer.
    pub(super) async fn holding_for(&mut self, queue: &QueueName) -> Result<(), AmqpError> {
        if self.holding.contains(queue) {
            return Ok(());
        }
        let mut arguments = typed(self.kind);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(HOLDING_MILLIS));
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(HOLDING_QUEUE_MILLIS));
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(&front(queue)));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let declare = self.channel.queue_declare(name(&holding_queue(&self.id, queue))?, durable, arguments);
        answer("declaring a holding queue", declare).await?;
        self.hold_by(queue).await?;
        self.holding.insert(queue.clone());
        Ok(())
    }

    pub(super) fn holding_queue(&self, queue: &QueueName) -> String {
        holding_queue(&self.id, queue)
    }
}

fn holding_queue(session: &str, queue: &QueueName) -> String {
    format!("umbel.held.{session}.{queue}")
}
