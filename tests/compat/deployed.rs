//! What holds for an application as it is deployed: the worker's limits and settings, and what the application looks at when one starts.

use serde_json::json;
use umbel_tests::{
    python::VERSIONS,
    servers::{
        rabbit::Vhost,
        redis::{RedisServer, Setup},
    },
};

use super::told;

/// Goal: the command line's limits hold for Python's tasks, rate limits can be off, attempts that are asked for by hand are counted,
/// arguments keep their types, the application finds itself in a worker, its filters see what is logged, it hears that
/// the worker lives, of what does nothing here the log tells, and a setting alone asks for TLS.
#[test]
fn an_application_finds_what_it_is_used_to() {
    for version in VERSIONS {
        let (server, home) = (RedisServer::start(Setup { tls: true, ..Setup::default() }), tempfile::tempdir().unwrap());
        // Of a result backend Celery wants its scheme to say so as well.
        let (broker, backend) = (format!("redis://127.0.0.1:{}/0", server.port()), format!("rediss://127.0.0.1:{}/1", server.port()));
        let runs = home.path().join("runs").display().to_string();
        let certificates = server.certificates().display().to_string();
        let limits = "--soft-time-limit 0.5 --time-limit 2";
        let variables =
            [("BROKER", &*broker), ("BACKEND", &backend), ("RUNS", &runs), ("NODE_ARGS", limits), ("CERTIFICATES", &certificates)];
        let (told, said) = told::by_node(version, "deployed", &variables);
        let expected = json!({
            "rare": [0, 1, 2],
            "limits": ["told", "TimeLimitExceeded"],
            "by_hand": ["MaxRetriesExceededError", 3],
            "becomes_float": "1.0",
            "alive": ["worker_ready", "heartbeat_sent", "heartbeat_sent"],
            "looks": ["celery", "-A", "deployed", "worker"],
        });
        assert_eq!(told, expected, "{said}");
        assert!(said.contains("the word is ***") && !said.contains("SECRET"), "{said}");
        assert!(said.contains("bootsteps of the application do nothing in a node: Probe"), "{said}");
    }
}

/// Goal: queues with exchanges, bindings and priorities of their own are there as the application has them, whoever comes first: its
/// clients are not refused, and what they and other tasks send arrives; and so for queues that it adds when a worker starts.
#[test]
fn queues_are_as_the_application_has_them() {
    for version in VERSIONS {
        let (server, vhost) = (RedisServer::default(), Vhost::new());
        for broker in [vhost.url(), server.url(0)] {
            let variables = [("BROKER", &*broker), ("BACKEND", &*server.url(1))];
            let (told, said) = told::by_node(version, "declared", &variables);
            let (feed, dx) = (json!(["feeds", "feed.two"]), json!(["dex", "dkey"]));
            let mut expected = json!({ "prio": ["prio", 5], "dx": dx, "later": [["prio", 0], dx], "own": [7, 7] });
            if broker.starts_with("amqp") {
                expected["feed"] = json!([feed, feed]);
            }
            assert_eq!(told, expected, "{broker}: {said}");
        }
    }
}
