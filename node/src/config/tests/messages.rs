//! What people read when something is wrong, word for word.

use super::*;

#[test]
fn mistakes_in_the_file() {
    for (text, message) in [
        ("[broker]\nulr = \"x\"", "broker.ulr (umbel.toml:2) is not a key; did you mean broker.url?"),
        ("concurrency = 4", "concurrency (umbel.toml:1) is not a key; did you mean worker.concurrency?"),
        ("[zzz]\nqqq = 4", "zzz.qqq (umbel.toml:2) is not a key; see: node config init"),
        ("broker = \"redis://h\"", "broker (umbel.toml:1) is not a key; see: node config init"),
        (
            "[tasks.video.thumbnail]\ncommand = [\"x\"]",
            "tasks.video.thumbnail.command (umbel.toml:2) is not a key; names with dots need quotes: tasks.\"video.thumbnail\".command",
        ),
        ("[tasks.\"a.b\"]\ncomand = [\"x\"]", "tasks.\"a.b\".comand (umbel.toml:2) is not a key; did you mean tasks.\"a.b\".command?"),
        (
            "[celery]\nworker_concurency = 3",
            "celery.worker_concurency (umbel.toml:2) is not a setting of Celery's; did you mean celery.worker_concurrency?",
        ),
        ("[worker]\nconcurrency = 0", "worker.concurrency = 0 (umbel.toml:2) is out of range; allowed: 1 to 65536, or \"auto\""),
        (
            "[drain]\ntimeout = \"soon\"",
            "drain.timeout = \"soon\" (umbel.toml:2) is not a duration; allowed: 0s to 1d, such as \"25s\", \"500ms\" or \"1h30m\"",
        ),
        (
            "[drain]\ntimeout = \"2d\"",
            "drain.timeout = \"2d\" (umbel.toml:2) is out of range; allowed: 0s to 1d, such as \"25s\", \"500ms\" or \"1h30m\"",
        ),
        ("[log]\nformat = [1]", "log.format = [1] (umbel.toml:2) is a list, not one of the words it takes; allowed: text, json"),
        (
            "[tasks.x]\ncommand = \"ls -l\"",
            "tasks.x.command = \"ls -l\" (umbel.toml:2) is one text, not a list of words; allowed: a list of words, such as [\"ffmpeg\", \"-i\", \"{input}\"]; no shell is involved",
        ),
        (
            "[tasks.x]\nqueue = \"q\"",
            "tasks.x.command (umbel.toml:2) is missing, so there is nothing to run; add: command = [\"/path/to/program\"]",
        ),
        (
            "[tasks.x]\ncommand = [\"a\"]\nretry_codes = [0]",
            "tasks.x.retry_codes = 0 (umbel.toml:3) is not an exit code of a failure; allowed: 1 to 255",
        ),
        (
            "[tasks.x]\ncommand = [\"a\"]\ntime_limit = 5\nsoft_time_limit = 5",
            "tasks.x.soft_time_limit (umbel.toml:4) is not shorter than time_limit, so it would never be used",
        ),
        ("[broker]\nurl = \"${NOPE}\"", "broker.url (umbel.toml:2) needs the variable NOPE, which is not set (or write ${NOPE:-default})"),
        (
            "[http]\nlisten = \"0.0.0.0:80\"",
            "http.listen = \"0.0.0.0:80\" (umbel.toml:2) is open to the network without a token; set http.token (or UMBEL_HTTP_TOKEN), or listen on 127.0.0.1",
        ),
        (
            "role = \"iO\"",
            "role = \"iO\" (umbel.toml:1) is not a role; did you mean io? roles are all, cpu, io, gpu, beat, dashboard; declare your own under [roles.iO]",
        ),
        (
            "role = \"video\"",
            "role = \"video\" (umbel.toml:1) is not a role; roles are all, cpu, io, gpu, beat, dashboard; declare your own under [roles.video]",
        ),
        (
            "role = \"video\"\n[roles.video]\nconcurrency = 1",
            "roles.video.queues (umbel.toml:1) is missing, so the role has nothing to take; add: queues = [\"video\"]",
        ),
        (
            "[routes]\n\"a.*\" = { queue = \"x\", quueue = \"y\" }",
            "routes.\"a.*\" = { queue = \"x\", quueue = \"y\" } (umbel.toml:2) has \"quueue\" in it, which is not what a route takes; allowed: a queue's name, or a table of queue, exchange, routing_key and priority",
        ),
    ] {
        assert_eq!(toml(text).errors(), message, "{text}");
    }
    assert!(toml("a = [\n").errors().starts_with("umbel.toml (umbel.toml:"), "{}", toml("a = [\n").errors());
}

/// All at once, in the order of the file.
#[test]
fn all_mistakes_are_told() {
    let errors = toml("[worker]\nconcurrency = \"many\"\nnope = 1\n[log]\nlevel = \"loud\"\n").errors();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
}

#[test]
fn mistakes_elsewhere_name_their_place() {
    let env = [("CELERY_WORKER_CONCURRENCY", "lots")];
    assert_eq!(
        Given { env: &env, ..Given::default() }.errors(),
        "worker.concurrency = \"lots\" (CELERY_WORKER_CONCURRENCY) is not a number of slots; allowed: 1 to 65536, or \"auto\""
    );
    let errors = Given { dotenv: "\n\nCELERY_WORKER_LOGLEVEL=loud", ..Given::default() }.errors();
    assert!(errors.starts_with("log.level = \"loud\" (CELERY_WORKER_LOGLEVEL, .env:3) is not a log level;"), "{errors}");
    let errors = Given { flags: &[("-n", "a%z")], ..Given::default() }.errors();
    assert!(errors.starts_with("worker.name = \"a%z\" (-n) has %z in it, which stands for nothing"), "{errors}");
    let errors = Given { env: &[("UMBEL_HTTP_TOKEN_FILE", "/nope")], ..Given::default() }.errors();
    assert!(errors.starts_with("http.token (/nope, named by UMBEL_HTTP_TOKEN_FILE) cannot be read: "), "{errors}");
    assert_eq!(Given { flags: &[("--nope", "x")], ..Given::default() }.errors(), "--nope (--nope) is not a flag of any key");
}

/// A value that a stronger one overrides is not judged: one must be able to get going again.
#[test]
fn an_overridden_mistake_is_none() {
    let given = Given { env: &[("CELERY_WORKER_CONCURRENCY", "lots")], flags: &[("-c", "2")], ..Given::default() };
    assert_eq!(given.config().worker.concurrency.value, Concurrency::Fixed(2));
}

#[test]
fn secrets_are_masked_in_errors() {
    for url in ["redis://:hunter2@h:port/0", "redis://:hunter2@h/x", "http://hunter2@h", "hunter2:x", "redis://me:hunter2%@h"] {
        let errors = Given { env: &[("CELERY_BROKER_URL", url)], ..Given::default() }.errors();
        assert!(!errors.contains("hunter2") && errors.contains(MASK) && errors.contains("(CELERY_BROKER_URL)"), "{errors}");
    }
    assert_eq!(
        Given { env: &[("CELERY_BROKER_URL", "redis://:hunter2@h:port/0")], ..Given::default() }.errors(),
        "broker.url = \"redis://********\" (CELERY_BROKER_URL) has a port that is not a number from 0 to 65535; allowed: umbel:///path, \
         redis://host:6379/0, amqp://user:password@host/vhost"
    );
}

#[test]
fn strange_variables_are_warnings() {
    let env = [
        ("CELERY_WORKER_CONCURENCY", "1"),
        ("UMBEL_BROKR_URL", "x"),
        ("CELERY_TASK_TRACK_STARTED", "1"),
        ("CELERY_WORKER_STATEDB", "x"),
        ("UMBEL_TASK_ID", "x"),
        ("OTHER", "x"),
        ("CELERY_QQQQQQQQ", "1"),
    ];
    assert_eq!(
        Given { env: &env, ..Given::default() }.warnings(),
        [
            "the variable CELERY_QQQQQQQQ is not known and does nothing",
            "the variable CELERY_WORKER_CONCURENCY is not known and does nothing; did you mean CELERY_WORKER_CONCURRENCY?",
            "the variable UMBEL_BROKR_URL is not known and does nothing; did you mean UMBEL_BROKER_URL?",
        ]
    );
    assert_eq!(Given { dotenv: "x y", ..Given::default() }.warnings(), [".env:1 is ignored: it has no ="]);
}
