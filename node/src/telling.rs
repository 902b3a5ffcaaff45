//! What a node says of itself to Celery's tools, and how: its logical clock, whether it tells of tasks, what it is.
//!
//! **What it owns.** A few numbers and switches that outlive the actors that use them: remote control (`actors/control`) and
//! events (`actors/events`) may each be started again without the node forgetting that somebody asked for events.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{broadcast, mpsc, watch};
use umbel_proto::{Event, Map, Value};

use crate::clock;

/// Events of others kept for slow readers.
const HEARD_MAX: usize = 4_096;

/// What the node does of what remote control asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allow {
    /// Everything, as Celery's workers do.
    #[default]
    All,
    /// What only looks, and these.
    Only(Vec<String>),
    /// Nothing: it does not even listen (`worker_enable_remote_control = false`).
    Nothing,
}

impl Allow {
    /// Whether a command may be carried out.
    pub fn permits(&self, command: &crate::control::table::Command) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => command.kind == crate::control::table::Kind::Inspect || names.iter().any(|name| name == command.name),
            Self::Nothing => false,
        }
    }
}

/// What a node is, for those who ask.
#[derive(Debug, Clone)]
pub struct Description {
    /// What it runs for an application, as Celery's report of software begins: `celery:5.7.0 py:3.11.2`; empty without one.
    pub software: String,
    /// Settings by Celery's names, secrets masked.
    pub conf: Map,
    /// The broker: `hostname`, `port`, `transport`, …, as kombu describes a connection; no password.
    pub broker: Map,
    /// What may be done by remote control.
    pub allow: Allow,
    /// Whether events of tasks are sent from the beginning (`-E`, `worker_send_task_events`).
    pub task_events: bool,
    /// Whether an event tells of every scheduled task that is sent (`task_send_sent_event`).
    pub sent_events: bool,
    /// Whether events of tasks of others are read, and not only those of workers.
    pub hears_tasks: bool,
    /// How long what runs may take to finish when the node is told to stop.
    pub drain: Duration,
}

impl Default for Description {
    fn default() -> Self {
        Self {
            software: String::new(),
            conf: Map::new(),
            broker: Map::new(),
            allow: Allow::All,
            task_events: false,
            sent_events: false,
            hears_tasks: true,
            drain: Duration::from_secs(3600),
        }
    }
}

/// An election to be called.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) action: Value,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) clock: Lamport,
    pub(crate) description: Description,
    /// Whether events of tasks are sent.
    pub(crate) tasks: watch::Sender<bool>,
    /// How often a heartbeat was asked for.
    pub(crate) beats: watch::Sender<u64>,
    /// Elections to be called; bounded, as each is a broadcast.
    pub(crate) calls: mpsc::Sender<Call>,
    /// Taken by the actor that sends events, and given back when it ends.
    pub(crate) called: Arc<tokio::sync::Mutex<mpsc::Receiver<Call>>>,
    /// Events of others.
    pub(crate) heard: broadcast::Sender<Arc<Event>>,
    pub(crate) started: Instant,
    leaving: watch::Sender<bool>,
    /// Whether remote control listens.
    listening: watch::Sender<bool>,
}

impl Telling {
    pub(crate) fn new(description: Description) -> Self {
        let (calls, called) = mpsc::channel(16);
        Self {
            clock: Lamport::default(),
            tasks: watch::Sender::new(description.task_events),
            description,
            beats: watch::Sender::new(0),
            calls,
            called: Arc::new(tokio::sync::Mutex::new(called)),
            heard: broadcast::Sender::new(HEARD_MAX),
            started: Instant::now(),
            leaving: watch::Sender::new(false),
            listening: watch::Sender::new(false),
        }
    }

    /// The node goes.
    pub(crate) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Waits until the node goes.
    pub(crate) fn leaving(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut leaving = self.leaving.subscribe();
        Box::pin(async move {
            // An error means that it has gone.
            let _ = leaving.wait_for(|leaving| *leaving).await;
        })
    }

    /// Remote control listens, or does not any more.
    pub(crate) fn listens(&self, listens: bool) {
        self.listening.send_replace(listens);
    }

    /// Waits until remote control listens.
    pub(crate) async fn control_open(&self) {
        let _ = self.listening.subscribe().wait_for(|listens| *listens).await;
    }

    /// Waits until remote control does not listen any more.
    pub(crate) async fn control_closed(&self) {
        let _ = self.listening.subscribe().wait_for(|listens| !*listens).await;
    }
}

/// A logical clock (wire contract §7.2): it ticks with what is sent and never falls behind what is heard.
#[derive(Debug, Default)]
pub(crate) struct Lamport(AtomicI64);

impl Lamport {
    /// One more, for what is sent.
    pub(crate) fn forward(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One more than what was heard and than what it was. A clock far in the future is somebody's fault and is not followed.
    pub(crate) fn adjust(&self, heard: i64) -> i64 {
        const LEAP_MAX: i64 = i64::MAX / 4;
        let heard = if heard > LEAP_MAX { 0 } else { heard };
        let adjust = |own: i64| Some(own.max(heard) + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, adjust).unwrap_or_default().max(heard) + 1
    }

    /// What it shows.
    pub(crate) fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Seconds since 1970.
pub(crate) fn timestamp() -> f64 {
    clock::now() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logical_clock_never_goes_back() {
        let clock = Lamport::default();
        assert_eq!((clock.forward(), clock.forward(), clock.now()), (1, 2, 2));
        assert_eq!((clock.adjust(10), clock.now()), (11, 11));
        assert_eq!(clock.adjust(3), 12);
        assert_eq!(clock.adjust(i64::MAX), 13, "nobody can make it overflow");
        assert_eq!(clock.forward(), 14);
    }

    #[test]
    fn an_allow_list_leaves_looking_open() {
        let command = |name| crate::control::table::find(name).unwrap();
        let allow = Allow::Only(vec!["revoke".to_owned()]);
        assert!(allow.permits(command("stats")) && allow.permits(command("revoke")) && !allow.permits(command("shutdown")));
        assert!(Allow::All.permits(command("shutdown")) && !Allow::Nothing.permits(command("ping")));
    }
}
