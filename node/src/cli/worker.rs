//! `node worker` (also `node --role …` and `node -Q …`): a node that takes work until it is told to stop.

use clap::Args as ClapArgs;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, note, program},
    place::{self, Place},
    python, role, serve,
};
use crate::{
    NativeExecutor,
    config::{Config, Plan, UrlKind},
    executors::python::AppReport,
    scheduler::devices::Devices,
};

/// Run tasks: take them from the broker until told to stop
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// What the node does: all, cpu, io, gpu, beat, dashboard, or a role declared in umbel.toml under [roles.NAME] with queues,
    /// concurrency, executor, devices, memory, nice
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Send scheduled tasks as well, whatever the role says
    #[arg(short = 'B', long)]
    beat: bool,
    /// With --beat: where the application's entries are, as with node beat -S
    #[arg(long, value_name = "SCHEDULER")]
    scheduler: Option<String>,
    /// The queues to take from, whatever the role says; several are separated by commas
    #[arg(short = 'Q', long, value_name = "QUEUES")]
    queues: Option<String>,
    /// How many tasks run at a time; auto is the number of CPUs this process may use
    #[arg(short, long, value_name = "N")]
    concurrency: Option<String>,
    /// The node's name: %h is the host name, %n its first part, %d the rest
    #[arg(short = 'n', long, value_name = "NAME")]
    hostname: Option<String>,
    /// How many messages are taken ahead, for each task that may run at a time
    #[arg(long, value_name = "N")]
    prefetch_multiplier: Option<String>,
    /// The queue of tasks that nothing sends elsewhere
    #[arg(long, value_name = "QUEUE")]
    default_queue: Option<String>,
    /// How long a task may run before it is ended by force, where it has no limit of its own
    #[arg(long, value_name = "DURATION")]
    time_limit: Option<String>,
    /// How long a task may run before it is told to finish, where it has no limit of its own
    #[arg(long, value_name = "DURATION")]
    soft_time_limit: Option<String>,
    /// How long running tasks may take to finish when the node stops
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// Where to answer HTTP; beyond loopback a token is required
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Greet these nodes, host:port, besides those that the broker knows of; several are separated by commas
    #[arg(long, value_name = "NODES")]
    join: Option<String>,
    /// Where to gossip (UDP); beyond loopback a cluster secret is required [env: UMBEL_CLUSTER_SECRET]
    #[arg(long, value_name = "HOST:PORT")]
    gossip_listen: Option<String>,
    /// What other nodes send gossip to, where that is another address
    #[arg(long, value_name = "HOST:PORT")]
    gossip_advertise: Option<String>,
    /// Do not gossip: other nodes are known by their leases alone
    #[arg(long)]
    without_gossip: bool,
    /// How much is logged: debug, info, warning, error
    #[arg(short, long, value_name = "LEVEL")]
    loglevel: Option<String>,
    /// How it is logged: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    #[command(flatten)]
    python: python::Flags,
    #[command(flatten)]
    celery: Celery,
}

/// Flags of `celery worker` that change nothing here. They are accepted, so that a command line can stay as it is, and each
/// one is answered with what happens instead.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Accepted for Celery's sake")]
struct Celery {
    /// How Python tasks run: prefork (processes) or threads, by default as worker_pool says; gevent and eventlet are taken for threads
    #[arg(short = 'P', long, value_name = "POOL")]
    pool: Option<String>,
    /// Send events of tasks from the start
    #[arg(short = 'E', long)]
    task_events: bool,
    /// Scheduling is always fair
    #[arg(short = 'O', value_name = "PROFILE")]
    optimization: Option<String>,
    /// There is no mingling that could be left out
    #[arg(long)]
    without_mingle: bool,
    /// A lease takes the place of heartbeats
    #[arg(long)]
    without_heartbeat: bool,
}

impl Args {
    /// The flags that are keys of the configuration.
    pub(super) fn flags(&self) -> Vec<(String, String)> {
        let without_gossip = self.without_gossip.then(|| "true".to_owned());
        let flags = [
            ("--role", &self.role),
            ("--scheduler", &self.scheduler),
            ("--queues", &self.queues),
            ("--concurrency", &self.concurrency),
            ("--hostname", &self.hostname),
            ("--prefetch-multiplier", &self.prefetch_multiplier),
            ("--default-queue", &self.default_queue),
            ("--time-limit", &self.time_limit),
            ("--soft-time-limit", &self.soft_time_limit),
            ("--drain-timeout", &self.drain_timeout),
            ("--listen", &self.listen),
            ("--join", &self.join),
            ("--gossip-listen", &self.gossip_listen),
            ("--gossip-advertise", &self.gossip_advertise),
            ("--without-gossip", &without_gossip),
            ("--loglevel", &self.loglevel),
            ("--log-format", &self.log_format),
            ("--task-events", &self.celery.task_events.then(|| "true".to_owned())),
        ];
        let beat = self.beat.then(|| ("--beat".to_owned(), "true".to_owned()));
        let flags = flags.into_iter().chain(self.python.keys());
        flags.filter_map(|(flag, value)| Some((flag.to_owned(), value.clone()?))).chain(beat).collect()
    }

    /// What to say about flags that change nothing.
    pub(super) fn remarks(&self, app: bool) -> Vec<String> {
        let celery = &self.celery;
        let pool = celery.pool.as_deref().and_then(|pool| python::remark("--pool", pool, app));
        let said = [
            (celery.optimization.is_some(), "-O changes nothing: a task goes to a slot that is free"),
            (celery.without_mingle, "--without-mingle changes nothing: a node asks nobody before it starts"),
            (celery.without_heartbeat, "--without-heartbeat changes nothing: a node holds by a lease"),
        ];
        pool.into_iter().chain(said.into_iter().filter(|(given, _)| *given).map(|(_, remark)| remark.to_owned())).collect()
    }
}

pub(super) fn run(args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    run_with(&args.flags(), &|app| args.remarks(app), &args.python, args.celery.pool.as_deref(), place, screen)
}

/// Runs a node with these flags of the configuration. Remarks, which depend on whether there is a Python application, are
/// printed once its log has begun.
pub(super) fn run_with(
    flags: &[(String, String)],
    remarks: &dyn Fn(bool) -> Vec<String>,
    python: &python::Flags,
    pool: Option<&str>,
    place: &Place,
    screen: &Screen,
) -> Result<(), Failure> {
    let mut config = place.load(flags.to_vec(), screen)?.config;
    let role = crate::config::plan(&config).map_err(|error| Failure::new(Exit::Usage, "cannot start the node", error))?;
    role::give_way(&role, screen);
    role::has_what_it_runs(&role, &config)?;
    let runtime = serve::runtime()?;
    let mut app = None;
    if let Some(name) = config.app.clone().filter(|_| role.runs_python()) {
        serve::log(&config)?;
        let loaded = runtime.block_on(python::load(&config, &name, python, pool, screen))?;
        config = place.load_with(flags.to_vec(), python::settings(&loaded.report))?.config;
        python::secure(&mut config, &loaded.report).map_err(|(setting, error)| {
            Failure::new(Exit::Usage, "cannot start the node", error)
                .value_from(setting.to_owned(), format!("the application {}", name.value))
        })?;
        if !loaded.report.knows_backend {
            // The application's own backend has the results; the node keeps its own books where its messages are.
            config.results = config.broker.clone();
        }
        app = Some(loaded);
    }
    let mut plan = crate::config::plan(&config).map_err(|error| Failure::new(Exit::Usage, "cannot start the node", error))?;
    plan.autoscale = python.autoscale;
    if let Some(app) = app.as_ref().filter(|_| !plan.queues.is_empty()) {
        plan.take_from(&app.report.own_queues);
    }
    let Some(broker) = config.broker.clone() else {
        let failure = Failure::new(Exit::Usage, "cannot start the node", "no broker is configured");
        return Err(failure
            .hint(format!("{0} worker -b umbel:///var/lib/umbel/store, set CELERY_BROKER_URL, or try it out with {0} dev", program())));
    };
    if plan.queues.is_empty() && !plan.beat {
        let failure =
            Failure::new(Exit::Usage, "cannot start the node", "this role runs no tasks, and this version does nothing else in it");
        return Err(failure
            .value_from(config.role.value.clone(), config.role.origin.to_string())
            .hint("choose --role all, cpu, io, gpu, or your own"));
    }
    if app.is_none() {
        serve::log(&config)?;
    }
    let devices = super::devices::of(&plan);
    let slots = plan.autoscale.map_or_else(|| super::devices::slots(&plan, &devices), |bounds| bounds.max);
    for remark in remarks(app.is_some()).into_iter().chain(super::devices::remark(&plan, &devices, slots)) {
        note(screen, &remark);
    }
    let store = (broker.kind == UrlKind::Embedded).then(|| place::store_file(&config, &broker));
    // A broker on a server connects in the background, on the runtime's threads.
    let within = runtime.enter();
    let backbone = place::open(&config, &broker, place::STORE_WITHIN)?;
    drop(within);
    let done = runtime.block_on(async {
        let running = serve::start(&config, &plan, backbone, NativeExecutor::builder().build(), store, app.as_ref()).await?;
        banner(&config, &plan, &broker.to_string(), &running, app.as_ref(), screen);
        if let Some(app) = &app {
            app.executor.serves(running.node.broker_link());
        }
        running.until_told(&config, place, screen).await
    });
    runtime.shutdown_timeout(serve::THREADS_MAX);
    done
}

fn slots(plan: &Plan, devices: &Devices) -> String {
    match plan.autoscale {
        Some(bounds) => format!("{} to {}, as many as there is work for", bounds.min, bounds.max),
        None => super::devices::slots(plan, devices).to_string(),
    }
}

fn banner(config: &Config, plan: &Plan, broker: &str, running: &serve::Running, app: Option<&python::Application>, screen: &Screen) {
    let queues: Vec<&str> = plan.queues.iter().map(|queue| queue.as_str()).collect();
    let results = config.results.as_ref().map_or_else(|| "none".to_owned(), |url| url.to_string());
    let name = running.node.name();
    let devices = super::devices::of(plan);
    let python = app.map(|app| {
        let AppReport { python, celery, .. } = &app.report;
        format!("python     {python}, celery {celery}   {}", app.interpreter)
    });
    let lines = [
        format!("umbel {}   worker  {name}", env!("CARGO_PKG_VERSION")),
        format!("broker     {broker}   ({})", config.broker.as_ref().map_or_else(String::new, |url| url.origin.to_string())),
        format!("results    {results}"),
        format!("http       http://{}", running.address),
        format!(
            "queues     {}",
            if queues.is_empty() { "none: this node only sends scheduled tasks".to_owned() } else { queues.join("  ") }
        ),
        format!("slots      {}", slots(plan, &devices)),
        format!("tasks      {}", if running.tasks.is_empty() { "none but the built-in ones".to_owned() } else { running.tasks.join("  ") }),
        format!("{name} ready."),
    ];
    let [first, rest @ ..] = lines;
    let lines: Vec<String> =
        [first].into_iter().chain(python).chain(super::devices::line(&devices)).chain(rest).map(|line| format!("  {line}")).collect();
    super::output::say(screen, &lines.join("\n"));
}
