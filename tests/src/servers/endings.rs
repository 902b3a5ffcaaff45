//! Who has ended how often: hears every result that is published on a Redis server, by Celery or by nodes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use redis::Client;

use super::redis::RedisServer;

/// A listener; it goes with the server's connections.
#[derive(Debug, Clone, Default)]
pub struct Endings(Arc<Mutex<BTreeMap<String, u32>>>);

impl Endings {
    /// Listens from now on.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn of(server: &RedisServer) -> Self {
        let endings = Self::default();
        let heard = endings.clone();
        let mut connection = Client::open(server.url(0)).unwrap().get_connection().unwrap();
        let mut subscribed = redis::cmd("PSUBSCRIBE");
        connection.send_packed_command(&subscribed.arg("celery-task-meta-*").get_packed_command()).unwrap();
        connection.recv_response().unwrap();
        thread::spawn(move || {
            while let Ok(value) = connection.recv_response() {
                let Ok((_, _, channel, record)) = redis::from_redis_value::<(String, String, String, String)>(value) else { continue };
                let Ok(record) = serde_json::from_str::<serde_json::Value>(&record) else { continue };
                if matches!(record["status"].as_str(), Some("SUCCESS" | "FAILURE" | "REVOKED")) {
                    let mut counts = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
                    *counts.entry(channel.trim_start_matches("celery-task-meta-").to_owned()).or_default() += 1;
                }
            }
        });
        endings
    }

    /// How many tasks have ended.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How often a task has ended.
    pub fn of_task(&self, id: &str) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0)
    }

    /// Tasks that have ended more than once.
    pub fn doubled(&self) -> Vec<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.clone()).collect()
    }
}
