//! What a node tells of its settings to those who ask by remote control: under Celery's names, and without secrets.

use umbel_proto::{Map, Value};

use crate::{
    config::{self, Config, Url, UrlKind},
    executors::python::AppReport,
    telling::{Allow, Description},
};

/// The description of a node with this configuration, and with the settings of its application.
pub(super) fn description(config: &Config, app: Option<&AppReport>) -> Description {
    let allow = match (config.control.enabled.value, &config.control.allow) {
        (false, _) => Allow::Nothing,
        (true, None) => Allow::All,
        (true, Some(names)) => Allow::Only(names.value.clone()),
    };
    Description {
        software: app.map(|app| format!("celery:{} py:{} ", app.celery, app.python)).unwrap_or_default(),
        conf: conf(config, app),
        broker: config.broker.as_ref().map(|url| broker(url)).unwrap_or_default(),
        allow,
        task_events: config.task_events.value,
        sent_events: config.sent_events.value,
        hears_tasks: true,
        drain: config.drain_timeout.value,
    }
}

fn conf(config: &Config, app: Option<&AppReport>) -> Map {
    let own = app.and_then(|app| Value::from_serialize(&app.conf).ok());
    let mut conf = own.as_ref().and_then(Value::as_map).cloned().unwrap_or_default();
    let mut set = |name: &str, value: Value| conf.insert(name.to_owned(), value);
    set("broker_url", config.broker.as_ref().map_or(Value::Null, |url| url.to_string().into()));
    set("result_backend", config.results.as_ref().map_or(Value::Null, |url| url.to_string().into()));
    set("result_expires", Value::Int(i64::try_from(config.results_expire.as_secs()).unwrap_or(i64::MAX)));
    set("task_default_queue", config.default_queue.value.as_str().into());
    set("task_acks_late", Value::Bool(config.worker.acks_late.value));
    set("worker_prefetch_multiplier", Value::Int(config.worker.prefetch_multiplier.value));
    set("worker_send_task_events", Value::Bool(config.task_events.value));
    set("task_send_sent_event", Value::Bool(config.sent_events.value));
    set("worker_enable_remote_control", Value::Bool(config.control.enabled.value));
    set("timezone", config.timezone.value.as_str().into());
    for (name, value) in &config.celery {
        set(name, value.value.clone());
    }
    for (name, value) in &mut conf {
        *value = config::masked(name, value);
    }
    conf
}

/// A broker as kombu's `Connection.info` describes it.
fn broker(url: &Url) -> Map {
    let (host, port) = url.host().map_or((Value::Null, Value::Null), |(host, port)| (host.into(), Value::Int(port.into())));
    let transport = match url.kind {
        UrlKind::Redis => "redis",
        UrlKind::Embedded => "umbel",
        _ => "amqp",
    };
    let path = url.path.trim_start_matches('/');
    let virtual_host = if path.is_empty() && transport == "redis" { "0" } else { path };
    let pairs: [(&str, Value); 15] = [
        ("hostname", host),
        ("userid", Value::Null),
        ("virtual_host", virtual_host.into()),
        ("port", port),
        ("insist", false.into()),
        ("ssl", url.is_tls().into()),
        ("transport", transport.into()),
        ("connect_timeout", Value::Int(4)),
        ("transport_options", Value::Map(Map::new())),
        ("login_method", Value::Null),
        ("uri_prefix", Value::Null),
        ("heartbeat", Value::Float(120.0)),
        ("failover_strategy", "round-robin".into()),
        ("alternates", Value::List(Vec::new())),
        ("credential_provider", Value::Null),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sourced;

    /// Goal: what is told holds no secret, whatever its place.
    #[test]
    fn secrets_are_masked() {
        let flags = vec![("--broker".to_owned(), "redis://me:hunter2@h:6380/3".to_owned())];
        let mut loaded = config::load(flags, None, false, Vec::new()).unwrap();
        let kwargs =
            Map::from_iter([("sentinel_kwargs".to_owned(), Value::Map(Map::from_iter([("password".to_owned(), "hunter2".into())])))]);
        let origin = loaded.config.timezone.origin.clone();
        loaded.config.celery.push(("broker_transport_options".to_owned(), Sourced { value: Value::Map(kwargs), origin }));
        let description = description(&loaded.config, None);
        let told = format!("{:?} {:?}", description.conf, description.broker);
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(description.broker["port"], Value::Int(6380));
        assert_eq!(description.broker["virtual_host"].as_str(), Some("3"));
    }
}
