//! What goes wrong, drawn from the seed before the first step.

use umbel_proto::{Millis, Signature};

use crate::{dice::Dice, workload::workflow};

/// When the faults end. From then on everything works, and all that is left has to end.
pub(crate) const HEAL: Millis = 40_000;

const HOUR: Millis = 3_600_000;

/// Everything that one seed decides ahead of the run; what happens to single requests is drawn on the way.
#[derive(Debug)]
pub(crate) struct Plan {
    /// For each node how much its clock is fast, its credits and its slots.
    pub(crate) nodes: Vec<(Millis, u32, usize)>,
    /// When to submit what, and whether by a Celery client, which knows no schedule: messages go to their queue early.
    pub(crate) workflows: Vec<(Millis, Signature, bool)>,
    /// What happens when.
    pub(crate) script: Vec<(Millis, Operation)>,
    /// What happens to requests.
    pub(crate) network: Network,
}

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// A node dies, and is started again after this long.
    Crash { node: usize, down: Millis },
    /// A node stands still for this long and then goes on as if nothing had happened.
    Pause { node: usize, still: Millis },
    /// The broker answers nobody for this long.
    Outage { away: Millis },
    /// Something that was submitted is revoked: one of its tasks, a group, or all of it.
    Revoke,
}

/// In how many of a hundred cases something happens to a request, an answer, a run or a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    pub(crate) dropped: u32,
    pub(crate) doubled: u32,
    pub(crate) late: u32,
    pub(crate) executor_dies: u32,
    pub(crate) panics: u32,
    /// The broker is given the same message twice.
    pub(crate) twins: u32,
}

impl Plan {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let nodes: Vec<_> = (0..dice.between(1, 4))
            .map(|_| {
                let (slow, fast) = [(-2_000, 2_000), (-2 * HOUR, 0), (0, HOUR / 6)][[0, 0, 0, 0, 0, 0, 0, 1, 1, 2][dice.below(10)]];
                (dice.between(slow, fast), dice.between(1, 8) as u32, dice.between(1, 4) as usize)
            })
            .collect();
        let mut count = 0;
        let workflows =
            (0..dice.between(1, 5)).map(|_| (dice.between(0, HEAL / 2), workflow(dice, 3, &mut count), dice.chance(40))).collect();
        let script = (0..dice.below(9))
            .map(|_| {
                let node = dice.below(nodes.len());
                let operation = match dice.below(7) {
                    0 | 1 => Operation::Crash { node, down: dice.between(100, 10_000) },
                    2 | 3 => Operation::Pause { node, still: dice.between(500, 12_000) },
                    4 => Operation::Outage { away: dice.between(200, 8_000) },
                    _ => Operation::Revoke,
                };
                (dice.between(0, HEAL - 1), operation)
            })
            .collect();
        let mut rate = |most: i64| if dice.chance(60) { dice.between(1, most) as u32 } else { 0 };
        let network =
            Network { dropped: rate(20), doubled: rate(20), late: rate(20), executor_dies: rate(20), panics: rate(10), twins: rate(30) };
        Self { nodes, workflows, script, network }
    }
}
