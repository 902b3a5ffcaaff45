//! The table of all keys. Order is the order of `config show` and `config init`.

use super::{
    key::Key,
    kind::Kind::{self, *},
};

const DAY: u64 = 86_400;
const YEAR: u64 = 366 * DAY;
const GIB: u64 = 1 << 30;
const LIMIT: Kind = Duration(0, YEAR);

/// Every key there is.
pub static KEYS: &[Key] = &[
    Key::new("app", Text, "The Python application, as `celery -A` takes it. Leave it out for nodes without Python.")
        .flag("--app")
        .short("-A")
        .celery(&["app"]),
    Key::new(
        "python",
        Text,
        "The interpreter the application is installed for. Without it: the active environment, .venv, uv, poetry, PATH.",
    )
    .flag("--python"),
    Key::new("role", Text, "What the node does: all, cpu, io, gpu, beat, dashboard, or a role declared under [roles].")
        .flag("--role")
        .default("all"),
    // Broker and results
    Key::new("broker.url", BrokerUrl, "Where tasks wait.").flag("--broker").short("-b").celery(&["broker_url", "broker_read_url"]).secret(),
    Key::new("broker.queue_type", Choice(&["classic", "quorum"]), "RabbitMQ: the type of queues that are not there yet.")
        .celery(&["task_default_queue_type"])
        .default("classic"),
    Key::new("broker.queue_max_priority", Int(1, 255), "RabbitMQ: the highest priority of queues that are not there yet.")
        .celery(&["task_queue_max_priority"]),
    Key::new("broker.delayed_queue_type", Choice(&["classic", "quorum"]), "RabbitMQ: the type of the queues that delay messages.")
        .celery(&["broker_native_delayed_delivery_queue_type"])
        .default("quorum"),
    Key::new("broker.heartbeat", Duration(1, 3_600), "RabbitMQ: how often both sides say that they are there. What a node holds that is cut off is given to others after two to three of them.").default("5s"),
    // Names and times that the whole fleet has to agree on: Celery's transport options.
    Key::new("broker.visibility_timeout", Duration(1, YEAR), "How long Celery workers leave a message on Redis to the worker that took it; the same in the whole fleet, Celery's workers included.")
        .celery(&["broker_transport_options.visibility_timeout"])
        .default("1h"),
    Key::new("broker.global_keyprefix", Text, "What stands before the broker's keys on Redis.")
        .celery(&["broker_transport_options.global_keyprefix"]),
    Key::new("broker.priority_steps", List, "The steps that priorities 0 to 9 fall into on Redis, each a list of its own; the same in all clients.")
        .celery(&["broker_transport_options.priority_steps"]),
    Key::new("broker.separator", Text, "What stands between a queue's name and a step of priority on Redis, and between the parts of a binding; the same in all clients.")
        .celery(&["broker_transport_options.sep"]),
    Key::new("results.url", ResultsUrl, "Where results are kept. Without it: the broker's own store.")
        .flag("--result-backend")
        .celery(&["result_backend"])
        .secret(),
    Key::new("results.expires", Duration(0, YEAR), "How long results are kept; 0 keeps them for ever.")
        .celery(&["result_expires"])
        .default("1d"),
    Key::new("results.global_keyprefix", Text, "What stands before the keys of results on Redis.")
        .celery(&["result_backend_transport_options.global_keyprefix"]),
    // Queues
    Key::new("queues.default", Text, "The queue of tasks that nothing sends elsewhere.")
        .flag("--default-queue")
        .celery(&["task_default_queue"])
        .default("celery"),
    Key::new("beat.queue", Text, "The queue of scheduled tasks that name none. Without it they take the way of any other call.")
        .celery(&["beat_queue"]),
    Key::new("beat.scheduler", Text, "Where a Python application's scheduled tasks are, if it is to send any: celery.beat:PersistentScheduler is its beat_schedule, django the tables of django-celery-beat.")
        .flag("--scheduler")
        .short("-S")
        .celery(&["beat_scheduler", "worker_scheduler"]),
    Key::new("beat.enabled", Bool, "Whether the node is ready to send scheduled tasks, also where its role does not say so.")
        .flag("--beat")
        .short("-B"),
    // The worker
    Key::new("worker.name", Text, "The node's name. %h is the host name, %n its first part, %d the rest, %% a percent sign.")
        .flag("--hostname")
        .short("-n")
        .celery(&["worker_hostname"])
        .default("celery@%h"),
    Key::new("worker.queues", List, "The queues to take from, whatever the role says.")
        .flag("--queues")
        .short("-Q")
        .celery(&["worker_queues"]),
    Key::new("worker.concurrency", Concurrency, "How many tasks run at a time; auto is the number of CPUs this process may use.")
        .flag("--concurrency")
        .short("-c")
        .celery(&["worker_concurrency"])
        .default("auto"),
    Key::new("worker.prefetch_multiplier", Int(1, 1024), "How many messages are taken ahead, for each task that may run at a time.")
        .flag("--prefetch-multiplier")
        .celery(&["worker_prefetch_multiplier"])
        .default("4"),
    Key::new("worker.time_limit", LIMIT, "How long a task may run before it is ended by force; a task's own limit is stronger.")
        .flag("--time-limit")
        .celery(&["task_time_limit", "worker_time_limit"]),
    Key::new("worker.soft_time_limit", LIMIT, "How long a task may run before it is told to finish.")
        .flag("--soft-time-limit")
        .celery(&["task_soft_time_limit", "worker_soft_time_limit"]),
    Key::new(
        "worker.acks_late",
        Bool,
        "Whether a task whose node dies runs again. Celery's default is false; here nothing is lost by default.",
    )
    .celery(&["task_acks_late"])
    .default("true"),
    Key::new("worker.max_deliveries", Int(1, 10_000), "How often a message is taken without an ending before it becomes a dead letter.")
        .default("20"),
    // What the node tells Celery's tools
    Key::new("events.tasks", Bool, "Whether events of tasks are sent from the start; they can be asked for at any time.")
        .flag("--task-events")
        .short("-E")
        .celery(&["worker_send_task_events"])
        .default("false"),
    Key::new("events.sent", Bool, "Whether an event tells of every scheduled task that is sent: task-sent.")
        .celery(&["task_send_sent_event"])
        .default("false"),
    Key::new("control.enabled", Bool, "Whether the node answers remote control: celery inspect, control, status.")
        .celery(&["worker_enable_remote_control"])
        .default("true"),
    Key::new(
        "control.allow",
        List,
        "Commands of remote control that may change something, such as revoke. Without it: all of them, as in Celery.",
    ),
    // Roles, routes, limits
    Key::new("roles.cpu.queues", List, "The queues of --role cpu. Without it: the default queue's name with .cpu behind it.")
        .celery(&["cpu_queue"]),
    Key::new("roles.io.queues", List, "The queues of --role io. Without it: the default queue's name with .io behind it.")
        .celery(&["io_queue"]),
    Key::new("roles.*.queues", List, "The queues of a role of your own."),
    Key::new("roles.*.concurrency", Concurrency, "How many tasks run at a time in this role. Without it: worker.concurrency, or the number of its devices."),
    Key::new(
        "roles.*.devices",
        List,
        "Devices, such as GPUs, of which each slot gets its own: as CUDA_VISIBLE_DEVICES names them; auto finds them, none is for none. Default: auto for --role gpu, else none.",
    ),
    Key::new(
        "roles.*.executor",
        Choice(&["prefork", "threads", "command"]),
        "The one executor whose tasks the role runs: prefork (the application's, in processes), threads (the application's, on threads of one process), command (the commands under [tasks]; the application is not loaded). Without it: every task the node knows.",
    ),
    Key::new("roles.*.memory", Size(1 << 20, 1 << 50), "How large a Python process of this role may grow before another takes its place, as --max-memory-per-child."),
    Key::new("roles.*.nice", Int(0, 19), "How much the node and all it starts give way to other programs of the machine: 19 takes only CPU time that is left over."),
    Key::new("routes.*", Route, "Where tasks of this name or pattern go. The first pattern that matches wins."),
    Key::new("limits.*.rate", Rate, "How often tasks of this name may start, in the whole cluster."),
    Key::new("limits.*.key", Text, "Counts calls with different keys apart: {0} and {name} stand for arguments."),
    Key::new("limits.*.concurrency", Int(1, 1_000_000), "How many tasks of this name (and key) run at a time, in the whole cluster."),
    Key::new(
        "limits.*.unique",
        Duration(0, YEAR),
        "For how long one task of this name (and key) keeps others away, unless it ends before.",
    ),
    Key::new("limits.*.per_node", Bool, "Whether the rate is counted on each node by itself, as Celery counts it."),
    // Commands
    Key::new(
        "tasks.*.command",
        Words,
        "The command that runs this task. {0}, {name} and {task_id} stand for arguments; the call is JSON on stdin.",
    ),
    Key::new(
        "tasks.*.output",
        Choice(&["auto", "json", "text"]),
        "What stdout holds; auto takes JSON for JSON and anything else for text.",
    ),
    Key::new("tasks.*.output_max", Size(1, GIB), "The most bytes of stdout; more is a failure. Default: 16MiB."),
    Key::new("tasks.*.cwd", Path, "The directory it runs in."),
    Key::new("tasks.*.env", List, "Variables passed on to it, besides PATH, HOME, LANG, LC_ALL, TZ and TMPDIR."),
    Key::new("tasks.*.set_env", Table, "Variables set for it."),
    Key::new("tasks.*.retry_codes", List, "Exit codes that ask for another attempt. Default: 75 (EX_TEMPFAIL)."),
    Key::new("tasks.*.kill_grace", Duration(0, DAY), "How long it has between SIGTERM and SIGKILL. Default: 5s."),
    Key::new("tasks.*.queue", Text, "Where calls go that name no queue."),
    Key::new("tasks.*.max_retries", Int(0, 1_000_000), "Attempts after the first. Default: 3."),
    Key::new("tasks.*.retry_delay", LIMIT, "The delay before another attempt, unless backoff is set. Default: 3m."),
    Key::new("tasks.*.retry_on_failure", Bool, "Whether every failure is retried, not only the exit codes that ask for it."),
    Key::new("tasks.*.backoff", LIMIT, "The first delay of delays that double with each attempt."),
    Key::new("tasks.*.backoff_max", LIMIT, "The longest of those delays. Default: 10m."),
    Key::new("tasks.*.backoff_jitter", Bool, "Whether those delays are drawn at random up to their length. Default: true."),
    Key::new("tasks.*.rate", Rate, "How often it may start, on one node."),
    Key::new("tasks.*.time_limit", LIMIT, "How long it may run before it is killed."),
    Key::new("tasks.*.soft_time_limit", LIMIT, "How long it may run before it gets SIGTERM."),
    Key::new("tasks.*.acks", Choice(&["late", "early"]), "Whether it runs again when its node dies (late), or not (early)."),
    Key::new("tasks.*.ignore_result", Bool, "Whether its result is thrown away."),
    Key::new("tasks.*.concurrency", Int(1, 65_536), "How many of it run at a time on one node. Default: as many as there are slots."),
    // Schedules: what the keys of an entry mean together is decided in `schedules/configured.rs`.
    Key::new("schedules.*.task", Text, "The task to send."),
    Key::new("schedules.*.cron", Text, "When: minute, hour, day of month, month, day of week."),
    Key::new("schedules.*.every", Duration(0, YEAR), "When: at this distance."),
    Key::new("schedules.*.relative", Bool, "Whether times at a distance are rounded down to the clock's day, hour, minute or second."),
    Key::new("schedules.*.at", Text, "When: once, at this time (ISO 8601)."),
    Key::new("schedules.*.solar", Text, "When: by the sun, such as sunrise, sunset or dawn_civil."),
    Key::new("schedules.*.latitude", Any, "Where the sun does it, in degrees north."),
    Key::new("schedules.*.longitude", Any, "Where the sun does it, in degrees east."),
    Key::new("schedules.*.timezone", Text, "The time zone that cron is read in."),
    Key::new("schedules.*.queue", Text, "The queue to send to."),
    Key::new("schedules.*.args", Any, "Positional arguments."),
    Key::new("schedules.*.kwargs", Any, "Keyword arguments."),
    Key::new("schedules.*.options", Any, "Other options of the call."),
    Key::new("schedules.*.enabled", Bool, "Whether it is sent."),
    Key::new("schedules.*.one_off", Bool, "Whether it is over once it has been sent."),
    Key::new("schedules.*.starts", Text, "Not due before (ISO 8601)."),
    Key::new("schedules.*.ends", Text, "Not due after (ISO 8601)."),
    Key::new("schedules.*.jitter", Duration(0, DAY), "Up to how long after its due time it is sent, each time another."),
    Key::new("schedules.*.catch_up_window", Duration(1, YEAR), "How far back catch_up = \"all\" goes. Default: 1h."),
    Key::new("schedules.*.catch_up", Choice(&["skip", "one", "all"]), "What becomes of ticks that fell into an outage."),
    Key::new("timezone", Text, "The time zone of schedules that name none.").celery(&["timezone"]).default("UTC"),
    // HTTP
    Key::new("http.listen", Listen, "Where the node answers HTTP: API, health, metrics. Beyond loopback a token is required.")
        .flag("--listen")
        .default("127.0.0.1:5555"),
    Key::new("http.token", Text, "What HTTP clients must send as a bearer token.").secret(),
    Key::new("dashboard.listen", Listen, "Where the dashboard answers. Without it: where the node does."),
    Key::new("dashboard.token", Text, "What the dashboard asks for. Without it: the node's token.").secret(),
    // Other nodes
    Key::new(
        "cluster.secret",
        Text,
        "What gossip is sealed with, the same on every node. With it nodes gossip beyond this machine, without it on loopback only.",
    )
    .secret(),
    Key::new("cluster.old_secrets", List, "Secrets that are listened to as well, while nodes move from one to another.").secret(),
    Key::new("gossip.off", Bool, "Whether the node does not gossip. Others are then known by their leases in the broker alone.")
        .flag("--without-gossip")
        .default("false"),
    Key::new("gossip.listen", Listen, "Where the node gossips (UDP). Without it: any port, which others learn from the broker.")
        .flag("--gossip-listen"),
    Key::new("gossip.advertise", Text, "What others send gossip to, where that is another address: in containers, behind NAT.")
        .flag("--gossip-advertise"),
    Key::new(
        "gossip.seeds",
        List,
        "Nodes to greet, host:port, besides those that the broker knows of. Names are looked up again and again.",
    )
    .flag("--join"),
    // The node
    Key::new("data.dir", Path, "Where the node keeps what must survive it.").flag("--data-dir"),
    Key::new("drain.timeout", Duration(0, DAY), "How long running tasks may take to finish when the node stops.")
        .flag("--drain-timeout")
        .celery(&["worker_soft_shutdown_timeout"])
        .default("25s"),
    Key::new("log.level", LogLevel, "How much is logged.")
        .flag("--loglevel")
        .short("-l")
        .celery(&["worker_loglevel"])
        .default("info")
        .reload(),
    Key::new("log.format", Choice(&["text", "json"]), "How it is logged.").flag("--log-format").default("text"),
    // Celery
    Key::new("celery.*", Any, "A setting of Celery's by its own name, handed to the Python application."),
];
