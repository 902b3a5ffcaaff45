//! Leading on RabbitMQ: one consumer that has a queue to itself, and transactions on its channel.
//!
//! **What it owns.** A connection with short heartbeats, a channel that alone consumes from `umbel.beat.leader`, and the token: the
//! place of its election in the log. **Who sends to it.** [`super::AmqpSchedules`]. **What bounds it.** The lease, which its own
//! watch ends where nobody renews it; a process that is gone, frozen or cut off is noticed by the server, at once or by missing
//! heartbeats. **When it dies.** The server gives the queue to the next one who asks, and not before this channel is gone with
//! all that was asked of it.
//!
//! Therefore the channel is the fence. A tick is one transaction on it: the task's message goes into its queue and the mark's line
//! into the log, or neither does. Whoever leads next has read the log up to its own election, so it knows of every tick that
//! was committed, whether or not somebody lived to hear so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    Channel, Connection, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::{Instant, timeout};
use umbel_proto::Millis;
use umbel_scheduler::{Publish, beat::Mark};

use super::{
    super::{Answer, Step},
    log::{Effect, What},
    replica::{Replica, write},
};
use crate::{
    amqp::{
        error::{ACCESS_REFUSED, AmqpError, RESOURCE_LOCKED, judge, reply_code},
        link::{ANSWER, answer, connect},
    },
    brokers::amqp::Post,
};

/// The queue that the leader consumes from. Nothing is ever in it.
pub(super) const QUEUE: &str = "umbel.beat.leader";

/// One leader's time.
pub(super) struct Reign {
    pub(super) token: u64,
    connection: Arc<Connection>,
    /// Dropped, it would give the queue back.
    consumer: Option<Consumer>,
    /// Held by whoever has something carried out.
    channel: tokio::sync::Mutex<Channel>,
    until: Mutex<Instant>,
}

impl Reign {
    /// Takes the queue, if it is free, and writes the election into the log; `None` when somebody else has it.
    pub(super) async fn begin(replica: &Replica, candidate: &str, lease: Duration) -> Result<Option<Self>, AmqpError> {
        let options = crate::amqp::AmqpOptions {
            heartbeat: lease.max(HEARTBEAT).min(replica.shared.options.heartbeat),
            ..replica.shared.options.clone()
        };
        let turns = replica.shared.link.target().hosts();
        let mut connected = Err(AmqpError::Unavailable("there is no host".to_owned()));
        for turn in 0..turns {
            connected = connect(replica.shared.link.target(), turn, &options, "beat").await;
            if connected.is_ok() {
                break;
            }
        }
        let connection = Arc::new(connected?);
        let channel = answer("leading", connection.create_channel()).await?;
        let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let taken = timeout(ANSWER, channel.basic_consume(QUEUE.into(), "".into(), exclusive, FieldTable::default())).await;
        let mut reign = Self {
            token: 0,
            connection,
            consumer: None,
            channel: tokio::sync::Mutex::new(channel.clone()),
            until: Mutex::new(Instant::now() + lease),
        };
        match taken {
            Ok(Ok(consumer)) => reign.consumer = Some(consumer),
            Ok(Err(error)) if matches!(reply_code(&error), Some(ACCESS_REFUSED | RESOURCE_LOCKED)) => return Ok(None),
            Ok(Err(error)) => return Err(judge(&error, "leading")),
            Err(_) => return Err(AmqpError::Unavailable(format!("leading: no answer within {ANSWER:?}"))),
        }
        answer("leading", channel.tx_select()).await?;
        let (line, coming) = replica.line(What::Elected { candidate: candidate.to_owned() });
        write(&channel, &line).await?;
        answer("leading", channel.tx_commit()).await?;
        let (token, _) = coming.back().await?;
        reign.renew(lease);
        reign.token = token;
        Ok(Some(reign))
    }

    /// Asks the server whether it still is what it was.
    pub(super) async fn stands(&self) -> Result<(), AmqpError> {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        // While ticks are carried out, their commit tells.
        let Ok(channel) = self.channel.try_lock() else { return Ok(()) };
        answer("leading", channel.queue_declare(QUEUE.into(), passive, FieldTable::default())).await.map(drop)
    }

    pub(super) fn renew(&self, lease: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + lease;
    }

    /// When the lease ends.
    pub(super) fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the queue back. The server has it again when this returns.
    pub(super) async fn end(&self) {
        let channel = self.channel.lock().await.clone();
        // It may be gone already.
        let _ = answer("giving up leadership", channel.close(200, "OK".into())).await;
        let _ = answer("giving up leadership", self.connection.close(200, "OK".into())).await;
    }

    /// Carries out ticks in one transaction. An error says that nothing is known of them, and that this reign is over.
    pub(super) async fn tick(&self, replica: &Replica, steps: Vec<Step>) -> Result<Vec<Answer>, AmqpError> {
        let channel = self.channel.lock().await;
        let (answers, accepted) = decide(replica, steps);
        if accepted.is_empty() {
            return Ok(answers);
        }
        let messages: Vec<Publish> = accepted.iter().filter_map(|step| step.message.clone()).collect();
        let mut sent = HashMap::new();
        for (post, publish) in replica.shared.posts(&messages).await?.into_iter().zip(&messages) {
            match post {
                Ok(post) => {
                    sent.insert(publish.invocation.headers.id.as_str(), publish);
                    send(&channel, post).await?;
                }
                // It will be the same the next time: the entry goes on without it.
                Err(error) => {
                    tracing::error!(task = %publish.invocation.headers.task, "a scheduled task cannot be sent: {error}");
                }
            }
        }
        let marks = accepted.iter().map(|step| (step.name.clone(), step.from, step.mark.clone())).collect();
        let (line, coming) = replica.line(What::Ticks { token: self.token, marks });
        write(&channel, &line).await?;
        answer("sending scheduled tasks", channel.tx_commit()).await?;
        // Sent to an exchange that leads nowhere: to the queue that the routes have, then.
        let mut again = Vec::new();
        for returned in answer("sending scheduled tasks", channel.wait_for_confirms()).await? {
            let id = returned.delivery.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
            again.extend(sent.get(id.as_str()).map(|publish| replica.shared.direct(publish)));
        }
        if !again.is_empty() {
            for post in again {
                send(&channel, post?).await?;
            }
            answer("sending scheduled tasks", channel.tx_commit()).await?;
        }
        Ok(match coming.back().await? {
            (_, Effect::Deposed) => vec![Answer::Deposed; answers.len()],
            _ => answers,
        })
    }
}

/// The shortest time between heartbeats. The server takes twice this silence for an end.
const HEARTBEAT: Duration = Duration::from_secs(2);

async fn send(channel: &Channel, post: Post) -> Result<(), AmqpError> {
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    let publish = channel.basic_publish(post.exchange, post.routing_key, mandatory, &post.body, post.properties);
    answer("sending scheduled tasks", publish).await.map(drop)
}

/// What becomes of each, and those that are to happen, in order.
fn decide(replica: &Replica, steps: Vec<Step>) -> (Vec<Answer>, Vec<Step>) {
    let pages = replica.pages();
    let mut moved: HashMap<String, Mark> = HashMap::new();
    let mut accepted = Vec::with_capacity(steps.len());
    let mut answers = Vec::with_capacity(steps.len());
    for step in steps {
        let stands: Option<&Mark> = moved.get(&step.name).or_else(|| pages.mark(&step.name));
        answers.push(match stands {
            None => Answer::Gone,
            Some(mark) if mark.paused => Answer::Gone,
            Some(mark) if mark.due != step.from => Answer::Moved(mark.clone()),
            Some(_) => {
                moved.insert(step.name.clone(), step.mark.clone());
                accepted.push(step);
                Answer::Done
            }
        });
    }
    (answers, accepted)
}

impl Drop for Reign {
    fn drop(&mut self) {
        // A connection that nobody closes would hold the queue.
        let connection = Arc::clone(&self.connection);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = answer("giving up leadership", connection.close(200, "OK".into())).await;
            });
        }
    }
}

/// How long a follower waits before it looks again, in milliseconds.
pub(super) fn look_again(lease: Duration) -> Millis {
    Millis::try_from(lease.as_millis() / 3).unwrap_or(Millis::MAX).clamp(20, 500)
}
