//! Which queue a task goes to: `celery/app/routes.py`, `celery/app/amqp.py`.

use fancy_regex::Regex;
use umbel_proto::{Options, TaskName};

use crate::{Route, TaskSpec};

/// `task_routes`: patterns and where they lead. An exact name wins; else the first pattern that matches, in the order added.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: String,
    matcher: Matcher,
    target: Target,
}

#[derive(Debug, Clone)]
enum Matcher {
    Exact,
    Pattern(Regex),
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Target {
    /// The queue.
    pub queue: Option<String>,
    /// The exchange.
    pub exchange: Option<String>,
    /// The routing key.
    pub routing_key: Option<String>,
    /// The priority.
    pub priority: Option<u8>,
}

impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(a, b)| a.pattern == b.pattern && a.target == b.target)
    }
}

impl Routes {
    /// Adds a rule: an exact name, a glob (`proj.tasks.*`), or a regular expression between slashes (`/^proj\..*$/`).
    ///
    /// As in Celery, `*` stands for one character or more, nothing else is special in a glob, and a pattern has to match the
    /// beginning of a name, not all of it: `proj.*` takes `proj.tasks.add`, and `*.add` takes `proj.add_all`.
    ///
    /// # Errors
    /// When the pattern is not one.
    pub fn add(&mut self, pattern: &str, target: Target) -> Result<(), String> {
        let expression = match pattern.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(inner) => Some(format!("^(?:{inner})")),
            None if pattern.contains('*') => {
                Some(format!("^{}", pattern.split('*').map(|part| fancy_regex::escape(part).into_owned()).collect::<Vec<_>>().join(".+?")))
            }
            None => None,
        };
        let matcher = match expression {
            Some(expression) => {
                Matcher::Pattern(Regex::new(&expression).map_err(|error| format!("the route pattern {pattern:?} is not valid: {error}"))?)
            }
            None => Matcher::Exact,
        };
        self.rules.push(Rule { pattern: pattern.to_owned(), matcher, target });
        Ok(())
    }

    /// Where `task` leads to, if anywhere. A pattern that takes too long to match does not match.
    pub fn find(&self, task: &TaskName) -> Option<&Target> {
        let name = task.as_str();
        let exact = self.rules.iter().find(|rule| matches!(rule.matcher, Matcher::Exact) && rule.pattern == name);
        let matching = |rule: &&Rule| matches!(&rule.matcher, Matcher::Pattern(regex) if regex.is_match(name).unwrap_or(false));
        exact.or_else(|| self.rules.iter().find(matching)).map(|rule| &rule.target)
    }
}

/// The route of a call: by the call's own options, then the task's own queue, then the routes, then the default
/// (the order of Celery's documentation, "the destination for a task").
///
/// A queue alone is reached through the nameless exchange, as Celery does for every direct exchange; an exchange counts only
/// together with a routing key.
pub fn route(task: &TaskName, options: &Options, spec: Option<&TaskSpec>, settings: &crate::Settings) -> Route {
    let text = |name: &str| options.get(name).and_then(|value| value.as_str()).filter(|text| !text.is_empty()).map(str::to_owned);
    let named = options.queue().or_else(|| spec.and_then(|spec| spec.queue.clone()));
    // The routes say nothing about a call or a task that names its queue.
    let routed = if named.is_some() { None } else { settings.routes.find(task) };
    let queue = named.or_else(|| routed.and_then(|target| target.queue.as_deref()).map(Into::into));
    let exchange = text("exchange").or_else(|| routed.and_then(|target| target.exchange.clone()));
    let routing_key = text("routing_key").or_else(|| routed.and_then(|target| target.routing_key.clone()));
    match (exchange, routing_key) {
        (Some(exchange), Some(routing_key)) => {
            let queue = queue.unwrap_or_else(|| routing_key.as_str().into());
            Route { queue, exchange, routing_key }
        }
        _ => {
            let queue = queue.unwrap_or_else(|| settings.default_queue.clone());
            Route { routing_key: queue.to_string(), queue, exchange: String::new() }
        }
    }
}

#[cfg(test)]
mod tests;
