//! A node as a process: from the configuration to a running node with its API, and from signals to its end.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    exit::Exit,
    failure::Failure,
    interrupt::Interrupt,
    output::{Screen, note, program},
    place::Place,
    python::Application,
};
use crate::{
    Node, Shutdown,
    brokers::{About, Backbone},
    client::{Client, KnownTasks},
    config::{self, Config, Origin},
    executors::{
        Executor,
        command::CommandExecutor,
        native::NativeExecutor,
        python::{AppReport, AppRoute, PythonExecutor},
    },
    http::{
        Api, Listener, ServeError,
        endpoint::{Endpoint, Written},
        server::Server,
    },
    proto::{QueueName, Value},
    scheduler::{
        Settings,
        routing::{Routes, Target},
    },
    telemetry::{self, LogOptions},
};

/// Ports tried behind the built-in one when it is taken.
const PORTS_TRIED: u16 = 20;

/// How many `async def` tasks of an application run at a time, whatever `-c` says: they wait more than they compute.
const COROUTINES: usize = 100;

/// A node that runs, and its API.
pub(super) struct Running {
    pub(super) node: Node,
    pub(super) address: SocketAddr,
    pub(super) tasks: Vec<String>,
    server: Server,
    python: Option<PythonExecutor>,
    signals: Signals,
    _endpoint: Option<Written>,
}

/// What the process is told. Listened to before anybody is told that the node is ready: until then a signal ends the process.
struct Signals {
    stop: Interrupt,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Failed, "cannot listen for signals", error);
        Ok(Self { stop: Interrupt::listen()?, hang_up: signal(SignalKind::hangup()).map_err(failed)? })
    }
}

/// The settings that decisions depend on.
pub(super) fn settings(config: &Config, app: Option<&AppReport>) -> Result<Settings, Failure> {
    let mut routes = Routes::default();
    for (pattern, target) in &config.routes {
        routes.add(pattern, self::target(&target.value)).map_err(|error| {
            Failure::new(Exit::Usage, "cannot use the route", error).value_from(pattern.clone(), target.origin.to_string())
        })?;
    }
    // Behind the node's own. Celery has checked the patterns; what this engine cannot read of them leads nowhere.
    for (pattern, route) in app.into_iter().flat_map(|app| &app.routes) {
        let AppRoute { queue, exchange, routing_key, priority } = route.clone();
        if let Err(error) = routes.add(pattern, Target { queue, exchange, routing_key, priority }) {
            tracing::warn!(%pattern, "a route of the application is left out: {error}");
        }
    }
    let said = |name: &str| app.and_then(|app| app.setting(name));
    let wants = |name: &str| said(name).and_then(serde_json::Value::as_bool).unwrap_or(false);
    Ok(Settings {
        default_queue: config.default_queue.value.as_str().into(),
        routes,
        max_deliveries: u32::try_from(config.worker.max_deliveries.value).unwrap_or(u32::MAX),
        default_priority: said("task_default_priority").and_then(serde_json::Value::as_u64).and_then(|priority| priority.try_into().ok()),
        inherit_parent_priority: wants("task_inherit_parent_priority"),
        keep_results: app.is_none_or(|app| app.setting("result_backend").is_some() || !is_derived(config)),
        result_extended: wants("result_extended"),
    })
}

/// Whether nobody has said where results go.
fn is_derived(config: &Config) -> bool {
    config.results.as_ref().is_none_or(|results| matches!(results.origin, Origin::Derived(_)))
}

/// A queue's name, or a table; the configuration has checked the shape.
fn target(value: &Value) -> Target {
    let text = |key: &str| value.as_map().and_then(|map| map.get(key)).and_then(Value::as_str).map(str::to_owned);
    let priority = value.as_map().and_then(|map| map.get("priority")).and_then(Value::as_i64);
    Target {
        queue: value.as_str().map(str::to_owned).or_else(|| text("queue")),
        exchange: text("exchange"),
        routing_key: text("routing_key"),
        priority: priority.and_then(|priority| u8::try_from(priority).ok()),
    }
}

/// Starts logging as configured.
pub(super) fn log(config: &Config) -> Result<(), Failure> {
    let wrong = |error: telemetry::LogError, value: &str, origin: &Origin| {
        Failure::new(Exit::Usage, "cannot log with", error).value_from(value, origin.to_string())
    };
    let (level, format) = (&config.log.level, &config.log.format);
    let options = LogOptions {
        level: level.parse().map_err(|error| wrong(error, level, &level.origin))?,
        format: format.parse().map_err(|error| wrong(error, format, &format.origin))?,
        node: config.worker.name.value.as_str().into(),
    };
    telemetry::init(&options).map_err(|error| Failure::new(Exit::Failed, "cannot log", error))
}

/// Starts a node on `backbone`. `native` runs the Rust tasks; `store` is the file of an embedded store.
pub(super) async fn start(
    config: &Config,
    plan: &config::Plan,
    backbone: Backbone,
    native: NativeExecutor,
    store: Option<PathBuf>,
    python: Option<&Application>,
) -> Result<Running, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, "cannot start the node", error);
    let Backbone { broker, backend, ledger } = backbone;
    let settings = settings(config, python.map(|app| &app.report))?;
    let native: Arc<dyn Executor> = Arc::new(native);
    let beat = super::entries::beat(config, plan, python)?;
    let description = super::describe::description(config, python.map(|app| &app.report));
    let python = python.map(|app| app.executor.clone());
    // Python before Rust: `celery.map` has to be where the task is that it maps, and Rust's own has none to call there.
    let mut executors: Vec<Arc<dyn Executor>> = python.iter().map(|python| Arc::new(python.clone()) as Arc<dyn Executor>).collect();
    executors.push(native);
    let coroutines = python.as_ref().and_then(PythonExecutor::coroutines);
    let (commands, warnings) = if plan.runs_commands() { commands(config)? } else { (None, Vec::new()) };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    executors.extend(commands.map(|commands| Arc::new(commands) as Arc<dyn Executor>));
    let mut specs: Vec<_> = executors.iter().flat_map(|executor| executor.tasks()).collect();
    specs.extend(coroutines.iter().flat_map(|coroutines| coroutines.tasks()));
    let devices = super::devices::of(plan);
    let mut builder = Node::builder()
        .name(config.worker.name.value.as_str())
        .queues(plan.queues.iter().cloned())
        .concurrency(super::devices::slots(plan, &devices))
        .devices(devices)
        .prefetch_multiplier(u32::try_from(config.worker.prefetch_multiplier.value).unwrap_or(4))
        .settings(settings.clone())
        .describe(description)
        .backbone(broker.clone(), backend.clone(), ledger.clone());
    for executor in executors {
        builder = builder.executor(executor);
    }
    if let Some(bounds) = plan.autoscale {
        builder = builder.autoscale(bounds);
    }
    builder = builder.limits(super::limits::rules(config)?);
    if let Some(coroutines) = coroutines {
        builder = builder.executor_with(Arc::new(coroutines), COROUTINES);
    }
    if let Some(options) = super::gossip::options(config) {
        builder = builder.gossip(options);
    }
    if let Some(options) = beat {
        builder = builder.beat(options);
    }
    // Listened on before the node takes messages, because it says where when it does.
    let listener = listen(config).await?;
    let about = About { http: Some(listener.address()), ..About::this_process() };
    let node = builder.about(about).start().await.map_err(|error| failed(&error))?;
    let client = Client::new(broker.clone(), backend.clone(), ledger.clone(), Arc::new(settings), KnownTasks::new(specs.iter().cloned()));
    let api = Api::new(client, broker, backend, ledger, Some(node.clone())).scheduling(&config.timezone, beat_queue(config));
    let server = listener.serve(api).map_err(|error| failed(&error))?;
    let address = server.address();
    let token = config.http.token.as_ref().map(|token| token.expose().clone());
    let endpoint = Endpoint { node: node.name().to_string(), pid: std::process::id(), address, token };
    let written = store.map(|file| endpoint.write(&file)).transpose().map_err(|error| failed(&error))?;
    let tasks = specs.iter().map(|spec| spec.name.to_string()).filter(|name| !name.starts_with("celery.")).collect();
    Ok(Running { node, address, tasks, server, python, signals: Signals::listen()?, _endpoint: written })
}

/// `beat.queue`: where scheduled tasks go that name no queue.
pub(super) fn beat_queue(config: &Config) -> Option<QueueName> {
    config.beat_queue.as_ref().map(|queue| QueueName::from(queue.value.as_str()))
}

/// The commands that are configured as tasks, and warnings about those that will fail.
pub(super) fn commands(config: &Config) -> Result<(Option<CommandExecutor>, Vec<String>), Failure> {
    if config.tasks.is_empty() {
        return Ok((None, Vec::new()));
    }
    let env: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let (executor, warnings) = CommandExecutor::from_config(config, &env).map_err(|errors| {
        Failure::new(Exit::Usage, "the configured commands cannot be used", "").lines(errors.0.iter().map(ToString::to_string))
    })?;
    Ok((Some(executor), warnings))
}

/// Listens where the configuration says. The built-in port may be taken by another node of this machine: then the next one is
/// as good; a port somebody asked for is not replaced.
async fn listen(config: &Config) -> Result<Listener, Failure> {
    let listen = &config.http.listen;
    let token = config.http.token.as_ref().map(|token| token.expose().as_str());
    let tries = if listen.origin == Origin::BuiltIn { PORTS_TRIED } else { 0 };
    let mut address = listen.value;
    loop {
        match Listener::bind(address, token).await {
            Ok(listener) => return Ok(listener),
            Err(ServeError::Listen { .. }) if address.port() < listen.port() + tries => address.set_port(address.port() + 1),
            Err(error) => {
                let failure = Failure::new(Exit::Failed, "cannot serve HTTP on", error);
                return Err(failure
                    .value_from(listen.to_string(), listen.origin.to_string())
                    .hint("choose another with --listen 127.0.0.1:0"));
            }
        }
    }
}

impl Running {
    /// Runs until the process is told to stop, or the node ends by itself.
    ///
    /// The first SIGTERM or SIGINT is a warm shutdown within `drain.timeout`, the second a cold one, as Celery has it. SIGHUP
    /// reads the configuration again and tells what changed.
    pub(super) async fn until_told(self, config: &Config, place: &Place, screen: &Screen) -> Result<(), Failure> {
        let Signals { mut stop, mut hang_up } = self.signals;
        let mut told = 0;
        let ended = loop {
            tokio::select! {
                ended = self.node.wait() => break ended,
                _ = hang_up.recv() => reload(config, place),
                _ = stop.told_to_stop() => {
                    told += 1;
                    let grace = config.drain_timeout.value;
                    if told == 1 {
                        note(screen, &format!("stopping: {} finish within {} s; once more to stop at once", "running tasks may", grace.as_secs()));
                        self.node.shutdown(Shutdown::Warm { grace });
                    } else {
                        self.node.shutdown(Shutdown::Cold);
                    }
                }
            }
        };
        self.server.stop().await;
        if let Some(python) = &self.python {
            python.end().await;
        }
        ended.map_err(|error| Failure::new(Exit::Failed, "the node has stopped", error).hint(format!("{} doctor", program())))
    }
}

fn reload(config: &Config, place: &Place) {
    let loaded = match place.load_quietly(Vec::new()) {
        Ok(loaded) => loaded,
        Err(failure) => {
            tracing::error!(%failure, "the configuration was not reloaded");
            return;
        }
    };
    let changes = config::diff(&config.resolved, &loaded.config.resolved);
    for change in &changes.now {
        if change.name.to_string() == "log.level"
            && let Ok(level) = loaded.config.log.level.parse()
            && telemetry::set_level(&level)
        {
            tracing::info!(key = %change.name, value = change.after.as_deref().unwrap_or("built-in"), "reloaded");
        }
    }
    for change in changes.restart {
        tracing::warn!(key = %change.name, "the new value needs a restart");
    }
}

/// How long threads that still work may take when the process ends.
pub(super) const THREADS_MAX: std::time::Duration = std::time::Duration::from_millis(200);

/// The threads of a node.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::Failed, "cannot start threads", error))
}
