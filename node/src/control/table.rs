//! The commands of remote control: `celery/worker/control.py`, as their names, arguments and one line of help.

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It looks: `celery inspect`.
    Inspect,
    /// It changes something: `celery control`.
    Control,
}

/// How a word of a command line becomes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// As it is.
    Text,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// `true`, `yes`, `on`, `1` or their opposites (`strtobool`).
    Bool,
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its older name.
    pub alias: Option<&'static str>,
    /// What it does.
    pub kind: Kind,
    /// Whether lists show it.
    pub visible: bool,
    /// The arguments it cannot do without.
    pub required: &'static [&'static str],
    /// The arguments it knows beside those.
    pub optional: &'static [&'static str],
    /// Whether it takes no notice of others (Python's `**kwargs`).
    pub lenient: bool,
    /// Words of a command line, in order.
    pub words: &'static [(&'static str, Word)],
    /// The argument that takes all further words.
    pub variadic: Option<&'static str>,
    /// What its words are, for help.
    pub signature: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
}

const INSPECT: Command = Command {
    name: "",
    alias: None,
    kind: Kind::Inspect,
    visible: true,
    required: &[],
    optional: &[],
    lenient: true,
    words: &[],
    variadic: None,
    signature: "",
    help: "",
};

const CONTROL: Command = Command { kind: Kind::Control, ..INSPECT };

/// All of them, by name.
pub const COMMANDS: &[Command] = &[
    Command { name: "active", alias: Some("dump_active"), optional: &["safe"], help: "List of tasks currently being executed.", ..INSPECT },
    Command { name: "active_queues", lenient: false, help: "List the task queues a worker is currently consuming from.", ..INSPECT },
    Command {
        name: "add_consumer",
        required: &["queue"],
        optional: &["exchange", "exchange_type", "routing_key"],
        words: &[("queue", Word::Text), ("exchange", Word::Text), ("exchange_type", Word::Text), ("routing_key", Word::Text)],
        signature: "<queue> [exchange [type [routing_key]]]",
        help: "Tell worker(s) to consume from task queue by name.",
        ..CONTROL
    },
    Command {
        name: "autoscale",
        optional: &["max", "min"],
        lenient: false,
        words: &[("max", Word::Int), ("min", Word::Int)],
        signature: "[max [min]]",
        help: "Modify autoscale settings.",
        ..CONTROL
    },
    Command {
        name: "cancel_consumer",
        required: &["queue"],
        words: &[("queue", Word::Text)],
        signature: "<queue>",
        help: "Tell worker(s) to stop consuming from task queue by name.",
        ..CONTROL
    },
    Command { name: "clock", help: "Get current logical clock value.", ..INSPECT },
    Command {
        name: "conf",
        alias: Some("dump_conf"),
        optional: &["with_defaults"],
        words: &[("with_defaults", Word::Bool)],
        signature: "[include_defaults=False]",
        help: "List configuration.",
        ..INSPECT
    },
    Command { name: "disable_events", lenient: false, help: "Tell worker(s) to stop sending task-related events.", ..CONTROL },
    Command { name: "election", required: &["id", "topic"], optional: &["action"], help: "Hold election.", ..CONTROL },
    Command { name: "enable_events", lenient: false, help: "Tell worker(s) to send task-related events.", ..CONTROL },
    Command { name: "heartbeat", lenient: false, help: "Tell worker(s) to send event heartbeat immediately.", ..CONTROL },
    Command {
        name: "hello",
        visible: false,
        required: &["from_node"],
        optional: &["revoked"],
        help: "Request mingle sync-data.",
        ..INSPECT
    },
    Command {
        name: "memdump",
        optional: &["samples"],
        words: &[("samples", Word::Int)],
        signature: "[n_samples=10]",
        help: "Dump statistics of previous memsample requests.",
        ..INSPECT
    },
    Command { name: "memsample", help: "Sample current RSS memory usage.", ..INSPECT },
    Command {
        name: "objgraph",
        optional: &["num", "max_depth", "type"],
        lenient: false,
        words: &[("type", Word::Text), ("num", Word::Int), ("max_depth", Word::Int)],
        signature: "[object_type=Request] [num=200 [max_depth=10]]",
        help: "Create graph of uncollected objects (memory-leak debugging).",
        ..INSPECT
    },
    Command { name: "ping", help: "Ping worker(s).", ..INSPECT },
    Command {
        name: "pool_grow",
        optional: &["n"],
        words: &[("n", Word::Int)],
        signature: "[N=1]",
        help: "Grow pool by n processes/threads.",
        ..CONTROL
    },
    Command { name: "pool_restart", optional: &["modules", "reload", "reloader"], help: "Restart execution pool.", ..CONTROL },
    Command {
        name: "pool_shrink",
        optional: &["n"],
        words: &[("n", Word::Int)],
        signature: "[N=1]",
        help: "Shrink pool by n processes/threads.",
        ..CONTROL
    },
    Command {
        name: "query_task",
        required: &["ids"],
        variadic: Some("ids"),
        signature: "[id1 [id2 [... [idN]]]]",
        help: "Query for task information by id.",
        ..INSPECT
    },
    Command {
        name: "rate_limit",
        required: &["task_name", "rate_limit"],
        words: &[("task_name", Word::Text), ("rate_limit", Word::Text)],
        signature: "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
        help: "Tell worker(s) to modify the rate limit for a task by type.",
        ..CONTROL
    },
    Command {
        name: "registered",
        alias: Some("dump_tasks"),
        optional: &["taskinfoitems", "builtins"],
        variadic: Some("taskinfoitems"),
        signature: "[attr1 [attr2 [... [attrN]]]]",
        help: "List of registered tasks.",
        ..INSPECT
    },
    Command { name: "report", lenient: false, help: "Information about Celery installation for bug reports.", ..INSPECT },
    Command {
        name: "reserved",
        alias: Some("dump_reserved"),
        help: "List of currently reserved tasks, not including scheduled/active.",
        ..INSPECT
    },
    Command {
        name: "revoke",
        required: &["task_id"],
        optional: &["terminate", "signal"],
        variadic: Some("task_id"),
        signature: "[id1 [id2 [... [idN]]]]",
        help: "Revoke task by task id (or list of ids).",
        ..CONTROL
    },
    Command {
        name: "revoke_by_stamped_headers",
        required: &["headers"],
        optional: &["terminate", "signal"],
        variadic: Some("headers"),
        signature: "[key1=value1 [key2=value2 [... [keyN=valueN]]]]",
        help: "Revoke task by header (or list of headers).",
        ..CONTROL
    },
    Command { name: "revoked", alias: Some("dump_revoked"), help: "List of revoked task-ids.", ..INSPECT },
    Command { name: "scheduled", alias: Some("dump_schedule"), help: "List of currently scheduled ETA/countdown tasks.", ..INSPECT },
    Command { name: "shutdown", optional: &["msg"], help: "Shutdown worker(s).", ..CONTROL },
    Command { name: "stats", help: "Request worker statistics/information.", ..INSPECT },
    Command {
        name: "terminate",
        required: &["signal", "task_id"],
        words: &[("signal", Word::Text)],
        variadic: Some("task_id"),
        signature: "<signal> [id1 [id2 [... [idN]]]]",
        help: "Terminate task by task id (or list of ids).",
        ..CONTROL
    },
    Command {
        name: "time_limit",
        optional: &["task_name", "hard", "soft"],
        words: &[("task_name", Word::Text), ("soft", Word::Float), ("hard", Word::Float)],
        signature: "<task_name> <soft_secs> [hard_secs]",
        help: "Tell worker(s) to modify the time limit for task by type.",
        ..CONTROL
    },
];

/// The command of that name or older name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name || command.alias == Some(name))
}

/// Those that lists show.
pub fn listed(kind: Kind) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(move |command| command.kind == kind && command.visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted_and_found_by_either_name() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        assert_eq!(find("dump_tasks").map(|command| command.name), Some("registered"));
        assert!(find("no_such_command").is_none());
        assert!(listed(Kind::Inspect).all(|command| command.name != "hello"));
        for command in COMMANDS {
            let known = |name: &&str| command.required.contains(name) || command.optional.contains(name);
            assert!(command.words.iter().map(|(name, _)| name).chain(&command.variadic).all(known), "{}", command.name);
            assert!(!command.help.is_empty());
        }
    }
}
