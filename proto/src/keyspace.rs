//! The names of Celery's keys in Redis: wire contract §2.2, §2.6, §4.1, §4.2.
//!
//! Two rules of prefixing live side by side: kombu puts `global_keyprefix` in front of a broker key as it is, Celery puts an
//! underscore between it and a result key unless the prefix ends in a separator already. Hence two types.

use crate::{GroupId, NodeId, QueueName, TaskId};

/// What stands between a queue's name and its priority step, and between the parts of a binding, unless `sep` says otherwise.
pub const SEPARATOR: &str = "\u{6}\u{16}";

/// The steps that priorities 0–9 fall into unless `priority_steps` says otherwise; the first one is served first.
pub const PRIORITY_STEPS: [u8; 4] = [0, 3, 6, 9];

/// Names of the broker's keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerKeys {
    prefix: String,
    steps: Vec<u8>,
    separator: String,
    db: i64,
}

impl BrokerKeys {
    /// Keys under `global_keyprefix`, with `priority_steps`, in database `db` (which is part of the channels' names only).
    pub fn new(global_keyprefix: &str, priority_steps: &[u8], db: i64) -> Self {
        let mut steps = priority_steps.to_vec();
        steps.sort_unstable();
        Self { prefix: global_keyprefix.to_owned(), steps, separator: SEPARATOR.to_owned(), db }
    }

    /// The same with another separator (`sep`); an empty one changes nothing.
    pub fn separated_by(mut self, separator: &str) -> Self {
        if !separator.is_empty() {
            separator.clone_into(&mut self.separator);
        }
        self
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The step that `priority` falls into: the greatest one not above it.
    pub fn step(&self, priority: u8) -> u8 {
        let priority = priority.min(9);
        self.steps.iter().rev().copied().find(|step| *step <= priority).unwrap_or_default()
    }

    /// The list of `queue` for messages of `priority`.
    pub fn queue(&self, queue: &QueueName, priority: u8) -> String {
        self.queue_at(queue, self.step(priority))
    }

    fn queue_at(&self, queue: &QueueName, step: u8) -> String {
        match step {
            0 => self.key(queue.as_str()),
            step => self.key(&format!("{queue}{}{step}", self.separator)),
        }
    }

    /// All lists of `queue`, the one that is served first in front.
    pub fn queue_lists(&self, queue: &QueueName) -> Vec<String> {
        self.steps.iter().map(|step| self.queue_at(queue, *step)).collect()
    }

    /// The queue that the list `key` belongs to, whatever its step; `None` for a key without the prefix.
    pub fn queue_of(&self, key: &str) -> Option<QueueName> {
        let name = key.strip_prefix(&self.prefix)?;
        // A name may contain what others separate by.
        let queue = name.rsplit_once(&*self.separator).filter(|(_, step)| step.parse().is_ok_and(|step: u8| self.steps.contains(&step)));
        Some(queue.map_or(name, |(queue, _)| queue).into())
    }

    /// The hash of messages taken and not settled: delivery tag to [`Unacked`](crate::message::Unacked).
    pub fn unacked(&self) -> String {
        self.key("unacked")
    }

    /// The sorted set of their tags by the time they were taken, in seconds since 1970.
    pub fn unacked_index(&self) -> String {
        self.key("unacked_index")
    }

    /// The lock around restoring them.
    pub fn unacked_mutex(&self) -> String {
        self.key("unacked_mutex")
    }

    /// The set of what is bound to `exchange`.
    pub fn binding(&self, exchange: &str) -> String {
        self.key(&format!("_kombu.binding.{exchange}"))
    }

    /// The set of what is bound to `exchange` for good (kombu 5.7).
    pub fn binding_permanent(&self, exchange: &str) -> String {
        self.key(&format!("_kombu.binding_permanent.{exchange}"))
    }

    /// The sorted set of exchanges by when their bindings end, in milliseconds since 1970 (kombu 5.7).
    pub fn binding_deadlines(&self) -> String {
        self.key("_kombu.binding_deadlines")
    }

    /// The member of a binding set.
    pub fn binding_member(&self, routing_key: &str, pattern: &str, queue: &QueueName) -> String {
        let separator = &self.separator;
        format!("{routing_key}{separator}{pattern}{separator}{queue}")
    }

    /// The parts of such a member: routing key, pattern, queue.
    pub fn bound<'a>(&self, member: &'a str) -> Option<(&'a str, &'a str, QueueName)> {
        let mut parts = member.split(&*self.separator);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(key), Some(pattern), Some(queue), None) if !queue.is_empty() => Some((key, pattern, QueueName::from(queue))),
            _ => None,
        }
    }

    /// The queue on which `node` gets commands of its own.
    pub fn pidbox_queue(node: &NodeId) -> QueueName {
        QueueName::from(format!("{node}.celery.pidbox"))
    }

    /// The queue on which a client with thread id `oid` gets replies.
    pub fn reply_queue(oid: &str) -> QueueName {
        QueueName::from(format!("{oid}.reply.celery.pidbox"))
    }

    /// The channel of a fanout exchange.
    pub fn channel(&self, exchange: &str, routing_key: Option<&str>) -> String {
        let name = match routing_key {
            Some(key) if !key.is_empty() => format!("/{}.{exchange}/{key}", self.db),
            _ => format!("/{}.{exchange}", self.db),
        };
        self.key(&name)
    }
}

/// Names of the result backend's keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultKeys {
    prefix: String,
}

impl ResultKeys {
    /// Keys under the `global_keyprefix` of `result_backend_transport_options`; empty for none.
    pub fn new(global_keyprefix: &str) -> Self {
        let joint = match global_keyprefix.chars().last() {
            None | Some(':' | '_' | '-' | '.') => "",
            Some(_) => "_",
        };
        Self { prefix: format!("{global_keyprefix}{joint}") }
    }

    /// The result of a task; also the channel it is announced on.
    pub fn task(&self, id: &TaskId) -> String {
        format!("{}celery-task-meta-{id}", self.prefix)
    }

    /// The tree of a group's results.
    pub fn group(&self, id: &GroupId) -> String {
        format!("{}celery-taskset-meta-{id}", self.prefix)
    }

    /// The parts of a chord, a sorted set (a list without `result_chord_ordered`).
    pub fn chord_parts(&self, id: &GroupId) -> String {
        self.group(id) + ".j"
    }

    /// How many parts a chord has.
    pub fn chord_size(&self, id: &GroupId) -> String {
        self.group(id) + ".s"
    }

    /// How many were added while it ran.
    pub fn chord_added(&self, id: &GroupId) -> String {
        self.group(id) + ".t"
    }

    /// Which parts have been counted (Celery 5.7).
    pub fn chord_counted(&self, id: &GroupId) -> String {
        self.group(id) + ".d"
    }

    /// Who sends the body (Celery 5.7).
    pub fn chord_claim(&self, id: &GroupId) -> String {
        self.group(id) + ".c"
    }

    /// The lock of `celery.chord_unlock`, for backends that cannot count.
    pub fn chord_unlock(&self, id: &GroupId) -> String {
        format!("{}chord-unlock-{id}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: names of queues may contain what an application separates steps by.
    #[test]
    fn other_separators() {
        let keys = BrokerKeys::new("", &[0, 5], 0).separated_by(":");
        let queue = QueueName::from("a:b");
        assert_eq!(keys.queue_lists(&queue), ["a:b", "a:b:5"]);
        for (key, of) in [("a:b", "a:b"), ("a:b:5", "a:b"), ("a:7", "a:7"), ("a", "a")] {
            assert_eq!(keys.queue_of(key), Some(QueueName::from(of)), "{key}");
        }
        assert_eq!(keys.bound(&keys.binding_member("key", "", &QueueName::from("q"))), Some(("key", "", QueueName::from("q"))));
        assert_eq!(BrokerKeys::new("", &[0], 0).separated_by(""), BrokerKeys::new("", &[0], 0));
    }

    #[test]
    fn priorities_fall_into_steps() {
        let keys = BrokerKeys::new("kp:", &PRIORITY_STEPS, 0);
        let queue = QueueName::from("celery");
        let lists = ["kp:celery", "kp:celery\u{6}\u{16}3", "kp:celery\u{6}\u{16}6", "kp:celery\u{6}\u{16}9"];
        assert_eq!(keys.queue_lists(&queue), lists);
        let of = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3].map(|step| lists[step].to_owned());
        assert_eq!((0..=10).map(|priority| keys.queue(&queue, priority)).collect::<Vec<_>>(), of);
        assert!(lists.iter().all(|list| keys.queue_of(list) == Some(queue.clone())));
        assert_eq!(keys.queue_of("other"), None);
    }

    #[test]
    fn broker_prefixes_are_verbatim() {
        let keys = BrokerKeys::new("kp", &PRIORITY_STEPS, 3);
        assert_eq!((keys.unacked().as_str(), keys.unacked_index().as_str()), ("kpunacked", "kpunacked_index"));
        assert_eq!(keys.binding("celery"), "kp_kombu.binding.celery");
        assert_eq!(keys.binding_permanent("celery"), "kp_kombu.binding_permanent.celery");
        assert_eq!(keys.binding_deadlines(), "kp_kombu.binding_deadlines");
        assert_eq!(keys.channel("celery.pidbox", None), "kp/3.celery.pidbox");
        assert_eq!(keys.channel("celeryev", Some("worker.heartbeat")), "kp/3.celeryev/worker.heartbeat");
        assert_eq!(keys.binding_member("celery", "", &QueueName::from("celery")), "celery\u{6}\u{16}\u{6}\u{16}celery");
        assert_eq!(BrokerKeys::pidbox_queue(&NodeId::from("celery@vm")).as_str(), "celery@vm.celery.pidbox");
        assert_eq!(BrokerKeys::reply_queue("o").as_str(), "o.reply.celery.pidbox");
    }

    #[test]
    fn result_prefixes_get_an_underscore() {
        let group = GroupId::from("g");
        for (prefix, key) in [("", ""), ("rk", "rk_"), ("rk_", "rk_"), ("rk:", "rk:"), ("rk-", "rk-"), ("rk.", "rk.")] {
            let keys = ResultKeys::new(prefix);
            assert_eq!(keys.task(&TaskId::from("t")), format!("{key}celery-task-meta-t"));
            assert_eq!(keys.chord_parts(&group), format!("{key}celery-taskset-meta-g.j"));
        }
    }
}
