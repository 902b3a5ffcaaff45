//! Queues of RabbitMQ that a busy node cannot empty, that somebody deletes, or that are not there.

use std::time::Duration;

use umbel::{
    amqp::{AmqpOptions, QueueType, Target},
    brokers::{Broker, Delivery, Subscribe, Subscription, amqp::AmqpBroker},
    scheduler::{Publish, Release, Route},
};
use umbel_tests::{
    conformance::making::{id, ids, message, now, publish, scheduled},
    servers::rabbit::Vhost,
    wait::{soon, until_async},
};

async fn opened(vhost: &Vhost, queue_type: QueueType) -> AmqpBroker {
    let options = AmqpOptions { queue_type, ..AmqpOptions::default() };
    let broker = AmqpBroker::open(Target::parse(&vhost.url()).unwrap(), options);
    until_async("the broker can be used", || async { broker.ready().await.ok() }).await;
    broker
}

async fn subscribed(broker: &AmqpBroker, node: &str, queues: &[&str]) -> Box<dyn Subscription> {
    let request = Subscribe::new(node, queues.iter().copied(), Duration::from_secs(600));
    soon("subscribing", broker.subscribe(request)).await.unwrap()
}

/// Asks for messages of these queues, of which there are none, as a node with a free slot does; and is busy from then on.
async fn busy(vhost: &Vhost, broker: &AmqpBroker, node: &str, queues: &[&str], others: usize) -> Box<dyn Subscription> {
    let mut subscription = subscribed(broker, node, queues).await;
    tokio::select! {
        taken = subscription.fetch(1) => panic!("there was {taken:?}"),
        () = consumed(vhost, queues, others + 1) => {}
    }
    subscription
}

/// Waits until each of the queues has so many consumers.
async fn consumed(vhost: &Vhost, queues: &[&str], count: usize) {
    until_async(&format!("{queues:?} have {count} consumers"), || async {
        let all = vhost.manage("GET", &format!("/api/consumers/{}", vhost.name()), "");
        let of = |name: &str| all.as_array().into_iter().flatten().filter(|consumer| consumer["queue"]["name"] == name).count();
        queues.iter().all(|name| of(name) == count).then_some(())
    })
    .await;
}

fn delete(vhost: &Vhost, queue: &str) {
    vhost.manage("DELETE", &format!("/api/queues/{}/{queue}", vhost.name()), "");
}

async fn acknowledge(broker: &AmqpBroker, taken: Delivery) {
    assert!(broker.release(vec![(taken.held, Release::Ack)]).await.remove(0).unwrap());
}

/// Goal: what busy nodes take in and give back, one after the other, is not taken for a message that kills whoever runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_vain_is_not_counted() {
    let waits_in_vain = |kind| async move {
        let vhost = Vhost::new();
        let broker = opened(&vhost, kind).await;
        let mut nodes = Vec::new();
        for (others, node) in ["a", "b", "c", "d"].into_iter().enumerate() {
            nodes.push(busy(&vhost, &broker, node, &["q"], others).await);
        }
        publish(&broker, vec![message("q", "m")]).await;
        consumed(&vhost, &["q"], 0).await;
        let taken = soon("the message", nodes[0].fetch(1)).await.unwrap().remove(0);
        assert!(taken.held.attempt <= 2, "{kind:?}: {taken:?}");
        acknowledge(&broker, taken).await;
    };
    tokio::join!(waits_in_vain(QueueType::Classic), waits_in_vain(QueueType::Quorum));
}

/// Goal: so is what was due and finds no slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_does_not_wait_in_vain() {
    let vhost = Vhost::new();
    let broker = opened(&vhost, QueueType::Classic).await;
    let _busy = busy(&vhost, &broker, "busy", &["q"], 0).await;
    publish(&broker, vec![scheduled("q", "m", now() + 1_100)]).await;
    let mut idle = subscribed(&broker, "idle", &["q"]).await;
    consumed(&vhost, &["q"], 0).await;
    let taken = soon("the message", idle.fetch(1)).await.unwrap().remove(0);
    assert_eq!(id(&taken), "m");
    acknowledge(&broker, taken).await;
}

/// Goal: a queue of which nothing could be taken for a while is asked again, however much there is in another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_backlog_does_not_shut_another_queue() {
    let vhost = Vhost::new();
    let broker = opened(&vhost, QueueType::Classic).await;
    let mut node = busy(&vhost, &broker, "node", &["long", "urgent"], 0).await;
    publish(&broker, vec![message("urgent", "now")]).await;
    consumed(&vhost, &["urgent"], 0).await;
    publish(&broker, ids("m", 200).iter().map(|id| message("long", id)).collect()).await;
    for taken in 0.. {
        let next = soon("a message", node.fetch(1)).await.unwrap().remove(0);
        let urgent = id(&next) == "now";
        acknowledge(&broker, next).await;
        if urgent {
            break;
        }
        assert!(taken < 50, "the other queue waits for this one to end");
    }
}

/// Goal: of many messages that are sent together, those that no queue takes are told from the others: each is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_is_told_from_what_does_not() {
    let vhost = Vhost::new();
    let broker = opened(&vhost, QueueType::Classic).await;
    vhost.manage("PUT", &format!("/api/exchanges/{}/nowhere", vhost.name()), r#"{"type": "direct"}"#);
    let lost = |id: &String| {
        let route = Route { queue: "lost".into(), exchange: "nowhere".to_owned(), routing_key: "nobody".to_owned() };
        Publish { route, ..message("lost", id) }
    };
    let found = ids("f", 200);
    publish(&broker, found.iter().zip(ids("l", 200)).flat_map(|(found, id)| [message("found", found), lost(&id)]).collect()).await;
    let counts = broker.queues().await.unwrap();
    let ready = |name: &str| counts.iter().find(|queue| queue.name.as_str() == name).map(|queue| queue.ready);
    assert_eq!((ready("found"), ready("lost")), (Some(200), Some(200)));
}

/// Goal: what is given back to a queue that somebody has deleted is not lost, and the queue is what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_back_to_a_deleted_queue_is_kept() {
    let vhost = Vhost::new();
    let broker = opened(&vhost, QueueType::Classic).await;
    let mut node = subscribed(&broker, "node", &["q"]).await;
    let queue = |name: &str| vhost.manage("GET", &format!("/api/queues/{}/{name}", vhost.name()), "");
    publish(&broker, vec![message("q", "m")]).await;
    let taken = soon("the message", node.fetch(1)).await.unwrap().remove(0);
    let before = queue("umbel.front.q")["arguments"].clone();
    delete(&vhost, "umbel.front.q");
    let requeue = Release::Requeue { due: None, crashes: 1 };
    assert!(broker.release(vec![(taken.held, requeue)]).await.remove(0).unwrap());
    assert_eq!(queue("umbel.front.q")["arguments"], before);
    let again = soon("the message", node.fetch(1)).await.unwrap().remove(0);
    assert_eq!((id(&again), again.crashes), ("m".to_owned(), 1));
    // The first queue of a delay is gone.
    publish(&broker, vec![scheduled("q", "declares the ladder", now() + 600_000)]).await;
    delete(&vhost, "celery_delayed_1");
    let due = now() + 3_500;
    let requeue = Release::Requeue { due: Some(due), crashes: 2 };
    assert!(broker.release(vec![(again.held, requeue)]).await.remove(0).unwrap());
    let again = soon("the message", node.fetch(1)).await.unwrap().remove(0);
    assert!(now() >= due && again.crashes == 2, "{again:?}");
    acknowledge(&broker, again).await;
}

/// Goal: a queue that is deleted and declared again gets what is delayed, also from those who have not heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_survive_a_deleted_queue() {
    let vhost = Vhost::new();
    let (client, broker) = (opened(&vhost, QueueType::Classic).await, opened(&vhost, QueueType::Classic).await);
    let mut node = busy(&vhost, &broker, "node", &["q"], 0).await;
    publish(&client, vec![scheduled("q", "before", now() + 1_100)]).await;
    let taken = soon("the message", node.fetch(1)).await.unwrap().remove(0);
    acknowledge(&broker, taken).await;
    delete(&vhost, "q");
    let fetched = async {
        loop {
            match soon("the message", node.fetch(1)).await {
                Ok(taken) => return taken,
                // The session has ended with the queue that it took from.
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    };
    let (fetched, ()) = tokio::join!(fetched, async {
        // The node has declared it again.
        consumed(&vhost, &["q"], 1).await;
        publish(&client, vec![scheduled("q", "after", now() + 1_100)]).await;
    });
    assert_eq!(id(&fetched[0]), "after");
}
