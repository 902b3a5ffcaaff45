//! The names of keys: kombu's and Celery's (`umbel_proto::keyspace`), and the few of Umbel's own.
//!
//! Own keys begin with `umbel:`; nothing of Celery's structures changes its meaning. Broker keys carry `global_keyprefix`
//! verbatim; result keys have a prefix of their own.

use umbel_proto::{
    GroupId, QueueName, TaskId,
    keyspace::{BrokerKeys, PRIORITY_STEPS, ResultKeys, SEPARATOR},
};

/// How kombu names things; `broker_transport_options` can change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `global_keyprefix`.
    pub prefix: String,
    /// `priority_steps`, ascending. The first is the most urgent, the reverse of RabbitMQ.
    pub steps: Vec<u8>,
    /// `sep`: what stands between a queue's name and a step, and between the parts of a binding.
    pub separator: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self { prefix: String::new(), steps: PRIORITY_STEPS.to_vec(), separator: SEPARATOR.to_owned() }
    }
}

/// Hash: task to how it is limited, behind a prefix: the broker's, or that of the results where they keep the limits.
pub(crate) fn limits_under(prefix: &str) -> String {
    format!("{prefix}umbel:limits")
}

/// The names of the broker's keys: kombu's, and Umbel's own.
#[derive(Debug, Clone)]
pub struct Keys {
    /// kombu's.
    pub kombu: BrokerKeys,
    layout: Layout,
}

impl Keys {
    /// Names for a layout in a database.
    pub fn new(layout: &Layout, db: i64) -> Self {
        Self { kombu: BrokerKeys::new(&layout.prefix, &layout.steps, db).separated_by(&layout.separator), layout: layout.clone() }
    }

    /// `global_keyprefix`.
    pub fn prefix(&self) -> &str {
        &self.layout.prefix
    }

    fn own(&self, name: &str) -> String {
        format!("{}umbel:{name}", self.layout.prefix)
    }

    /// The list for messages of a priority.
    pub fn list(&self, queue: &QueueName, priority: Option<i64>) -> String {
        let priority = priority.unwrap_or(0).clamp(0, 9);
        self.kombu.queue(queue, u8::try_from(priority).unwrap_or(0))
    }

    /// Messages of a queue whose early acknowledged run died with its node: only nodes take them, to record the loss.
    pub fn lost(&self, queue: &QueueName) -> String {
        self.own(&format!("lost:{queue}"))
    }

    /// Sorted set: session to the end of its lease, in milliseconds of the server's clock; 0 is dead.
    pub fn leases(&self) -> String {
        self.own("leases")
    }

    /// When a session was last heard.
    pub fn pulse(&self) -> String {
        self.own("pulse")
    }

    /// Hash: session to the number of its present taker, so that a take that comes late takes nothing.
    pub fn takers(&self) -> String {
        self.own("takers")
    }

    /// Hash: session to what it is (JSON: node, queues).
    pub fn sessions(&self) -> String {
        self.own("sessions")
    }

    /// Set: entries of `unacked` that were acknowledged early. They are in no index, so no Celery worker restores them.
    pub fn begun(&self) -> String {
        self.own("begun")
    }

    /// Set of the queues that are paused.
    pub fn paused(&self) -> String {
        self.own("paused")
    }

    /// Set of the queues that nodes have published to or taken from.
    pub fn queues(&self) -> String {
        self.own("queues")
    }

    /// Sorted set: queue to when the next of its scheduled messages is due.
    pub fn schedules(&self) -> String {
        self.own("schedules")
    }

    /// Sorted set: id of a scheduled message to when it is due.
    pub fn due(&self, queue: &QueueName) -> String {
        self.own(&format!("due:{queue}"))
    }

    /// Hash: id of a scheduled message to its step and envelope.
    pub fn scheduled(&self, queue: &QueueName) -> String {
        self.own(&format!("scheduled:{queue}"))
    }

    /// Which session looks after the schedule.
    pub fn clock(&self) -> String {
        self.own("clock")
    }

    /// Sorted set: id of a dead letter to when it came.
    pub fn dead(&self) -> String {
        self.own("dead")
    }

    /// Hash: id of a dead letter to its record.
    pub fn letters(&self) -> String {
        self.own("letters")
    }

    /// Sorted set: order not to run something to when it was given.
    pub fn revoked(&self) -> String {
        self.own("revoked")
    }

    /// Hash: what was changed of a task, and the task, to the change.
    pub fn tunings(&self) -> String {
        self.own("tunings")
    }

    /// Hash: task to how it is limited.
    pub fn limits(&self) -> String {
        limits_under(self.prefix())
    }

    /// Hash: queue to the message last seen at its head and since when.
    pub fn heads(&self) -> String {
        self.own("heads")
    }

    /// Mark of a submission that has been carried out.
    pub fn once(&self, token: &str) -> String {
        self.own(&format!("once:{token}"))
    }

    /// What beat keeps: `entries`, `marks`, `paused`, `leader`, `token`, `revision`.
    pub fn beat(&self, what: &str) -> String {
        self.own(&format!("beat:{what}"))
    }

    /// Lock of whoever brings a dead node's messages back.
    pub fn rescue(&self) -> String {
        self.own("rescue")
    }
}

/// The names of results: Celery's, and Umbel's own.
#[derive(Debug, Clone)]
pub struct Results {
    /// Celery's.
    pub celery: ResultKeys,
    task: String,
    own: String,
}

impl Results {
    /// Names with the `global_keyprefix` of the backend's own options.
    pub fn new(prefix: &str) -> Self {
        let celery = ResultKeys::new(prefix);
        let task = celery.task(&TaskId::from(""));
        let own = task.strip_suffix("celery-task-meta-").unwrap_or_default().to_owned() + "umbel:";
        Self { celery, task, own }
    }

    /// The task of a channel; `None` for other channels.
    pub fn task_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(&*self.task)
    }

    /// Sorted set of the chords that nodes know of and that have not been concluded, to when they were last looked at.
    pub fn chords(&self) -> String {
        format!("{}chords", self.own)
    }

    /// Hash: chord to its body's signature.
    pub fn bodies(&self) -> String {
        format!("{}bodies", self.own)
    }

    /// Hash: chord to the task that completed it, and that task's root.
    pub fn lasts(&self) -> String {
        format!("{}lasts", self.own)
    }

    /// The name of an ending that has begun to send what follows.
    pub fn ending(&self, what: &str) -> String {
        format!("{}ending:{what}", self.own)
    }

    /// Mark of an ending that is there as a whole, but for its message, which is not settled.
    pub fn ended(&self, what: &str) -> String {
        format!("{}ended:{what}", self.own)
    }

    /// Which copy of a message was taken first.
    pub fn copy(&self, what: &str) -> String {
        format!("{}copy:{what}", self.own)
    }

    /// What stands before the id in a group's key.
    pub fn groups(&self) -> String {
        self.celery.group(&GroupId::from(""))
    }
}

/// Whether a routing key fits the key of a binding to a topic exchange: `*` is a word, `#` any number of them.
pub(crate) fn fits(binding: &str, routing_key: &str) -> bool {
    fn fit<'a>(mut binding: impl Iterator<Item = &'a str> + Clone, mut key: impl Iterator<Item = &'a str> + Clone) -> bool {
        match binding.next() {
            None => key.next().is_none(),
            Some("#") => loop {
                if fit(binding.clone(), key.clone()) {
                    return true;
                }
                if key.next().is_none() {
                    return false;
                }
            },
            Some(word) => key.next().is_some_and(|next| word == "*" || word == next) && fit(binding, key),
        }
    }
    fit(binding.split('.'), routing_key.split('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_word_by_word() {
        for (binding, fitting, others) in [
            ("feed.#", &["feed.import", "feed.import.now"][..], &["food.import", "a.feed.import"][..]),
            ("*.import", &["feed.import"], &["import", "a.feed.import"]),
            ("#", &["a", "a.b"], &[]),
            ("a.#.z", &["a.z", "a.b.z"], &["a.b"]),
        ] {
            assert!(fitting.iter().all(|key| fits(binding, key)) && !others.iter().any(|key| fits(binding, key)), "{binding}");
        }
    }

    #[test]
    fn channels_lead_back_to_tasks() {
        for prefix in ["", "rk", "rk:"] {
            let keys = Results::new(prefix);
            assert_eq!(keys.task_of(&keys.celery.task(&TaskId::from("t"))), Some("t"));
            assert_eq!(keys.task_of("other"), None);
        }
        assert_eq!(Results::new("rk").chords(), "rk_umbel:chords");
    }

    #[test]
    fn priorities_out_of_range_are_brought_into_it() {
        let keys = Keys::new(&Layout::default(), 0);
        let queue = QueueName::from("q");
        let lists = [None, Some(-1), Some(4), Some(300)].map(|priority| keys.list(&queue, priority));
        assert_eq!(lists, ["q", "q", "q\u{6}\u{16}3", "q\u{6}\u{16}9"]);
    }
}
