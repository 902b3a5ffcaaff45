//! What a workflow should mean, worked out from its shape alone: no messages, no ids, no time.
//!
//! Written from the rules, without a look at how the canvas does it.

use umbel_proto::{State, TaskError, Value, repr};

use super::{called, raised};

/// A workflow as a person would draw it.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Task(Box<Plain>),
    Chain(Vec<Shape>),
    Group(Vec<Shape>),
    Chord(Vec<Shape>, Box<Shape>),
}

/// One task and what is asked of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Plain {
    pub(super) name: String,
    pub(super) own: Option<String>,
    pub(super) fails: bool,
    pub(super) expired: bool,
    pub(super) retries: u32,
    pub(super) ignored: bool,
    pub(super) immutable: bool,
    pub(super) links: Vec<String>,
    pub(super) errbacks: Vec<String>,
    pub(super) replaced: Option<Shape>,
    /// Whether it is the collector that a replacement by several is given, which is no run of the user's.
    pub(super) collects: bool,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Raised(String),
    Expired,
    /// What a member of a header came to, told to each of several that were to be given the list: they fail, whatever it did.
    Handed(Box<Fault>),
    Chord {
        cause: Box<Fault>,
        nested: bool,
    },
}

/// How a workflow ends: one value, or several.
#[derive(Debug, Clone)]
pub(super) enum End {
    One {
        result: Result<Value, Fault>,
        ignored: bool,
    },
    Many(Vec<End>),
    /// Several that were never reached, which fails even when they are none.
    Never(Vec<End>, Fault),
}

/// What happens on the way.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) runs: Vec<String>,
    pub(super) errbacks: Vec<String>,
}

/// What is linked to a workflow as a whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Linked {
    pub(super) links: Vec<String>,
    pub(super) errbacks: Vec<String>,
}

impl Fault {
    /// The exception, with `<id>` for any id.
    pub(super) fn error(&self) -> TaskError {
        match self {
            Self::Raised(name) => raised(name),
            Self::Expired => TaskError::new("celery.exceptions", "TaskRevokedError", "expired"),
            Self::Handed(cause) => cause.error(),
            Self::Chord { cause, nested } => {
                let repr = repr::error_repr(&cause.error());
                let text = if *nested { format!("Join error: {repr}") } else { format!("Dependency <id> raised {repr}") };
                TaskError::new("celery.exceptions", "ChordError", text)
            }
        }
    }

    /// In which state what fails with it ends.
    pub(super) fn state(&self) -> State {
        if matches!(self, Self::Expired) { State::Revoked } else { State::Failure }
    }
}

impl End {
    /// As one value: a list of several, or the first fault among them.
    fn value(&self) -> Result<Value, Fault> {
        match self {
            Self::One { result, .. } => result.clone(),
            Self::Never(_, fault) => Err(fault.clone()),
            Self::Many(members) => members.iter().map(Self::value).collect::<Result<Vec<_>, _>>().map(Value::List),
        }
    }
}

/// The steps of a workflow: chains spliced, a chord as its header followed by its body.
pub(super) fn steps(shape: &Shape) -> Vec<Shape> {
    match shape {
        Shape::Task(_) | Shape::Group(_) => vec![shape.clone()],
        Shape::Chain(parts) => parts.iter().flat_map(steps).collect(),
        Shape::Chord(header, body) => std::iter::once(Shape::Group(header.clone())).chain(steps(body)).collect(),
    }
}

/// The members of a group: groups among them dissolved, empty chains gone.
fn members(shapes: &[Shape]) -> Vec<Vec<Shape>> {
    let dissolve = |shape: &Shape| match shape {
        Shape::Group(inner) => members(inner),
        other => vec![steps(other)],
    };
    shapes.iter().flat_map(dissolve).filter(|steps| !steps.is_empty()).collect()
}

pub(super) fn evaluate(steps: &[Shape], args: &[Value], linked: &Linked, trace: &mut Trace) -> End {
    let mut args = args.to_vec();
    for (index, step) in steps.iter().enumerate() {
        let rest = &steps[index + 1..];
        match step {
            Shape::Group(parts) if rest.is_empty() => {
                let body_of_chord = index > 0 && matches!(steps[index - 1], Shape::Group(_));
                return fan_out(&members(parts), &args, linked, body_of_chord, trace);
            }
            Shape::Group(parts) => {
                let members = members(parts);
                let ends: Vec<(End, bool)> =
                    members.iter().map(|member| (evaluate(member, &args, &Linked::default(), trace), is_several(member))).collect();
                let fault = ends.iter().find_map(|(end, several)| end.value().err().map(|cause| (cause, *several)));
                if let Some((cause, nested)) = fault {
                    let mut called = Vec::new();
                    first_errbacks(rest, &linked.errbacks, &mut called);
                    trace.errbacks.extend(called);
                    // Several that would have been given the list fail one by one, with the exception itself.
                    let several = matches!(rest, [Shape::Group(_)]);
                    let fault = if several { Fault::Handed(Box::new(cause)) } else { Fault::Chord { cause: Box::new(cause), nested } };
                    return never(steps, &fault);
                }
                let values = ends.iter().filter_map(|(end, _)| end.value().ok()).collect();
                args = vec![Value::List(values)];
            }
            Shape::Task(task) => {
                let links: &[String] = if rest.is_empty() { &linked.links } else { &[] };
                let result = call(task, &args, links, &linked.errbacks, trace);
                if rest.is_empty() {
                    return End::One { result, ignored: is_ignored(task, false) };
                }
                match result {
                    Ok(value) => args = vec![value],
                    Err(fault) => return never(steps, &fault),
                }
            }
            Shape::Chain(_) | Shape::Chord(..) => unreachable!("spliced"),
        }
    }
    End::Many(Vec::new())
}

fn fan_out(members: &[Vec<Shape>], args: &[Value], linked: &Linked, body_of_chord: bool, trace: &mut Trace) -> End {
    let ends = members.iter().enumerate().map(|(index, member)| {
        let mut own = linked.clone();
        if body_of_chord {
            // A callback of a chord goes to the first member of the body, and does not get its value.
            own.links = own.links.iter().filter(|_| index == 0).map(|link| format!("!{link}")).collect();
        }
        evaluate(member, args, &own, trace)
    });
    End::Many(ends.collect())
}

/// Whether the result of a task that is reached is not wanted: a replacement may say so too.
fn is_ignored(task: &Plain, asked: bool) -> bool {
    let asked = asked || task.ignored;
    let runs = !task.expired && !task.fails;
    match task.replaced.as_ref().filter(|_| runs).map(steps).as_deref() {
        Some([.., Shape::Task(last)]) => is_ignored(last, asked),
        _ => asked,
    }
}

fn is_several(steps: &[Shape]) -> bool {
    matches!(steps.last(), Some(Shape::Group(_)))
}

fn call(task: &Plain, args: &[Value], links: &[String], errbacks: &[String], trace: &mut Trace) -> Result<Value, Fault> {
    if task.expired {
        return Err(Fault::Expired);
    }
    let mut all: Vec<Value> = if task.immutable { Vec::new() } else { args.to_vec() };
    if task.collects {
        let value = all.remove(0);
        run_links(&value, task.links.iter().chain(links), trace);
        return Ok(value);
    }
    all.extend(task.own.as_deref().map(Value::from));
    let value = called(&task.name, &all);
    trace.runs.push(value.clone());
    if task.fails {
        let mut fired = task.errbacks.clone();
        fired.extend(errbacks.iter().filter(|errback| !task.errbacks.contains(errback)).cloned());
        trace.errbacks.extend(fired);
        return Err(Fault::Raised(task.name.clone()));
    }
    if let Some(replacement) = &task.replaced {
        let mut steps = steps(replacement);
        if steps.is_empty() {
            steps.push(Shape::Group(Vec::new()));
        }
        if is_several(&steps) {
            steps.push(Shape::Task(Box::new(Plain { collects: true, ..Plain::default() })));
        }
        let joined = |own: &[String], more: &[String]| own.iter().chain(more).cloned().collect();
        let linked = Linked { links: joined(&task.links, links), errbacks: joined(&task.errbacks, errbacks) };
        return evaluate(&steps, &[], &linked, trace).value();
    }
    let value = Value::from(value);
    run_links(&value, task.links.iter().chain(links), trace);
    Ok(value)
}

fn run_links<'a>(value: &Value, links: impl Iterator<Item = &'a String>, trace: &mut Trace) {
    for link in links {
        trace.runs.push(match link.strip_prefix('!') {
            Some(immutable) => called(immutable, &[]),
            None => called(link, std::slice::from_ref(value)),
        });
    }
}

/// The errbacks that a failed header calls: those of whatever would have been given its list.
fn first_errbacks(steps: &[Shape], more: &[String], called: &mut Vec<String>) {
    match &steps[0] {
        Shape::Task(task) => {
            for errback in task.errbacks.iter().chain(more) {
                if !called.contains(errback) {
                    called.push(errback.clone());
                }
            }
        }
        Shape::Group(_) if steps.len() > 1 => first_errbacks(&steps[1..], more, called),
        Shape::Group(parts) => members(parts).iter().for_each(|member| {
            let mut own = Vec::new();
            first_errbacks(member, more, &mut own);
            called.append(&mut own);
        }),
        Shape::Chain(_) | Shape::Chord(..) => unreachable!("spliced"),
    }
}

/// How the last step of a workflow ends that will not be reached.
fn never(steps: &[Shape], fault: &Fault) -> End {
    match steps.last() {
        Some(Shape::Task(task)) => End::One { result: Err(fault.clone()), ignored: task.ignored },
        Some(Shape::Group(parts)) => End::Never(members(parts).iter().map(|member| never(member, fault)).collect(), fault.clone()),
        _ => unreachable!("spliced"),
    }
}
