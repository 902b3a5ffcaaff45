//! Which source wins.

use super::*;

/// One key through all seven levels: with the strongest taken away, the next one wins.
#[test]
fn the_strongest_level_wins() {
    let url = |host: &str| format!("redis://{host}/0");
    let (flag, umbel, celery, file, redis) = (url("flag"), url("umbel"), url("celery"), url("file"), url("fallback"));
    let app = url("app");
    let toml = format!("[broker]\nurl = \"{file}\"");
    let levels = [
        (Level::Flag, "flag", "--broker"),
        (Level::Umbel, "umbel", "UMBEL_BROKER_URL"),
        (Level::Celery, "celery", "CELERY_BROKER_URL"),
        (Level::File, "file", "umbel.toml:2"),
        (Level::App, "app", "the app's broker_url"),
        (Level::RedisUrl, "fallback", "REDIS_URL"),
    ];
    for weakest in 0..levels.len() {
        let on = |level: Level| levels.iter().skip(weakest).any(|(on, ..)| *on == level);
        let flags = [("--broker", flag.as_str())];
        let vars = [("UMBEL_BROKER_URL", &umbel), ("CELERY_BROKER_URL", &celery), ("REDIS_URL", &redis)];
        let env: Vec<(&str, &str)> =
            vars.into_iter().filter(|(name, _)| on(Origin::env(*name).level())).map(|(name, value)| (name, value.as_str())).collect();
        let given = Given {
            flags: if on(Level::Flag) { &flags } else { &[] },
            env: &env,
            toml: if on(Level::File) { &toml } else { "" },
            app: &[("broker_url", app.as_str())][..usize::from(on(Level::App))],
            ..Given::default()
        };
        let broker = given.config().broker.expect("one level is left");
        let (level, host, origin) = levels[weakest];
        assert_eq!((broker.origin.level(), broker.hosts[0].0.as_str(), broker.origin.to_string().as_str()), (level, host, origin));
    }
    assert_eq!(Given::default().config().broker, None);
}

/// The seventh level, on a key that has it; and each level of `.env`, which fills in and never overrides.
#[test]
fn dotenv_is_the_environment_that_was_not_set() {
    let queue = |given: Given<'_>| {
        let queue = given.config().default_queue;
        (queue.value, queue.origin.to_string())
    };
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(queue(Given::default()), is("celery", "built-in"));
    let dotenv = "# queues\nCELERY_TASK_DEFAULT_QUEUE=dotenv\n";
    let toml = "[queues]\ndefault = \"file\"";
    assert_eq!(queue(Given { dotenv, toml, ..Given::default() }), is("dotenv", "CELERY_TASK_DEFAULT_QUEUE, .env:2"));
    let env = [("CELERY_TASK_DEFAULT_QUEUE", "process")];
    assert_eq!(queue(Given { dotenv, toml, env: &env, ..Given::default() }), is("process", "CELERY_TASK_DEFAULT_QUEUE"));
    let ours = "UMBEL_QUEUES_DEFAULT=ours";
    assert_eq!(queue(Given { dotenv: ours, toml, env: &env, ..Given::default() }), is("ours", "UMBEL_QUEUES_DEFAULT, .env:1"));
    assert_eq!(queue(Given { env: &[("CELERY_TASK_DEFAULT_QUEUE", "")], toml, ..Given::default() }), is("file", "umbel.toml:2"));
}

/// Every key with a flag or a variable can be set through it, and the flag is stronger than every variable.
#[test]
fn every_key_has_its_twins() {
    for key in KEYS {
        let (weak, strong) = match key.kind {
            Kind::Bool => ("false", "true"),
            Kind::Int(..) | Kind::Concurrency => ("2", "3"),
            Kind::Duration(..) | Kind::Size(..) => ("2", "3"),
            Kind::BrokerUrl | Kind::ResultsUrl => ("redis://a/0", "redis://b/0"),
            Kind::Listen => ("127.0.0.1:1", "127.0.0.1:2"),
            Kind::Choice(words) => (words[0], words[words.len() - 1]),
            Kind::LogLevel => ("error", "debug"),
            Kind::Words | Kind::Table => continue,
            _ if key.name == "role" => ("cpu", "io"),
            _ if key.name == "cluster.secret" => ("one secret of some length", "another of some length"),
            _ if key.name == "gossip.seeds" => ("a:1", "b:2"),
            _ if key.name == "timezone" => ("Europe/Oslo", "Asia/Tokyo"),
            _ => ("a", "b"),
        };
        let shown = |flags: &[(&str, &str)], env: &[(&str, &str)]| {
            let config = Given { flags, env, ..Given::default() }.config();
            let rows = config.resolved.rows();
            rows.iter().find(|row| row.key.name == key.name).map(|row| (row.value.clone(), row.origin.to_string()))
        };
        let wanted = |value: &str| {
            let value = key.kind.parse(&Raw::Text(value.to_owned())).unwrap().show();
            if key.secret && !value.contains("://") { MASK.to_owned() } else { value }
        };
        let variables: Vec<String> = key.env().into_iter().chain(key.celery_env()).collect();
        for (index, variable) in variables.iter().enumerate() {
            assert_eq!(shown(&[], &[(variable, weak)]), Some((wanted(weak), variable.clone())));
            for weaker in &variables[index + 1..] {
                let env = [(weaker.as_str(), weak), (variable.as_str(), strong)];
                assert_eq!(shown(&[], &env), Some((wanted(strong), variable.clone())));
            }
        }
        for flag in key.flag.into_iter().chain(key.short) {
            let env: Vec<(&str, &str)> = variables.iter().map(|variable| (variable.as_str(), weak)).collect();
            assert_eq!(shown(&[(flag, strong)], &env), Some((wanted(strong), flag.to_owned())));
        }
    }
}

/// Celery's own names work in the file, and lose against ours there.
#[test]
fn celerys_names_in_the_file() {
    let config = toml(
        "[celery]\ntask_default_queue = \"theirs\"\nworker_concurrency = 3\ntask_track_started = true\n[queues]\ndefault = \"ours\"\n",
    )
    .config();
    assert_eq!((config.default_queue.value.as_str(), config.default_queue.origin.to_string().as_str()), ("ours", "umbel.toml:6"));
    assert_eq!(
        (config.worker.concurrency.value, config.worker.concurrency.origin.to_string().as_str()),
        (Concurrency::Fixed(3), "umbel.toml:3")
    );
    assert_eq!(config.celery.len(), 1);
    assert_eq!(config.celery[0].0, "task_track_started");
}

#[test]
fn secrets_come_from_files() {
    let files = [("/run/secrets/broker", "redis://:hunter2@h:1/0\n"), ("/t", "hunter3")];
    let toml = "[broker]\nurl = \"@file:/run/secrets/broker\"\n[http]\ntoken = \"@file:${DIR:-}/t\"\n";
    let config = Given { toml, files: &files, ..Given::default() }.config();
    let broker = config.broker.clone().unwrap();
    assert_eq!(broker.password.as_ref().map(|password| password.expose().as_str()), Some("hunter2"));
    assert_eq!(broker.origin.to_string(), "/run/secrets/broker, named by umbel.toml:2");
    assert_eq!(config.http.token.as_ref().map(|token| token.value.expose().as_str()), Some("hunter3"));
    let printed = format!("{config:?} {:?}", config.resolved.rows());
    assert!(!printed.contains("hunter"), "{printed}");

    for name in ["UMBEL_BROKER_URL_FILE", "CELERY_BROKER_URL_FILE", "REDIS_URL_FILE"] {
        let env = [(name, "/run/secrets/broker")];
        let given = Given { env: &env, files: &files, ..Given::default() };
        assert_eq!(given.warnings(), [""; 0]);
        assert_eq!(given.config().broker.unwrap().host(), Some(("h", 1)), "{name}");
    }
    // Only secrets are read from files: elsewhere the text means itself.
    assert_eq!(super::toml("[queues]\ndefault = \"@file:/t\"").config().default_queue.value, "@file:/t");
}

#[test]
fn results_follow_the_broker_where_it_can_keep_them() {
    let results = |env: &[(&str, &str)]| {
        Given { env, ..Given::default() }.config().results.map(|url| (url.value.to_string(), url.origin.to_string()))
    };
    let is = |url: &str, origin: &str| Some((url.to_owned(), origin.to_owned()));
    assert_eq!(results(&[("CELERY_BROKER_URL", "redis://a/0")]), is("redis://a/0", "from broker.url"));
    assert_eq!(results(&[("CELERY_BROKER_URL", "redis://a/0"), ("REDIS_URL", "redis://b/1")]), is("redis://b/1", "REDIS_URL"));
    assert_eq!(results(&[("CELERY_BROKER_URL", "amqp://a//")]), None);
    assert_eq!(results(&[("CELERY_BROKER_URL", "umbel:///x")]), is("umbel:///x", "from broker.url"));
}
