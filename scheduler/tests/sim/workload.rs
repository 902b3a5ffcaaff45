//! What is asked of the cluster: random workflows, and what their tasks do.

use std::collections::BTreeMap;

use umbel_proto::{Invocation, Outcome, Retry, Signature, TaskError, TaskName, Value};
use umbel_scheduler::{Acknowledge, TaskSpec, canvas::Specs};

use crate::dice::Dice;

/// The tasks of the cluster.
#[derive(Debug)]
pub(crate) struct Tasks(BTreeMap<TaskName, TaskSpec>);

const NAMES: [&str; 5] = ["late", "early", "tracked", "stubborn", "kept"];

impl Tasks {
    pub(crate) fn new() -> Self {
        let specs = NAMES.iter().chain(&["celery.accumulate"]).map(|name| {
            let mut spec = TaskSpec::new(*name);
            spec.retry_delay_secs = 1.0;
            match *name {
                "early" => spec.acknowledge = Acknowledge::Early,
                "tracked" => spec.track_started = true,
                "stubborn" => spec.max_retries = None,
                "kept" => spec.dead_letter_on_failure = true,
                _ => {}
            }
            (spec.name.clone(), spec)
        });
        Self(specs.collect())
    }
}

impl Specs for Tasks {
    fn spec(&self, task: &TaskName) -> Option<&TaskSpec> {
        self.0.get(task)
    }
}

/// A workflow, with groups in groups down to `depth`. No group is empty: its successor would get the empty list instead of what
/// the witness has seen the step before come to (what empty groups mean is the canvas's own tests' affair).
pub(crate) fn workflow(dice: &mut Dice, depth: u32, count: &mut u32) -> Signature {
    let kind = if depth == 0 { 0 } else { dice.below(10) };
    let mut several = |dice: &mut Dice| -> Vec<Signature> { (0..dice.between(1, 4)).map(|_| workflow(dice, depth - 1, count)).collect() };
    match kind {
        0..=2 => task(dice, count),
        3..=5 => Signature::chain(several(dice)),
        6 => Signature::group(several(dice)),
        _ => {
            let header = several(dice);
            let body = if dice.chance(70) { task(dice, count) } else { workflow(dice, depth - 1, count) };
            Signature::chord(header, Signature::chain([body, task(dice, count)]))
        }
    }
}

fn task(dice: &mut Dice, count: &mut u32) -> Signature {
    let mut sig = bare(dice, count);
    for (percent, name, most) in [(10, "fail", 1), (12, "retry", 4)] {
        if dice.chance(percent) {
            sig = sig.kwarg(name, dice.between(1, most));
        }
    }
    for (percent, name, most) in [(12, "countdown", 20), (8, "expires", 30)] {
        if dice.chance(percent) {
            sig = sig.set(name, dice.between(1, most) as f64);
        }
    }
    if dice.chance(10) {
        sig = sig.set("ignore_result", true);
    }
    if dice.chance(10) {
        sig = sig.immutable();
    }
    if dice.chance(10) {
        sig = sig.link(bare(dice, count));
    }
    if dice.chance(15) {
        sig = sig.link_error(bare(dice, count));
    }
    sig
}

fn bare(dice: &mut Dice, count: &mut u32) -> Signature {
    *count += 1;
    Signature::new(NAMES[dice.below(NAMES.len())]).kwarg("tag", format!("t{count}"))
}

/// What a task comes to when nothing goes wrong. Its value is its own, so that a value in a wrong place is seen.
pub(crate) fn outcome(invocation: &Invocation) -> Outcome {
    let (args, kwargs) = invocation.arguments().expect("written by this cluster");
    let number = |name: &str| kwargs.get(name).and_then(Value::as_i64).unwrap_or(0);
    if i64::from(invocation.headers.retries) < number("retry") {
        return Outcome::Retry(Retry { error: Some(error("again")), ..Retry::default() });
    }
    if number("fail") > 0 {
        return Outcome::Failure(error("failed"));
    }
    let value = match kwargs.get("tag") {
        Some(tag) => tag.clone(),
        None => args.first().cloned().unwrap_or(Value::Null),
    };
    Outcome::Success { value, children: Vec::new() }
}

/// What a task raises.
pub(crate) fn error(text: &str) -> TaskError {
    TaskError::new("builtins", "RuntimeError", text)
}
