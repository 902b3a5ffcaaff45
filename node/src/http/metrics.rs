//! `/metrics`: the `umbel_*` families in Prometheus' text format.
//!
//! The numbers are the counters of [`crate::facts`] and the reports of the actors, so that metrics, events and reports cannot
//! disagree. Cluster-wide families (queues, dead letters) come from the broker: scrape them from one node only, or sum by `max`.

use std::fmt::Write as _;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::Api;
use crate::{
    actors::report::{BeatReport, NodeReport},
    brokers::QueueStatus,
    facts::{Counters, Histogram, Kind},
    schedules::Book,
};

pub(super) async fn scrape(State(api): State<Api>) -> Response {
    let mut text = Exposition::default();
    text.family("umbel_build_info", "gauge", "The version of this node.");
    text.sample("umbel_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    if let Some(node) = &api.node {
        tasks(&mut text, node.facts().counters());
    }
    if let Some(report) = api.report().await {
        node(&mut text, &report);
    }
    if let Some(Ok(book)) = match api.broker.schedules() {
        Some(schedules) => Some(schedules.book().await),
        None => None,
    } {
        self::schedules(&mut text, &api, &book);
    }
    // While the broker is away its families are absent, and `umbel_broker_up` says why.
    if let Ok(queues) = api.broker.queues().await {
        self::queues(&mut text, &queues, crate::clock::now());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0).into_response()
}

fn tasks(text: &mut Exposition, counters: &Counters) {
    text.family("umbel_task_events_total", "counter", "What happened to tasks, by task and kind.");
    for (task, counters) in counters.tasks() {
        for kind in Kind::ALL {
            let labels = [("name", task.map_or("", |task| task.as_str())), ("kind", kind.as_str())];
            text.sample("umbel_task_events_total", &labels, counters.get(kind) as f64);
        }
    }
    text.family("umbel_task_runtime_seconds", "histogram", "How long tasks ran.");
    for (task, counters) in counters.tasks() {
        histogram(text, "umbel_task_runtime_seconds", task.map_or("", |task| task.as_str()), counters.runtime());
    }
}

fn histogram(text: &mut Exposition, family: &str, task: &str, histogram: &Histogram) {
    let bounds = Histogram::BOUNDS_SECS.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
    let cumulative = histogram.cumulative();
    for (bound, below) in bounds.zip(&cumulative) {
        text.sample(&format!("{family}_bucket"), &[("name", task), ("le", &bound)], *below as f64);
    }
    text.sample(&format!("{family}_sum"), &[("name", task)], histogram.sum_secs());
    text.sample(&format!("{family}_count"), &[("name", task)], cumulative.last().copied().unwrap_or(0) as f64);
}

fn node(text: &mut Exposition, report: &NodeReport) {
    let name = report.node.as_str();
    let mut gauge = |family: &str, help: &str, value: f64| {
        text.family(family, "gauge", help);
        text.sample(family, &[("node", name)], value);
    };
    gauge("umbel_broker_up", "Whether the broker answers.", f64::from(u8::from(report.broker.is_up())));
    gauge("umbel_ledger_up", "Whether the ledger answers.", f64::from(u8::from(report.ledger.is_up())));
    gauge("umbel_prefetch_in_use", "Messages this node holds.", f64::from(report.credits.in_use));
    gauge("umbel_prefetch_total", "Messages this node may hold.", f64::from(report.credits.total));
    gauge("umbel_tasks_running", "Tasks that run now.", report.running().count() as f64);
    let slots: usize = report.pools.iter().flatten().map(|pool| pool.slots).sum();
    gauge("umbel_slots", "Tasks that can run at once.", slots as f64);
    gauge(
        "umbel_draining",
        "Whether the node takes no more work.",
        f64::from(u8::from(report.phase == crate::actors::report::Phase::Draining)),
    );
    if let Some(report) = &report.beat {
        beat(text, report, name);
    }
    text.family("umbel_actor_restarts_total", "counter", "How often parts of the pipeline were started again.");
    for (actor, restarts) in &report.restarts {
        text.sample("umbel_actor_restarts_total", &[("node", name), ("actor", actor)], *restarts as f64);
    }
}

fn beat(text: &mut Exposition, report: &BeatReport, node: &str) {
    let mut gauge = |family: &str, help: &str, value: Option<f64>| {
        text.family(family, "gauge", help);
        if let Some(value) = value {
            text.sample(family, &[("node", node)], value);
        }
    };
    let secs = |millis: i64| millis as f64 / 1_000.0;
    gauge("umbel_beat_leader", "Whether this node sends the scheduled tasks.", Some(f64::from(u8::from(report.leads))));
    gauge("umbel_beat_last_tick_timestamp_seconds", "When this node last sent a scheduled task.", report.last_tick.map(secs));
    gauge("umbel_beat_lag_seconds", "How long after its due time that was.", report.lag_ms.map(secs));
    gauge(
        "umbel_beat_next_run_timestamp_seconds",
        "When the next scheduled task is due; of the node that sends them.",
        report.next.map(secs),
    );
    gauge(
        "umbel_beat_tables_up",
        "Whether the tables of django-celery-beat answer, where this node reads them.",
        report.reads_tables.then_some(f64::from(u8::from(report.tables_outage.is_none()))),
    );
    gauge(
        "umbel_beat_foreign_timestamp_seconds",
        "When a beat of Celery's was last noticed beside this cluster's.",
        report.foreign.as_ref().map(|foreign| secs(foreign.at)),
    );
    text.family("umbel_beat_ticks_total", "counter", "Scheduled tasks that were sent, and due times that were missed for good.");
    text.sample("umbel_beat_ticks_total", &[("node", node), ("action", "sent")], report.sent as f64);
    text.sample("umbel_beat_ticks_total", &[("node", node), ("action", "skipped")], report.skipped as f64);
    text.family("umbel_beat_broken_entries", "gauge", "Entries that cannot be understood.");
    text.sample("umbel_beat_broken_entries", &[("node", node)], report.broken.len() as f64);
}

/// The most schedules that are told of one by one.
const SCHEDULES_MAX: usize = 1_000;

fn schedules(text: &mut Exposition, api: &Api, book: &Book) {
    text.family("umbel_schedule_next_run_timestamp_seconds", "gauge", "When an entry is sent next; of the first thousand by name.");
    for kept in book.entries.iter().take(SCHEDULES_MAX) {
        if let Ok(Some(next)) = super::schedules::next_of(api, &kept.entry, &kept.mark, book.now) {
            text.sample("umbel_schedule_next_run_timestamp_seconds", &[("name", &kept.entry.name)], next as f64 / 1_000.0);
        }
    }
}

fn queues(text: &mut Exposition, queues: &[QueueStatus], now: i64) {
    type Read = fn(&QueueStatus, i64) -> f64;
    let families: [(&str, &str, Read); 6] = [
        ("umbel_queue_ready", "Messages that wait.", |queue, _| queue.ready as f64),
        ("umbel_queue_unacked", "Messages held by nodes.", |queue, _| queue.held as f64),
        ("umbel_queue_scheduled", "Messages that wait for their time.", |queue, _| queue.scheduled as f64),
        ("umbel_queue_oldest_age_seconds", "Age of the message that has waited longest; 0 when none waits.", |queue, now| {
            queue.oldest.map_or(0.0, |oldest| (now - oldest).max(0) as f64 / 1_000.0)
        }),
        ("umbel_queue_consumers", "Nodes that take from the queue.", |queue, _| f64::from(queue.consumers)),
        ("umbel_queue_paused", "Whether the queue is paused.", |queue, _| f64::from(u8::from(queue.paused))),
    ];
    for (family, help, read) in families {
        text.family(family, "gauge", help);
        for queue in queues {
            text.sample(family, &[("queue_name", queue.name.as_str())], read(queue, now));
        }
    }
}

/// The text format: families, then samples.
#[derive(Debug, Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{escaped}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_histograms_cumulative() {
        let mut text = Exposition::default();
        text.sample("x", &[("name", "a\"b\\c\nd")], 2.0);
        text.sample("y", &[], 0.5);
        assert_eq!(text.0, "x{name=\"a\\\"b\\\\c\\nd\"} 2\ny 0.5\n");
    }
}
