//! From a command to its answer: `celery/worker/control.py`.

use umbel_proto::{Map, Value, control::Request, repr};

use super::{
    Desk,
    values::{error, error_repr, map, ok},
};
use crate::control::table::{self, Command, Kind};

impl Desk {
    /// Carries a command out; `None` for one that has no answer.
    pub(super) async fn answer(&self, request: &Request) -> Option<Value> {
        let Some(command) = table::find(&request.method) else {
            let name = repr::repr(&request.method.as_str().into());
            return Some(error(format!("KeyError({name})")));
        };
        if let Err(problem) = check(command, &request.arguments) {
            return Some(error_repr("TypeError", &problem));
        }
        if !self.shared.telling.description.allow.permits(command) {
            tracing::warn!(command = command.name, "refused by remote control: it is not on the list of what is allowed");
            return Some(error(format!("{} is not allowed on this node (control.allow)", command.name)));
        }
        match command.kind {
            Kind::Inspect => tracing::debug!(command = command.name, "asked by remote control"),
            Kind::Control => tracing::info!(command = command.name, arguments = ?names(&request.arguments), "told by remote control"),
        }
        let arguments = &request.arguments;
        Some(match command.name {
            "ping" => ok("pong"),
            "clock" => map([("clock", self.shared.telling.clock.now().into())]),
            "stats" => self.stats().await,
            "report" => ok(self.report()),
            "conf" => self.conf(),
            "memsample" => super::about::memory().map_or(Value::Null, Value::from),
            "memdump" => Value::from(format!("- rss: {}.\n", super::about::memory().unwrap_or_else(|| "(not known)".to_owned()))),
            "objgraph" => error_repr("ImportError", "Requires the objgraph library"),
            "registered" => self.registered(arguments),
            "active_queues" => self.active_queues(),
            "active" => self.active(arguments).await,
            "reserved" => self.reserved().await,
            "scheduled" => self.scheduled().await,
            "query_task" => self.query_task(arguments).await,
            "revoked" => self.revoked(),
            "hello" => self.hello(arguments).await,
            "revoke" => self.revoke(arguments, false).await,
            "terminate" => self.revoke(arguments, true).await,
            "revoke_by_stamped_headers" => self.revoke_by_stamped_headers(arguments).await,
            "rate_limit" => self.rate_limit(request).await,
            "time_limit" => self.time_limit(request).await,
            "add_consumer" => self.add_consumer(arguments),
            "cancel_consumer" => self.cancel_consumer(arguments),
            "pool_grow" => self.resize(arguments, 1),
            "pool_shrink" => self.resize(arguments, -1),
            "pool_restart" => self.pool_restart(),
            "autoscale" => self.autoscale(arguments),
            "enable_events" => self.enable_events(),
            "disable_events" => self.disable_events(),
            "heartbeat" => self.heartbeat(),
            "election" => self.election(arguments),
            "shutdown" => {
                self.shutdown();
                return None;
            }
            other => error_repr("NotImplementedError", other),
        })
    }
}

/// Whether the arguments are those that the command takes, in Python's words if they are not.
fn check(command: &Command, arguments: &Map) -> Result<(), String> {
    let known = |name: &&String| command.required.contains(&name.as_str()) || command.optional.contains(&name.as_str());
    if !command.lenient
        && let Some(unknown) = arguments.keys().find(|name| !known(name))
    {
        return Err(format!("{}() got an unexpected keyword argument '{unknown}'", command.name));
    }
    let missing: Vec<String> =
        command.required.iter().filter(|name| !arguments.contains_key(**name)).map(|name| format!("'{name}'")).collect();
    match missing.len() {
        0 => Ok(()),
        1 => Err(format!("{}() missing 1 required positional argument: {}", command.name, missing[0])),
        count => Err(format!("{}() missing {count} required positional arguments: {}", command.name, missing.join(" and "))),
    }
}

/// The names of arguments, which hold no secret, while their values may.
fn names(arguments: &Map) -> Vec<&str> {
    arguments.keys().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(command: &str, arguments: &[&str]) -> Result<(), String> {
        let arguments = arguments.iter().map(|name| ((*name).to_owned(), Value::Int(1))).collect();
        check(table::find(command).unwrap(), &arguments)
    }

    #[test]
    fn arguments_are_refused_in_pythons_words() {
        assert_eq!(checked("enable_events", &["foo"]).unwrap_err(), "enable_events() got an unexpected keyword argument 'foo'");
        assert_eq!(checked("revoke", &[]).unwrap_err(), "revoke() missing 1 required positional argument: 'task_id'");
        assert!(checked("rate_limit", &[]).unwrap_err().ends_with("2 required positional arguments: 'task_name' and 'rate_limit'"));
        assert!(checked("ping", &["foo"]).is_ok() && checked("revoke", &["task_id", "reply"]).is_ok());
    }
}
