//! Options of tasks, and settings that few have, mean what they mean to Celery.

use serde_json::json;
use umbel_tests::{python::VERSIONS, servers::redis::RedisServer};

use super::told;

/// Goal: steps of priority and separators of an application's own are the node's as well; a task's priority and expiry hold wherever it is
/// sent from; times without a zone are UTC; types that are registered with kombu come back as what they are; results are kept for ever.
/// Method: the same client is told the same by Celery's own worker.
#[test]
fn options_mean_what_they_mean_to_celery() {
    for version in VERSIONS {
        let server = RedisServer::default();
        let (told, said) = told::by_node(version, "options", &[("BROKER", &*server.url(0)), ("BACKEND", &*server.url(1))]);
        let expected = json!({
            "priorities": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            "urgent": [[7, true], [7, true], [7, true]],
            "again": true,
            "point": [["Point", 2, 3], ["Point", 4, 5]],
            "ttl": -1,
        });
        assert_eq!(told, expected, "{said}");
    }
}
