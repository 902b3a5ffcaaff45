//! Which tests count: `plan.toml`.

use serde::Deserialize;
use umbel_tests::servers::{rabbit::Vhost, redis::RedisServer};

/// Where messages and results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Configuration {
    /// Both in Redis.
    Redis,
    /// Messages in RabbitMQ, results in Redis.
    Amqp,
    /// Messages in RabbitMQ, and results as messages.
    Rpc,
}

impl Configuration {
    const ALL: [Self; 3] = [Self::Redis, Self::Amqp, Self::Rpc];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Amqp => "amqp",
            Self::Rpc => "rpc",
        }
    }

    /// A virtual host of RabbitMQ, if messages go there.
    pub(super) fn vhost(self) -> Option<Vhost> {
        (self != Self::Redis).then(Vhost::new)
    }

    /// The broker's address and the backend's.
    pub(super) fn urls(self, redis: &RedisServer, vhost: Option<&Vhost>) -> (String, String) {
        let broker = vhost.map_or_else(|| redis.url(0), Vhost::url);
        // The suite knows `rpc` by this word.
        (broker, if self == Self::Rpc { "rpc".to_owned() } else { redis.url(0) })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    reason: String,
    #[serde(default, rename = "in")]
    configurations: Vec<String>,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Without {
    tests: Vec<String>,
    #[serde(default, rename = "in")]
    configurations: Vec<String>,
    /// Whether only older suites than the one the plan is written for have them.
    #[serde(default)]
    older: bool,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ignored {
    file: String,
    why: String,
}

/// The plan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    ignored: Vec<Ignored>,
    skipped: Vec<Skip>,
    excluded: Vec<Without>,
    client: Vec<Without>,
}

/// Whether `pattern` means the test `id`.
pub(super) fn means(pattern: &str, id: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(part) => id.contains(part),
        None => id.split_once('[').map_or(id, |(id, _)| id).ends_with(pattern),
    }
}

fn within(names: &[String], configuration: Configuration) -> bool {
    names.is_empty() || names.iter().any(|name| name == configuration.name())
}

impl Plan {
    pub(super) fn read() -> Self {
        let plan: Self = toml::from_str(include_str!("plan.toml")).unwrap();
        let known = ["redis", "amqp", "rpc"];
        let named = plan.skipped.iter().map(|skip| (&skip.configurations, &skip.why));
        for (names, why) in named.chain(plan.without().map(|entry| (&entry.configurations, &entry.why))) {
            assert!(!why.is_empty() && names.iter().all(|name| known.contains(&name.as_str())), "{names:?}: {why}");
        }
        assert!(plan.ignored.iter().all(|ignored| !ignored.why.is_empty()));
        assert!(Configuration::ALL.iter().all(|one| known.contains(&one.name())));
        plan
    }

    /// The files that pytest does not look into, as its options.
    pub(super) fn ignored(&self) -> impl Iterator<Item = String> {
        self.ignored.iter().map(|ignored| format!("--ignore={}", ignored.file))
    }

    fn without(&self) -> impl Iterator<Item = &Without> {
        self.excluded.iter().chain(&self.client)
    }

    /// Fails on entries that mean none of the tests.
    pub(super) fn check(&self, all: &[String]) {
        let patterns = self.without().filter(|entry| !entry.older).flat_map(|entry| &entry.tests);
        let stale: Vec<&String> = patterns.filter(|pattern| !all.iter().any(|id| means(pattern, id))).collect();
        assert!(stale.is_empty(), "no test is meant by {stale:?} of plan.toml");
    }

    /// Whether a test says something about the worker.
    pub(super) fn counts(&self, id: &str, configuration: Configuration) -> bool {
        !self.without().any(|entry| within(&entry.configurations, configuration) && entry.tests.iter().any(|test| means(test, id)))
    }

    /// Whether the suite may leave a test out, or expect it to fail, for this reason.
    pub(super) fn may_skip(&self, why: &str, configuration: Configuration) -> bool {
        self.skipped.iter().any(|skip| within(&skip.configurations, configuration) && why.contains(&skip.reason))
    }
}

#[test]
fn patterns_mean_tests() {
    let id = "t/integration/test_a.py::test_b::test_c[x-1]";
    assert!(means("test_a.py::test_b::test_c", id) && means("::test_b::*", id) && means("::test_c[x*", id));
    assert!(!means("test_b::test", id) && !means("::test_d*", id));
}
