//! How much work a node takes, seeing the others: pull, so nobody is told what to do.
//!
//! A node takes ahead so that its slots never wait for the next message. While a slot elsewhere could begin that message now, a
//! message taken ahead is one that waits in the wrong place: then a node takes what it can begin itself, and no more. Without
//! others, or without news of them, it takes what it would take alone, as Celery's workers do.

use umbel_proto::{NodeLoad, QueueName};

/// From which share of processors in use on, in percent, a node leaves work to those below it.
const BUSY_CPU: u8 = 95;

/// Below which share one has room for the work of another.
const FREE_CPU: u8 = 75;

/// From which share of memory in use on a node takes nothing ahead.
const FULL_MEMORY: u8 = 95;

/// A node, as far as placement looks at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour<'a> {
    /// The queues it takes from.
    pub queues: &'a [QueueName],
    /// How busy it is.
    pub load: NodeLoad,
}

/// How many messages a node should hold, those that run included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// How many.
    pub messages: u32,
    /// Why so many.
    pub why: Why,
}

/// Why an offer is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Why {
    /// Nobody else takes from its queues.
    Alone,
    /// The others have no slot free.
    OthersBusy,
    /// Others could begin at once.
    OthersIdle {
        /// How many nodes.
        nodes: u32,
        /// How many slots of theirs.
        slots: u32,
    },
    /// Its processors have all they can do, and those of others have not.
    ProcessorsBusy {
        /// The share in use.
        percent: u8,
    },
    /// Its memory is full.
    MemoryFull {
        /// The share in use.
        percent: u8,
    },
    /// It is about to stop.
    Draining,
}

impl Why {
    /// In words, for people.
    pub fn words(self) -> String {
        match self {
            Self::Alone => "no other node takes from its queues".to_owned(),
            Self::OthersBusy => "no other node has a slot free for its queues".to_owned(),
            Self::OthersIdle { nodes, slots } => {
                format!("{nodes} other nodes could begin {slots} tasks at once, so it takes nothing ahead")
            }
            Self::ProcessorsBusy { percent } => {
                format!("its processors are at {percent} % and others have time, so it leaves a quarter of its slots free")
            }
            Self::MemoryFull { percent } => format!("its memory is at {percent} %, so it takes nothing ahead"),
            Self::Draining => "it is about to stop".to_owned(),
        }
    }
}

/// How many messages `me` should hold, of at most `full`, given the `others` that are there.
pub fn offer<'a>(me: Neighbour<'_>, others: impl IntoIterator<Item = Neighbour<'a>>, full: u32) -> Offer {
    let slots = me.load.slots.clamp(1, full.max(1));
    if me.load.draining {
        return Offer { messages: 0, why: Why::Draining };
    }
    let (mut nodes, mut idle_nodes, mut idle_slots, mut free) = (0u32, 0u32, 0u32, false);
    for other in others.into_iter().filter(|other| !other.load.draining && other.queues.iter().any(|queue| me.queues.contains(queue))) {
        nodes += 1;
        let idle = other.load.idle();
        if idle > 0 && other.load.memory_percent < FULL_MEMORY {
            idle_nodes += 1;
            idle_slots = idle_slots.saturating_add(idle);
            free |= other.load.cpu_percent <= FREE_CPU;
        }
    }
    let percent = me.load.cpu_percent;
    if percent >= BUSY_CPU && free {
        return Offer { messages: (slots - slots / 4).max(1), why: Why::ProcessorsBusy { percent } };
    }
    if me.load.memory_percent >= FULL_MEMORY {
        return Offer { messages: slots, why: Why::MemoryFull { percent: me.load.memory_percent } };
    }
    match (nodes, idle_nodes) {
        (0, _) => Offer { messages: full, why: Why::Alone },
        (_, 0) => Offer { messages: full, why: Why::OthersBusy },
        _ => Offer { messages: slots, why: Why::OthersIdle { nodes: idle_nodes, slots: idle_slots } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(slots: u32, busy: u32, backlog: u32) -> NodeLoad {
        NodeLoad { slots, busy, backlog, cpu_percent: 50, memory_percent: 50, ..NodeLoad::default() }
    }

    #[test]
    fn idle_nodes_come_before_what_is_taken_ahead() {
        let (q, r) = ([QueueName::from("q")], [QueueName::from("r")]);
        let me = Neighbour { queues: &q, load: load(4, 4, 2) };
        let other = |queues, load| Neighbour { queues, load };
        let ask = |others: &[Neighbour<'_>]| offer(me, others.iter().copied(), 16);
        assert_eq!(ask(&[]), Offer { messages: 16, why: Why::Alone });
        assert_eq!(ask(&[other(&r, load(4, 0, 0))]).why, Why::Alone, "other queues are other work");
        assert_eq!(ask(&[other(&q, load(4, 4, 9))]), Offer { messages: 16, why: Why::OthersBusy });
        let idle = [other(&q, load(4, 1, 0)), other(&q, load(8, 0, 0)), other(&q, load(2, 2, 0))];
        assert_eq!(ask(&idle), Offer { messages: 4, why: Why::OthersIdle { nodes: 2, slots: 11 } });
        let draining = NodeLoad { draining: true, ..load(8, 0, 0) };
        assert_eq!(ask(&[other(&q, draining)]).why, Why::Alone);
    }

    #[test]
    fn overloaded_and_draining_nodes_take_less() {
        let q = [QueueName::from("q")];
        let ask =
            |mine: NodeLoad, other: NodeLoad| offer(Neighbour { queues: &q, load: mine }, [Neighbour { queues: &q, load: other }], 32);
        let hot = NodeLoad { cpu_percent: 100, ..load(8, 8, 0) };
        assert_eq!(ask(hot, load(8, 0, 0)), Offer { messages: 6, why: Why::ProcessorsBusy { percent: 100 } });
        assert_eq!(ask(hot, load(8, 8, 0)).why, Why::OthersBusy, "nobody would do it sooner");
        assert_eq!(ask(hot, NodeLoad { cpu_percent: 90, ..load(8, 0, 0) }).messages, 8, "all are hot");
        let full = NodeLoad { memory_percent: 96, ..load(8, 8, 0) };
        assert_eq!(ask(full, load(8, 8, 0)), Offer { messages: 8, why: Why::MemoryFull { percent: 96 } });
        assert_eq!(ask(NodeLoad { draining: true, ..full }, load(8, 0, 0)), Offer { messages: 0, why: Why::Draining });
        for why in [Why::Alone, Why::OthersIdle { nodes: 1, slots: 2 }, Why::Draining] {
            assert!(!why.words().is_empty());
        }
    }
}
