//! Which cluster a verb is about: the flags that say so, and the configuration they lead to.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, note, program},
};
use crate::{
    amqp::{AmqpOptions, QueueType},
    brokers::Backbone,
    config::{self, Config, Loaded, Raw, Url, UrlKind},
    embedded::{OpenError, Store, StoreOptions},
    redis::{Layout, RedisOptions},
};

/// Flags that every verb takes, before it or behind it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which cluster")]
pub(super) struct Place {
    /// The Python application, as `celery -A` takes it
    #[arg(short = 'A', long, global = true, value_name = "APP")]
    app: Option<String>,
    /// Where tasks wait: umbel:///path/to/store, redis://host/0, amqp://host/vhost [env: UMBEL_BROKER_URL, CELERY_BROKER_URL]
    #[arg(short, long, global = true, value_name = "URL")]
    broker: Option<String>,
    /// Where results are kept; without it where tasks wait [env: UMBEL_RESULTS_URL, CELERY_RESULT_BACKEND]
    #[arg(long, global = true, value_name = "URL")]
    result_backend: Option<String>,
    /// Read this file instead of umbel.toml [env: UMBEL_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave .env unread
    #[arg(long, global = true)]
    no_dotenv: bool,
    /// Where a node keeps what must survive it [env: UMBEL_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Ask the node that listens here, whatever the configuration says (its token is UMBEL_HTTP_TOKEN)
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(super) node: Option<std::net::SocketAddr>,
}

impl Place {
    /// The configuration, with `more` flags of the verb's own. Warnings are printed here.
    pub(super) fn load(&self, more: Vec<(String, String)>, screen: &Screen) -> Result<Loaded, Failure> {
        let loaded = self.load_quietly(more)?;
        for warning in &loaded.warnings {
            note(screen, warning);
        }
        Ok(loaded)
    }

    /// The configuration, its warnings left to the caller.
    pub(super) fn load_quietly(&self, more: Vec<(String, String)>) -> Result<Loaded, Failure> {
        self.load_with(more, Vec::new())
    }

    /// The configuration, with what the Python application says of its settings.
    pub(super) fn load_with(&self, more: Vec<(String, String)>, app: Vec<(String, Raw)>) -> Result<Loaded, Failure> {
        let mut flags = more;
        let data_dir = self.data_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        let own = [("--app", &self.app), ("--broker", &self.broker), ("--result-backend", &self.result_backend), ("--data-dir", &data_dir)];
        for (flag, value) in own {
            if let Some(value) = value {
                flags.push((flag.to_owned(), value.clone()));
            }
        }
        config::load(flags, self.config.as_deref(), !self.no_dotenv, app).map_err(|errors| {
            Failure::new(Exit::Usage, "the configuration cannot be used", "")
                .lines(errors.0.iter().map(ToString::to_string))
                .hint(format!("{} config check", program()))
        })
    }
}

/// The file of the store that `node dev` uses.
pub(super) fn dev_store(config: &Config) -> PathBuf {
    config.data_dir.join("dev")
}

/// The file of the embedded store at `url`.
pub(super) fn store_file(config: &Config, url: &Url) -> PathBuf {
    config.embedded_dir(url)
}

/// How long to wait for an embedded store that somebody else has open. Verbs have it for a moment only, and a node that takes
/// over from another may come before that one has gone.
pub(super) const STORE_WITHIN: Duration = Duration::from_secs(5);

/// How often such a store is looked at.
pub(super) const STORE_LOOK: Duration = Duration::from_millis(50);

/// Opens broker, backend and ledger. Blocks: the embedded store is read from disk, and waited for up to `patience`.
pub(super) fn open(config: &Config, broker: &config::Sourced<Url>, patience: Duration) -> Result<Backbone, Failure> {
    match broker.kind {
        UrlKind::Embedded => open_store(config, store_file(config, broker), patience),
        kind => {
            let results = config.results.as_ref().map(|url| url.expose());
            let opened = match kind {
                UrlKind::Amqp => Backbone::amqp(broker.expose(), results, amqp_options(config), redis_options(config)?),
                _ => Backbone::open_with(broker.expose(), results, store_options(config), redis_options(config)?),
            };
            opened.map_err(|error| {
                Failure::new(Exit::Unavailable, "cannot use the broker", error)
                    .value_from(broker.to_string(), broker.origin.to_string())
                    .hint(format!("{} doctor", program()))
            })
        }
    }
}

/// Opens the embedded store in `file`, making it and its folder where there is none.
pub(super) fn open_store(config: &Config, file: PathBuf, patience: Duration) -> Result<Backbone, Failure> {
    let folder = file.parent().unwrap_or(&file);
    let failed = |exit, reason: String| {
        let origin = config.broker.as_ref().map_or_else(|| config.data_dir.origin.to_string(), |broker| broker.origin.to_string());
        Failure::new(exit, "cannot open the store", reason).value_from(file.display().to_string(), origin)
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| failed(Exit::Usage, format!("cannot make its folder: {error}")).hint("name another with --data-dir"))?;
    let began = Instant::now();
    let store: Arc<Store> = loop {
        match Store::open(&file, store_options(config)) {
            Err(OpenError::InUse { .. }) if began.elapsed() < patience => std::thread::sleep(STORE_LOOK),
            Err(OpenError::InUse { .. }) => {
                let reason = "another process has it open and does not answer".to_owned();
                return Err(failed(Exit::Unavailable, reason).hint("stop that process, or use another --data-dir"));
            }
            Err(error) => return Err(failed(Exit::Failed, error.to_string())),
            Ok(store) => break store,
        }
    };
    Backbone::embedded(store).map_err(|error| failed(Exit::Failed, error.to_string()))
}

fn redis_options(config: &Config) -> Result<RedisOptions, Failure> {
    let expires = config.results_expire.value;
    let prefix = |prefix: &Option<config::Sourced<String>>| prefix.as_ref().map(|prefix| prefix.value.clone()).unwrap_or_default();
    let transport = &config.transport;
    let mut layout = Layout { prefix: prefix(&transport.broker_prefix), ..Layout::default() };
    if let Some(steps) = &transport.priority_steps {
        let numbers: Option<Vec<u8>> = steps.value.iter().map(|step| step.parse().ok().filter(|step| *step <= 9)).collect();
        // Without a first step, what has no priority would be in no list.
        layout.steps = numbers.filter(|steps| steps.contains(&0)).ok_or_else(|| {
            Failure::new(Exit::Usage, "cannot use the broker", "its steps of priority are not numbers from 0 to 9, with 0 among them")
                .value_from(steps.value.join(", "), steps.origin.to_string())
                .hint("as Celery's clients have them unless told otherwise: broker.priority_steps = [0, 3, 6, 9]")
        })?;
    }
    if let Some(separator) = &transport.separator {
        layout.separator.clone_from(&separator.value);
    }
    Ok(RedisOptions {
        layout,
        visibility_timeout: transport.visibility_timeout.value,
        result_prefix: prefix(&transport.results_prefix),
        result_expires: (!expires.is_zero()).then_some(expires),
        ..RedisOptions::default()
    })
}

fn amqp_options(config: &Config) -> AmqpOptions {
    let kind = |word: &str| if word == "quorum" { QueueType::Quorum } else { QueueType::Classic };
    let amqp = &config.amqp;
    AmqpOptions {
        queue_type: kind(&amqp.queue_type.value),
        max_priority: amqp.queue_max_priority.as_ref().and_then(|max| u8::try_from(max.value).ok()),
        delayed_type: kind(&amqp.delayed_queue_type.value),
        heartbeat: amqp.heartbeat.value,
        ..AmqpOptions::default()
    }
}

fn store_options(config: &Config) -> StoreOptions {
    let expires = config.results_expire.value;
    StoreOptions { result_expires: (!expires.is_zero()).then_some(expires), ..StoreOptions::default() }
}
