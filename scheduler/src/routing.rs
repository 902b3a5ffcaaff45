//! Which queue a task goes to: `celery/app/routes.py`.

use umbel_proto::{Options, TaskName};

use crate::{Route, TaskSpec};

/// `task_routes`: patterns and where they lead, first match wins.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: String,
    target: Target,
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
    /// # Errors
    /// When the pattern is not one.
    pub fn add(&mut self, _pattern: &str, _target: Target) -> Result<(), String> {
        todo!()
    }
}

/// The route of a call, by the call's own options, then the routes, then the task's own queue, then the default.
pub fn route(_task: &TaskName, _options: &Options, _spec: Option<&TaskSpec>, _settings: &crate::Settings) -> Route {
    todo!()
}
