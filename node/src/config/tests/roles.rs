//! Roles, node names and commands out of a whole configuration.

use super::*;

fn queues(given: Given<'_>) -> Vec<String> {
    plan(&given.config()).unwrap().queues.iter().map(ToString::to_string).collect()
}

#[test]
fn roles_choose_queues() {
    let toml =
        "[roles.gpu]\nqueues = [\"gpu\", \"gpu\"]\n[roles.video]\nqueues = [\"v\"]\n[roles.cpu]\nqueues = [\"c\"]\n[beat]\nqueue = \"b\"\n";
    for (flags, expected) in [
        (&[][..], &["celery", "c", "b"][..]),
        (&[("--role", "cpu")], &["c"]),
        (&[("--role", "io")], &["celery.io"]),
        (&[("--role", "gpu")], &["gpu"]),
        (&[("--role", "video")], &["v"]),
        (&[("--role", "beat")], &[]),
        (&[("--role", "dashboard")], &[]),
        (&[("--role", "cpu"), ("-Q", "x, y,x")], &["x", "y"]),
    ] {
        assert_eq!(queues(Given { toml, flags, ..Given::default() }), expected, "{flags:?}");
    }
    assert_eq!(queues(Given::default()), ["celery"], "queues that nobody declared are nobody's");
    assert_eq!(queues(Given { env: &[("UMBEL_ROLES_GPU_QUEUES", "g1,g2"), ("UMBEL_ROLE", "gpu")], ..Given::default() }), ["g1", "g2"]);
}

/// A role has the devices it names; `gpu` those that are found, and any other role none.
#[test]
fn devices_of_a_role() {
    let toml = "[roles.video]\nqueues = [\"v\"]\ndevices = [\"0\", \"GPU-1\"]\n";
    let devices =
        |toml, flags, env| plan(&Given { toml, flags, env, ..Given::default() }.config()).unwrap().devices.map(|found| found.value);
    assert_eq!(devices(toml, &[("--role", "video")], &[]).as_deref(), Some(&["0".to_owned(), "GPU-1".to_owned()][..]));
    assert_eq!(devices(toml, &[("--role", "gpu")], &[]).as_deref(), Some(&[AUTO.to_owned()][..]));
    assert_eq!(devices(toml, &[("--role", "gpu")], &[("UMBEL_ROLES_GPU_DEVICES", "none")]).as_deref(), Some(&[NONE.to_owned()][..]));
    assert_eq!(devices(toml, &[("--role", "cpu")], &[]), None);
    assert_eq!(queues(Given { flags: &[("--role", "gpu")], ..Given::default() }), ["celery.gpu"]);
}

/// A role says what runs its tasks and what that may take; what is not known is refused where it stands.
#[test]
fn executor_and_resources_of_a_role() {
    let toml = "[roles.video]\nqueues = [\"v\"]\nexecutor = \"Command\"\nmemory = \"512MiB\"\nnice = 10\n";
    let role = plan(&Given { toml, flags: &[("--role", "video")], ..Given::default() }.config()).unwrap();
    assert_eq!(role.executor.as_ref().map(|executor| executor.value), Some(Runs::Command));
    assert_eq!((role.memory.map(|memory| memory.value), role.nice.map(|nice| nice.value)), (Some(512 << 20), Some(10)));
    let all = plan(&Given { toml, ..Given::default() }.config()).unwrap();
    assert_eq!((all.executor, all.memory, all.nice), (None, None, None));
    let flags: &[(&str, &str)] = &[("--role", "io")];
    let env = &[("UMBEL_ROLES_IO_EXECUTOR", "threads"), ("UMBEL_ROLES_IO_MEMORY", "1GiB"), ("UMBEL_ROLES_IO_NICE", "3")];
    let role = plan(&Given { env, flags, ..Given::default() }.config()).unwrap();
    assert_eq!(
        (role.executor.map(|executor| executor.value), role.memory.map(|memory| memory.value)),
        (Some(Runs::Threads), Some(1 << 30))
    );
    for (line, complaint) in [
        ("executor = \"process\"", "roles.video.executor"),
        ("memory = \"1kB\"", "roles.video.memory"),
        ("nice = -1", "roles.video.nice"),
        ("exekutor = \"command\"", "roles.video.executor"),
    ] {
        let toml = format!("[roles.video]\nqueues = [\"v\"]\n{line}\n");
        let errors = Given { toml: &toml, ..Given::default() }.errors();
        assert!(errors.contains(complaint) && errors.contains("umbel.toml:3"), "{line}: {errors}");
    }
}

/// A role's own concurrency is stronger, unless the general one was given at a stronger level.
#[test]
fn concurrency_of_a_role() {
    let toml = "[worker]\nconcurrency = 2\n[roles.io]\nconcurrency = 32\n";
    let slots = |flags, env| plan(&Given { toml, flags, env, ..Given::default() }.config()).unwrap().concurrency.value;
    assert_eq!(slots(&[("--role", "io")], &[]), Concurrency::Fixed(32));
    assert_eq!(slots(&[("--role", "cpu")], &[]), Concurrency::Fixed(2));
    assert_eq!(slots(&[("--role", "io"), ("-c", "4")], &[]), Concurrency::Fixed(4));
    assert_eq!(slots(&[("--role", "io")], &[("CELERY_WORKER_CONCURRENCY", "5")]), Concurrency::Fixed(5));
    assert_eq!((Concurrency::Auto.resolve(8), Concurrency::Auto.resolve(0), Concurrency::Fixed(3).resolve(8)), (8, 1, 3));
    assert!(cpus() >= 1);
}

#[test]
fn names_are_expanded() {
    for (pattern, name) in [
        ("celery@%h", "celery@web1.example.org"),
        ("w1@%n", "w1@web1"),
        ("w1@%d", "w1@example.org"),
        ("w1", "celery@w1"),
        ("w1@", "w1@web1.example.org"),
        ("a%%b@h", "a%b@h"),
    ] {
        assert_eq!(expand_name(pattern, "web1.example.org").as_deref(), Ok(name));
        let config = Given { flags: &[("-n", pattern)], ..Given::default() }.config();
        assert_eq!(config.worker.name.value, name);
    }
    assert_eq!(expand_name("a%x", "h"), Err("has %x in it, which stands for nothing".to_owned()));
    assert_eq!(expand_name("a%", "h"), Err("has % in it, which stands for nothing".to_owned()));
    assert_eq!(expand_name("a b", "h"), Err("has a space or control character in it".to_owned()));
    assert_eq!(expand_name("w@%d", "plain"), Ok("w@plain".to_owned()));
}

#[test]
fn commands_are_typed() {
    let config = toml(
        r#"
[tasks."video.thumbnail"]
command = ["ffmpeg", "-i", "{input}", "-frames:v", 1]
queue = "video"
max_retries = 5
backoff = "1s"
retry_codes = [75, 111]
time_limit = "10m"
soft_time_limit = 570
acks = "early"
env = ["AWS_REGION"]
set_env = { A = "b", N = 1 }
output_max = "1MiB"
"#,
    )
    .config();
    let task = &config.tasks[0];
    assert_eq!((task.name.as_str(), task.origin.to_string().as_str()), ("video.thumbnail", "umbel.toml:3"));
    assert_eq!(task.command, ["ffmpeg", "-i", "{input}", "-frames:v", "1"]);
    assert_eq!((task.max_retries, task.acks_late, task.output_max), (Some(5), Some(false), Some(1 << 20)));
    assert_eq!(task.retry_codes.as_deref(), Some(&[75, 111][..]));
    assert_eq!(task.set_env, [("A".to_owned(), "b".to_owned()), ("N".to_owned(), "1".to_owned())]);
}
