//! What goes into a command and what comes out of it.

use umbel_scheduler::devices::Devices;

use super::*;

#[tokio::test]
async fn words_stay_words() {
    let toml = "[tasks.t]\ncommand = [\"printf\", \"%s|\", \"{0}\", \"{name}\", \"{task_id}\", \"a{0}b\", \"$HOME\", \"\"]\n";
    let value = outcome(&executor(toml).0, &[Value::from("x y; $(id)")], &[("name", Value::from("*"))]).await;
    assert_eq!(success(value), Value::from("x y; $(id)|*|id-1|ax y; $(id)b|$HOME||"));
}

#[tokio::test]
async fn the_whole_call_is_on_stdin() {
    let executor = executor("[tasks.\"my.cat\"]\ncommand = [\"cat\"]").0;
    let value = success(outcome(&executor, &[Value::Int(1), Value::Null], &[("k", Value::from("ü"))]).await);
    let task = [
        ("id", Value::from("id-1")),
        ("name", "my.cat".into()),
        ("root_id", "id-1".into()),
        ("attempt", Value::Int(2)),
        ("retries", Value::Int(0)),
        ("queue", "q".into()),
        ("deadline", Value::Null),
    ];
    let map = |pairs: &[(&str, Value)]| Value::Map(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
    let args = Value::List(vec![Value::Int(1), Value::Null]);
    assert_eq!(value, map(&[("args", args), ("kwargs", map(&[("k", "ü".into())])), ("task", map(&task))]));
}

#[tokio::test]
async fn the_environment_is_scrubbed() {
    let executor = executor("[tasks.t]\ncommand = [\"env\"]\nenv = [\"REGION\", \"ABSENT\"]\nset_env = { A = \"b=c\" }").0;
    let value = success(outcome(&executor, &[], &[]).await);
    let mut lines: Vec<&str> = value.as_str().unwrap().lines().filter(|line| !line.starts_with("UMBEL_PROGRESS_FD=")).collect();
    lines.sort_unstable();
    let expected = [
        "A=b=c",
        "HOME=/",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "REGION=north",
        "UMBEL_ATTEMPT=2",
        "UMBEL_QUEUE=q",
        "UMBEL_RETRIES=0",
        "UMBEL_ROOT_ID=id-1",
        "UMBEL_TASK_ID=id-1",
        "UMBEL_TASK_NAME=t",
    ];
    assert_eq!(lines, expected);
}

/// Whatever the user has set or passed on: the device is the slot's.
#[tokio::test]
async fn the_device_of_the_slot_is_in_the_environment() {
    let toml =
        "[tasks.t]\ncommand = [\"sh\", \"-c\", \"echo $$CUDA_VISIBLE_DEVICES $$UMBEL_DEVICE\"]\nset_env = { CUDA_VISIBLE_DEVICES = \"7\" }";
    let executor = executor(toml).0;
    let devices = Devices::named(&["0", "GPU-1"], "umbel.toml:1", &|_| None);
    for (slot, seen) in [(0, "0 0"), (1, "GPU-1 GPU-1"), (2, "0 0")] {
        let mut slot = executor.open(Opening { slot, device: devices.of_slot(slot) }).await.unwrap();
        let outcome = tokio::time::timeout(GENEROUS, slot.run(job(&executor, &[], &[]).job)).await.unwrap().unwrap();
        assert_eq!(success(outcome), Value::from(seen));
    }
}

/// Nothing of the node is open in a command but its four ends. What this process was itself handed by whoever started it,
/// open across `exec`, is none of the node's.
#[tokio::test]
async fn no_descriptor_of_the_node_is_inherited() {
    const CLOEXEC: u32 = 0o2_000_000;
    let handed = std::fs::read_dir("/proc/self/fdinfo").unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // The directory's own descriptor may be gone by now.
        let info = std::fs::read_to_string(&path).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0");
        number > 2 && !info.is_empty() && u32::from_str_radix(flags.trim(), 8).unwrap() & CLOEXEC == 0
    });
    let handed = handed.count();
    let executor = executor("[tasks.t]\ncommand = [\"ls\", \"/proc/self/fd\"]\noutput = \"text\"").0;
    let value = success(outcome(&executor, &[], &[]).await);
    // stdin, stdout, stderr, progress, and the directory that `ls` reads.
    assert_eq!(value.as_str().unwrap().lines().count(), 5 + handed, "{value:?}");
}

#[tokio::test]
async fn stdout_is_the_result() {
    for (text, output, value) in [
        ("echo '{\"a\": 1}'", "auto", Value::Map(Map::from_iter([("a".to_owned(), Value::Int(1))]))),
        ("echo 12", "text", Value::from("12")),
        ("echo hello", "auto", Value::from("hello")),
        ("echo; exit 0", "json", Value::Null),
        (":", "text", Value::Null),
    ] {
        assert_eq!(success(outcome(&script(text, &format!("output = \"{output}\"")), &[], &[]).await), value, "{text}");
    }
    let error = failure(outcome(&script("echo hello", "output = \"json\""), &[], &[]).await);
    assert_eq!(error.exc_type, "ValueError");
}

#[tokio::test]
async fn an_exit_code_is_a_failure_with_stderrs_end() {
    let error = failure(outcome(&script("echo noise; echo first >&2; echo last >&2; exit 3", ""), &[Value::from("hunter2")], &[]).await);
    assert_eq!((error.exc_module.as_deref(), error.exc_type.as_str()), (Some("subprocess"), "CalledProcessError"));
    assert_eq!(
        (&error.exc_message[0], &error.exc_message[2], &error.exc_message[3]),
        (&Value::Int(3), &Value::Null, &Value::from("first\nlast"))
    );
    let told = error.traceback.unwrap();
    assert!(told.contains("ended with exit code 3. The end of its stderr (up to 8KiB):\nfirst\nlast\n"), "{told}");
    assert!(!told.contains("hunter2"));

    let error = failure(outcome(&script("kill -9 $$", ""), &[], &[]).await);
    assert_eq!(error.exc_message[0], Value::Int(-9));
    assert!(error.traceback.unwrap().contains("was ended by SIGKILL"));

    let error =
        failure(outcome(&script("i=0; while [ $i -lt 5000 ]; do echo \"line $i\" >&2; i=$((i+1)); done; exit 1", ""), &[], &[]).await);
    let tail = error.exc_message[3].as_str().unwrap();
    assert!(tail.len() <= 8192 && tail.starts_with("line ") && tail.ends_with("line 4999"), "{tail}");
}

#[tokio::test]
async fn some_exit_codes_ask_for_another_attempt() {
    let is_retry = |outcome: Outcome| match outcome {
        Outcome::Retry(retry) => retry.automatic && retry.error.is_some_and(|error| error.exc_type == "CalledProcessError"),
        _ => false,
    };
    assert!(is_retry(outcome(&script("exit 75", ""), &[], &[]).await));
    assert!(!is_retry(outcome(&script("exit 75", "retry_codes = [9]"), &[], &[]).await));
    assert!(is_retry(outcome(&script("exit 9", "retry_codes = [9]"), &[], &[]).await));
    assert!(is_retry(outcome(&script("exit 1", "retry_on_failure = true"), &[], &[]).await));
}

#[tokio::test]
async fn too_much_stdout_is_a_failure() {
    let error = failure(outcome(&script("exec yes", "output_max = \"64KiB\""), &[], &[]).await);
    assert_eq!(error.exc_type, "OverflowError");
    assert_eq!(error.exc_message[0], Value::from("stdout is larger than 64KiB (output_max of t)"));
    let error = failure(outcome(&script("echo 12345", "output_max = 5"), &[], &[]).await);
    assert_eq!(error.exc_type, "OverflowError", "one byte more counts, even when the command has ended");
    assert_eq!(success(outcome(&script("printf 12345", "output_max = 5"), &[], &[]).await), Value::Int(12345));
}

#[tokio::test]
async fn large_calls() {
    let large = Value::from("x".repeat(4 << 20));
    assert_eq!(success(outcome(&script("wc -c", ""), std::slice::from_ref(&large), &[]).await).as_i64().map(|n| n > 4 << 20), Some(true));
    assert_eq!(success(outcome(&script("exec <&-; echo unread", ""), std::slice::from_ref(&large), &[]).await), Value::from("unread"));
    // More than the system gives one word: a failure of the task, not of the slot.
    let executor = executor("[tasks.t]\ncommand = [\"echo\", \"{0}\"]").0;
    assert_eq!(failure(outcome(&executor, &[large], &[]).await).exc_type, "OSError");
    assert_eq!(failure(outcome(&executor, &[Value::from("x".repeat(9 << 20))], &[]).await).exc_type, "OSError");
    assert_eq!(success(outcome(&executor, &[Value::from("small")], &[]).await), Value::from("small"));
}

#[tokio::test]
async fn progress_is_told() {
    let executor = script("echo '{\"state\": \"LOADING\", \"meta\": {\"percent\": 40}}' >&$UMBEL_PROGRESS_FD; echo done", "");
    let mut given = job(&executor, &[], &[]);
    let value = success(run(&executor, given.job).await);
    assert_eq!(value, Value::from("done"));
    let progress = given.progress.recv().await.unwrap();
    assert_eq!((progress.state.as_str(), progress.meta.as_map().unwrap()["percent"].as_i64()), ("LOADING", Some(40)));
}

#[tokio::test]
async fn a_command_that_is_not_there() {
    let (executor, warnings) = executor("[tasks.t]\ncommand = [\"no-such-tool\", \"{0}\"]\n[tasks.u]\ncommand = [\"{0}\"]");
    let reason = "the command \"no-such-tool\" is in no directory of PATH=/usr/local/bin:/usr/bin:/bin";
    assert_eq!(warnings, [format!("the task t (umbel.toml:2) will fail: {reason}")]);
    let error = failure(outcome(&executor, &[], &[]).await);
    assert_eq!((error.exc_type.as_str(), &error.exc_message[0]), ("TypeError", &Value::from("missing positional argument {0}")));
    let error = failure(outcome(&executor, &[Value::Int(1)], &[]).await);
    assert_eq!((error.exc_type.as_str(), &error.exc_message[0]), ("FileNotFoundError", &Value::from(reason)));
}

#[tokio::test]
async fn a_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    assert_eq!(success(outcome(&script("pwd", &format!("cwd = {path:?}")), &[], &[]).await), Value::from(path.to_str().unwrap()));
    let error = failure(outcome(&script("pwd", "cwd = \"/no/such/place\""), &[], &[]).await);
    assert_eq!(error.exc_type, "OSError");
}

#[test]
fn commands_that_can_never_run_are_refused() {
    for (toml, message) in [
        (
            "[tasks.t]\ncommand = [\"a\", \"{b\"]",
            "tasks.t.command = \"{b\" (umbel.toml:2) has a { that does not begin the name of an argument (write {{ for the character)",
        ),
        ("[tasks.t]\ncommand = [\"a\"]\nset_env = { \"A=B\" = \"c\" }", "tasks.t.set_env = \"A=B\" (umbel.toml:2) is not a variable"),
    ] {
        let made = CommandExecutor::new(&config(toml).tasks, &BTreeMap::new(), &Defaults::default(), Vec::new());
        assert_eq!(made.unwrap_err().to_string(), message);
    }
}

#[test]
fn options_become_the_tasks_options() {
    let toml = "[worker]\ntime_limit = 100\nsoft_time_limit = 90\nacks_late = false\n[tasks.t]\ncommand = [\"true\"]\nqueue = \"video\"\nmax_retries = 7\nbackoff = \"2s\"\nignore_result = true\ntime_limit = 60\n[tasks.u]\ncommand = [\"true\"]\nacks = \"late\"";
    let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into();
    let (executor, warnings) = CommandExecutor::from_config(&config(toml), &env).unwrap();
    assert_eq!(warnings, [""; 0]);
    let spec = executor.spec(&"t".into()).unwrap();
    assert_eq!((spec.queue.as_ref().map(|queue| queue.as_str()), spec.max_retries, spec.ignore_result), (Some("video"), Some(7), true));
    assert_eq!(spec.time_limit, TimeLimit { hard_secs: Some(60.0), soft_secs: None }, "a soft limit beyond the hard one is none");
    assert_eq!(spec.backoff.map(|backoff| (backoff.factor_secs, backoff.max_secs, backoff.jitter)), Some((2.0, 600.0, true)));
    assert_eq!(spec.acknowledge, umbel_scheduler::Acknowledge::Early);
    let spec = executor.spec(&"u".into()).unwrap();
    assert_eq!((spec.acknowledge, spec.time_limit.hard_secs), (umbel_scheduler::Acknowledge::Late, Some(100.0)));
}
