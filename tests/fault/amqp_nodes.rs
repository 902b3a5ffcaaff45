//! Nodes of a fleet on RabbitMQ that are killed while they hold tasks; how, and what is judged, is in `redis_nodes`.

use umbel_tests::servers::{endings::Endings, rabbit::Vhost, redis::RedisServer};

/// Goal: what a killed node ran runs elsewhere as soon as its connection ends, nothing is lost, and nothing is finished twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_nodes_tasks_run_elsewhere() {
    let (vhost, redis) = (Vhost::new(), RedisServer::default());
    super::redis_nodes::kill_nodes([vhost.url(), redis.url(1)], &Endings::of(&redis)).await;
}
