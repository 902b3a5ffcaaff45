//! Asking nodes and Celery workers: a command to all of them, and their answers.
//!
//! Celery waits for a second of silence, as it cannot know who should answer. Here it is known from the leases which nodes are
//! there, and from the broker (where it can tell) who else listens: when all of them have answered, nobody is waited for, and
//! whoever has not is named.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use umbel_proto::{
    Envelope, Limits, Map, Value,
    control::{self, ReplyTo, Request},
};

use super::{EXCHANGE, REPLY_EXCHANGE};
use crate::{
    brokers::{
        Broker, BrokerError,
        fanout::{Address, Fanout, Heard, Listen, Listener},
    },
    clock,
};

/// What came of a command.
#[derive(Debug, Default)]
pub struct Answers {
    /// Who said what, in the order of the answers.
    pub replies: Vec<(String, Value)>,
    /// Who should have answered (it was named, or holds a lease) and has not, by name.
    pub missing: Vec<String>,
    /// Who listens or has listened once, holds no lease and has not answered: a Celery worker that is stopped or gone, or a node
    /// whose lease has ended.
    pub silent: Vec<String>,
}

/// Sends a command and gathers the answers.
///
/// `patience` is how long to wait for the next answer; everybody who is known to be there having answered ends the wait.
///
/// # Errors
/// When the broker has no fanout or cannot be reached.
pub async fn ask(broker: &Arc<dyn Broker>, mut request: Request, patience: Duration) -> Result<Answers, BrokerError> {
    let fanout = broker
        .fanout()
        .ok_or_else(|| BrokerError::Refused { kind: broker.kind(), reason: "it carries no commands to nodes".to_owned() })?;
    let client = uuid::Uuid::new_v4().to_string();
    let queue = umbel_proto::keyspace::BrokerKeys::reply_queue(&client);
    let exchange = REPLY_EXCHANGE.to_owned();
    let mut listener = fanout.listen(Listen::Direct { exchange: exchange.clone(), queue, key: client.clone() }).await?;
    let ticket = uuid::Uuid::new_v4().to_string();
    request.ticket = Some(ticket.clone());
    request.reply_to = Some(ReplyTo { exchange, routing_key: client });
    let expected = expected(broker, &*fanout, &request).await;
    send(&*fanout, &request, patience).await?;
    let replies = gather(&mut listener, &ticket, &expected, &request, patience).await;
    // The answers are here; what is left behind ends by itself.
    if let Err(error) = listener.close().await {
        tracing::debug!("the queue of answers could not be removed: {error}");
    }
    let answered: BTreeSet<&str> = replies.iter().map(|(node, _)| node.as_str()).collect();
    let absent = |names: &BTreeSet<String>| names.iter().filter(|name| !answered.contains(name.as_str())).cloned().collect();
    let (missing, silent) = (absent(&expected.sure), absent(&expected.perhaps));
    Ok(Answers { replies, missing, silent })
}

/// Sends a command that nobody answers.
///
/// # Errors
/// When the broker has no fanout or cannot be reached.
pub async fn tell(broker: &Arc<dyn Broker>, request: &Request) -> Result<(), BrokerError> {
    let fanout = broker
        .fanout()
        .ok_or_else(|| BrokerError::Refused { kind: broker.kind(), reason: "it carries no commands to nodes".to_owned() })?;
    send(&*fanout, request, Duration::ZERO).await
}

/// Who should answer.
#[derive(Debug, Default)]
struct Expected {
    sure: BTreeSet<String>,
    perhaps: BTreeSet<String>,
    /// Whether nobody else can be there.
    complete: bool,
}

async fn expected(broker: &Arc<dyn Broker>, fanout: &dyn Fanout, request: &Request) -> Expected {
    if let Some(named) = request.destination.as_ref().filter(|names| !names.is_empty()) {
        return Expected { sure: named.iter().cloned().collect(), perhaps: BTreeSet::new(), complete: true };
    }
    let (leases, listening) = tokio::join!(broker.nodes(), fanout.listening(EXCHANGE));
    let suffix = format!(".{EXCHANGE}");
    let is_for = |name: &String| umbel_scheduler::control::is_for(request, name);
    // Not to know who is there is no reason not to ask.
    let sure: BTreeSet<String> =
        leases.ok().flatten().into_iter().flatten().map(|node| node.node.as_str().to_owned()).filter(is_for).collect();
    let names = listening.ok().flatten();
    let complete = names.is_some();
    let listening = names.into_iter().flatten().filter_map(|queue| Some(queue.as_str().strip_suffix(&suffix)?.to_owned()));
    let perhaps = listening.filter(|name| !sure.contains(name)).filter(is_for).collect();
    Expected { sure, perhaps, complete }
}

async fn send(fanout: &dyn Fanout, request: &Request, patience: Duration) -> Result<(), BrokerError> {
    let expires = if patience.is_zero() { Value::Int(0) } else { Value::Float((clock::now() as f64 + patience.as_millis() as f64) / 1e3) };
    let envelope = Envelope {
        body: request.write().into(),
        content_type: "application/json".to_owned(),
        content_encoding: "utf-8".to_owned(),
        headers: Map::from_iter([("clock".to_owned(), Value::Int(1)), ("expires".to_owned(), expires)]),
        properties: Map::new(),
    };
    let sent = fanout.send(vec![(Address::Broadcast { exchange: EXCHANGE.to_owned() }, envelope)]).await;
    sent.into_iter().next().unwrap_or(Ok(()))
}

async fn gather(
    listener: &mut Box<dyn Listener>,
    ticket: &str,
    expected: &Expected,
    request: &Request,
    patience: Duration,
) -> Vec<(String, Value)> {
    let mut replies: Vec<(String, Value)> = Vec::new();
    let everybody = |replies: &[(String, Value)]| {
        let answered = |name: &String| replies.iter().any(|(node, _)| node == name);
        expected.complete && expected.sure.iter().chain(&expected.perhaps).all(answered)
    };
    let mut since = Instant::now();
    // Somebody must be there to be complete: an empty list is what a broker says that everybody has just left.
    while replies.is_empty() || !everybody(&replies) {
        let left = patience.saturating_sub(since.elapsed());
        let Ok(heard) = timeout(left, listener.next()).await else { break };
        match heard {
            Heard::Message(Ok(envelope)) if is_ours(&envelope, ticket) => match control::parse_reply(&envelope.body, Limits::default()) {
                Ok(said) => {
                    replies.extend(said);
                    since = Instant::now();
                }
                Err(error) => tracing::warn!(command = request.method, "an answer cannot be read: {error}"),
            },
            Heard::Message(Ok(_)) => {}
            Heard::Message(Err(error)) => tracing::warn!(command = request.method, "an answer cannot be read: {error}"),
            Heard::Missed(count) => tracing::warn!(count, "so many answers came at once that some were dropped"),
        }
    }
    replies
}

/// An answer without a ticket is taken for one to whoever listens, as kombu does.
fn is_ours(envelope: &Envelope, ticket: &str) -> bool {
    envelope.headers.get("ticket").and_then(Value::as_str).is_none_or(|name| name == ticket)
}
