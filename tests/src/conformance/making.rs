//! Messages, results and chords for the cases, and taking apart what comes back.

use std::{collections::BTreeSet, time::Duration};

use umbel::{
    brokers::{About, Broker, Delivery, Held, Subscribe, Subscription},
    proto::{GroupId, Invocation, Map, Millis, ResultRecord, Signature, State, TaskId, TaskName, Value},
    scheduler::{ChordPart, Commit, Effect, Fence, OpenChord, PartResult, Publish, Release, Route},
};

use crate::wait::{soon, until_async};

/// A lease that nobody loses by being slow.
pub const LONG_LEASE: Duration = Duration::from_secs(600);
/// A lease whose end a test can wait for.
pub const SHORT_LEASE: Duration = Duration::from_millis(400);

/// A message of that id for `queue`.
pub fn message(queue: &str, id: &str) -> Publish {
    let args = [Value::from(id), Value::Int(1)];
    let invocation = Invocation::new(TaskName::from("tests.echo"), TaskId::from(id), &args, &Map::new()).unwrap();
    let route = Route { queue: queue.into(), exchange: String::new(), routing_key: queue.to_owned() };
    Publish { invocation, route, due: None }
}

/// A message with a priority.
pub fn urgent(queue: &str, id: &str, priority: u8) -> Publish {
    let mut publish = message(queue, id);
    publish.invocation.properties.priority = Some(priority);
    publish
}

/// A message that is due at a time.
pub fn scheduled(queue: &str, id: &str, due: Millis) -> Publish {
    Publish { due: Some(due), ..message(queue, id) }
}

/// Now.
pub fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Millis::try_from(since.as_millis()).unwrap()
}

/// Ids `prefix0`, `prefix1`, ….
pub fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// Publishes, and demands that all of it is accepted.
pub async fn publish(broker: &dyn Broker, batch: Vec<Publish>) {
    let left = std::sync::Mutex::new(batch);
    // What a broker refuses for the moment is sent again, as by any sender: a quorum queue that has no leader yet.
    until_async("publishing", || async {
        let sent = std::mem::take(&mut *left.lock().unwrap());
        let answers = broker.publish(sent.clone()).await;
        let again = sent.into_iter().zip(answers).filter_map(|(publish, answer)| match answer {
            Ok(()) => None,
            Err(error) if error.is_transient() => Some(publish),
            Err(error) => panic!("{error}"),
        });
        let again: Vec<Publish> = again.collect();
        let done = again.is_empty();
        *left.lock().unwrap() = again;
        done.then_some(())
    })
    .await;
}

/// Subscribes to `queues` as `node`.
pub async fn subscribe(broker: &dyn Broker, node: &str, queues: &[&str], lease: Duration) -> Box<dyn Subscription> {
    subscribe_as(broker, node, queues, lease, About::default()).await
}

/// As [`subscribe`], with what the node says of itself.
pub async fn subscribe_as(broker: &dyn Broker, node: &str, queues: &[&str], lease: Duration, about: About) -> Box<dyn Subscription> {
    let request = Subscribe { about, ..Subscribe::new(node, queues.iter().copied(), lease) };
    soon("subscribing", broker.subscribe(request)).await.unwrap()
}

/// Exactly `count` deliveries, however many fetches that takes; no fetch returns more than was asked for.
pub async fn fetch(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        let room = count - deliveries.len();
        let batch = soon("messages", subscription.fetch(room as u32)).await.unwrap();
        assert!(!batch.is_empty() && batch.len() <= room, "fetched {} messages for {room} credits", batch.len());
        deliveries.extend(batch);
    }
    deliveries
}

/// The next message.
pub async fn fetch_one(subscription: &mut Box<dyn Subscription>) -> Delivery {
    fetch(subscription, 1).await.remove(0)
}

/// What has come of messages that were given back and others, as they came; sorted by id where nobody promises their order.
pub fn placed<S: super::Stage>(mut came: Vec<Delivery>) -> Vec<Delivery> {
    if !S::COMES_BACK_IN_FRONT {
        came.sort_by_key(id);
    }
    came
}

/// What is in a delivery.
pub fn invocation(delivery: &Delivery) -> Invocation {
    Invocation::decode(delivery.envelope.as_ref().unwrap(), umbel::proto::Limits::default()).unwrap()
}

/// The id of the task in a delivery.
pub fn id(delivery: &Delivery) -> String {
    invocation(delivery).headers.id.as_str().to_owned()
}

/// The ids of the tasks, in order.
pub fn ids_of(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(id).collect()
}

/// The ids of the tasks, sorted.
pub fn set_of(deliveries: &[Delivery]) -> BTreeSet<String> {
    let set: BTreeSet<String> = deliveries.iter().map(id).collect();
    assert_eq!(set.len(), deliveries.len(), "a message came twice");
    set
}

/// Settles one delivery; whether it was held.
pub async fn release(broker: &dyn Broker, held: &Held, release: Release) -> bool {
    soon("a release", broker.release(vec![(held.clone(), release)])).await.remove(0).unwrap()
}

/// Acknowledges, and demands that everything was held.
pub async fn ack(broker: &dyn Broker, deliveries: &[Delivery]) {
    let batch = deliveries.iter().map(|delivery| (delivery.held.clone(), Release::Ack)).collect();
    for answer in soon("acknowledging", broker.release(batch)).await {
        assert!(answer.unwrap(), "a delivery was not held any more");
    }
}

/// A result.
pub fn result(id: &str, status: State, value: impl Into<Value>) -> ResultRecord {
    ResultRecord {
        task_id: TaskId::from(id),
        status,
        result: value.into(),
        traceback: None,
        children: None,
        date_done: None,
        group_id: None,
        parent_id: None,
        extra: Map::new(),
    }
}

/// A commit of effects without a fence.
pub fn open(effects: Vec<Effect>) -> Commit {
    Commit { fence: Fence::Open, effects }
}

/// The ending of a delivery.
pub fn ending(held: &Held, effects: Vec<Effect>) -> Commit {
    Commit { fence: Fence::Delivery { tag: held.tag.clone(), attempt: held.attempt, run: None }, effects }
}

/// The body that a chord named `group` gets.
pub fn body(group: &str) -> Signature {
    Signature::new("tests.body").arg("first").kwarg("key", 1i64).set("task_id", format!("{group}-body"))
}

/// The beginning of a chord.
pub fn open_chord(group: &str, size: u32) -> Effect {
    Effect::OpenChord(Box::new(OpenChord { group: GroupId::from(group), size, body: body(group) }))
}

/// The ending of a member with the value `index * 10`.
pub fn part(group: &str, index: i64, task: &str) -> Effect {
    part_with(group, Some(index), task, PartResult::Value(Value::Int(index * 10)))
}

/// The ending of a member.
pub fn part_with(group: &str, index: Option<i64>, task: &str, result: PartResult) -> Effect {
    Effect::Part(Box::new(ChordPart {
        group: GroupId::from(group),
        index,
        task_id: TaskId::from(task),
        root_id: Some(TaskId::from("root")),
        body: body(group),
        result,
    }))
}
