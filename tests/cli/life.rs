//! The life of a node as a process: it starts, is told to stop, is killed, and starts again.

use std::process::{Command, Stdio};

use serde_json::Value as Json;
use umbel_tests::wait::until;

use super::{node, verbs::Dev};

fn signal(pid: u32, name: &str) {
    assert!(Command::new("sh").arg("-c").arg(format!("kill -s {name} {pid}")).status().unwrap().success());
}

/// Goal: SIGTERM ends a node with 0, gives back what waits, lets what runs finish, and leaves no endpoint behind.
#[test]
fn sigterm_ends_it_cleanly() {
    let mut dev = Dev::start();
    let id = dev.text(&["call", "umbel.demo.sleep", "0.5"]);
    until("it runs", || (dev.json(&["tasks", "show", &id])["task"]["state"] == "STARTED").then_some(()));
    signal(dev.pid(), "TERM");
    assert_eq!(dev.ended(), Some(0), "{}", dev.log());
    let left: Vec<_> = std::fs::read_dir(dev.home().join(".local/share/umbel")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["dev"], "nothing but the store is left");
    let store = format!("umbel://{}", dev.home().join(".local/share/umbel/dev").display());
    let result: Json = serde_json::from_str(&node().args(["-b", &store, "result", &id, "--no-wait", "-o", "json"]).run().stdout).unwrap();
    assert_eq!(result["status"], "SUCCESS");
}

/// Goal: a killed node leaves an endpoint nobody answers at; verbs are not misled, and a new node takes over the store.
#[test]
fn a_killed_node_is_succeeded() {
    let mut dev = Dev::start();
    dev.text(&["queues", "pause", "celery"]);
    let id = dev.text(&["call", "umbel.demo.add", "20", "22"]);
    signal(dev.pid(), "KILL");
    dev.ended();
    assert_eq!(dev.run(&["status"]).code, Some(69));
    let again = node()
        .args(["dev", "--listen", "127.0.0.1:0"])
        .env("HOME", dev.home())
        .within(dev.home())
        .command()
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let again = Killed(again);
    until("the new node answers", || (dev.run(&["healthcheck"]).code == Some(0)).then_some(()));
    dev.text(&["queues", "resume", "celery"]);
    assert_eq!(dev.text(&["wait", &id, "-t", "60"]), "42");
    drop(again);
}

/// Goal: SIGHUP applies the log level and says what it cannot apply.
#[test]
fn sighup_reloads_what_can_be() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("umbel.toml");
    let store = home.path().join("store");
    std::fs::write(
        &file,
        format!("[broker]\nurl = \"umbel://{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"warning\"\n", store.display()),
    )
    .unwrap();
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let child =
        node().args(["--role", "all", "-Q", "a,b"]).env("HOME", home.path()).within(home.path()).command().stderr(log).spawn().unwrap();
    let child = Killed(child);
    let said = || std::fs::read_to_string(home.path().join("log")).unwrap();
    until("the worker is ready", || said().contains(" ready.").then_some(()));
    assert!(said().contains("queues     a  b"), "{}", said());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("warning", "info") + "[queues]\ndefault = \"other\"\n").unwrap();
    signal(child.0.id(), "HUP");
    until("the level is applied", || said().contains("reloaded").then_some(()));
    until("the rest is named", || said().contains("the new value needs a restart").then_some(()));
}

/// Goal: a configuration that cannot be used stops the start, names every mistake and where it was made, and what to try.
#[test]
fn a_bad_configuration_is_named() {
    let home = tempfile::tempdir().unwrap();
    let ran = |args: &[&str], env: &[(&str, &str)]| {
        let call = node().args(args).env("HOME", home.path()).within(home.path());
        env.iter().fold(call, |call, (name, value)| call.env(name, value)).run()
    };
    let typo = ran(&["worker", "-c", "many"], &[("UMBEL_HTTP_LISTEN", "nowhere")]);
    assert_eq!(typo.code, Some(2), "{}", typo.stderr);
    assert!(typo.stderr.contains("worker.concurrency") && typo.stderr.contains("UMBEL_HTTP_LISTEN"), "{}", typo.stderr);
    let nothing = ran(&["worker"], &[]);
    assert_eq!(nothing.code, Some(2));
    assert!(
        nothing.stderr.contains("no broker is configured") && nothing.stderr.contains("try: node worker -b umbel://"),
        "{}",
        nothing.stderr
    );
    let role = ran(&["--role", "cpuu", "-b", "umbel:///tmp/x"], &[]);
    assert!(role.code == Some(2) && role.stderr.contains("did you mean cpu?"), "{}", role.stderr);
    let open = ran(&["worker", "-b", "umbel:///tmp/x", "--listen", "0.0.0.0:0"], &[]);
    assert!(open.code == Some(2) && open.stderr.contains("without a token"), "{}", open.stderr);
    let app = ran(&["-A", "no_such.app", "-b", "umbel:///tmp/x", "-Q", "platform"], &[]);
    assert!(app.code == Some(2) && app.stderr.contains("cannot run the application"), "{}", app.stderr);
}

/// Goal: commands from the configuration are tasks.
#[test]
fn commands_are_tasks() {
    let home = tempfile::tempdir().unwrap();
    let store = format!("umbel://{}/store", home.path().display());
    let toml = "[http]\nlisten = \"127.0.0.1:0\"\n[tasks.\"text.upper\"]\ncommand = [\"tr\", \"a-z\", \"A-Z\"]\noutput = \"text\"\n\
                [tasks.\"text.echo\"]\ncommand = [\"echo\", \"{0}\", \"{times}\"]\n";
    std::fs::write(home.path().join("umbel.toml"), toml).unwrap();
    let call = |args: &[&str]| node().args(args).env("HOME", home.path()).env("CELERY_BROKER_URL", &store).within(home.path());
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let worker = Killed(call(&["worker"]).command().stderr(log).spawn().unwrap());
    until("the worker answers", || (call(&["healthcheck"]).run().code == Some(0)).then_some(()));
    let echo = call(&["call", "text.echo", "hello", "-k", "{\"times\": 3}", "--wait", "-t", "60"]).run();
    assert_eq!((echo.code, echo.stdout.as_str()), (Some(0), "\"hello 3\"\n"), "{}", echo.stderr);
    let upper = call(&["call", "text.upper", "abc", "--wait", "-t", "60"]).run();
    assert!(upper.stdout.contains("ABC"), "the call is JSON on stdin: {}{}", upper.stdout, upper.stderr);
    drop(worker);
}

/// Goal: a role of one's own chooses what runs its tasks and what that may take: one for commands loads no application and gives way to
/// other programs; one for an application has to be given one.
#[test]
fn a_role_chooses_its_executor_and_resources() {
    let home = tempfile::tempdir().unwrap();
    let store = format!("umbel://{}/store", home.path().display());
    let toml = "app = \"no_such.app\"\n[http]\nlisten = \"127.0.0.1:0\"\n[tasks.\"how.nice\"]\ncommand = [\"nice\"]\n\
                [roles.batch]\nqueues = [\"batch\"]\nexecutor = \"command\"\nnice = 7\n";
    std::fs::write(home.path().join("umbel.toml"), toml).unwrap();
    let call = |args: &[&str]| node().args(args).env("HOME", home.path()).env("CELERY_BROKER_URL", &store).within(home.path());
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let worker = Killed(call(&["--role", "batch"]).command().stderr(log).spawn().unwrap());
    until("the worker answers", || (call(&["healthcheck"]).run().code == Some(0)).then_some(()));
    let before = String::from_utf8(Command::new("nice").output().unwrap().stdout).unwrap();
    let nice = call(&["call", "how.nice", "--queue", "batch", "--wait", "-t", "60"]).run();
    let expected = before.trim().parse::<i32>().unwrap().max(7);
    assert_eq!((nice.code, nice.stdout.trim()), (Some(0), expected.to_string().as_str()), "{}", nice.stderr);
    drop(worker);
    let refused = |toml: &str| {
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("umbel.toml"), toml).unwrap();
        let run = node().args(["--role", "own", "-b", "umbel:///tmp/x"]).env("HOME", elsewhere.path()).within(elsewhere.path()).run();
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        run.stderr
    };
    let python = refused("[roles.own]\nqueues = [\"own\"]\nexecutor = \"threads\"\n");
    assert!(python.contains("runs the tasks of an application, and none is named") && python.contains("umbel.toml:3"), "{python}");
    let command = refused("[roles.own]\nqueues = [\"own\"]\nexecutor = \"command\"\n");
    assert!(command.contains("runs commands, and none is configured"), "{command}");
    let unknown = refused("[roles.own]\nqueues = [\"own\"]\nexecuter = \"command\"\n");
    assert!(unknown.contains("roles.own.executer") && unknown.contains("roles.own.executor"), "{unknown}");
}

/// Goal: a GPU role has a slot for each device that the environment names, and says so; where slots have to share, or there is
/// nothing, that is said before the node is ready.
#[test]
fn a_gpu_role_gives_each_slot_its_device() {
    let home = tempfile::tempdir().unwrap();
    let toml = "[http]\nlisten = \"127.0.0.1:0\"\n[tasks.\"gpu.which\"]\ncommand = [\"sh\", \"-c\", \"echo $$CUDA_VISIBLE_DEVICES\"]\n";
    std::fs::write(home.path().join("umbel.toml"), toml).unwrap();
    let run = |store: &str, visible: &str, args: &[&str]| {
        let store = format!("umbel://{}/{store}", home.path().display());
        let call = node().args(args).env("HOME", home.path()).env("CELERY_BROKER_URL", store).env("CUDA_VISIBLE_DEVICES", visible);
        call.within(home.path())
    };
    let said = |store: &str| std::fs::read_to_string(home.path().join(format!("log-{store}"))).unwrap();
    let start = |store: &str, visible: &str, args: &[&str]| {
        let log = std::fs::File::create(home.path().join(format!("log-{store}"))).unwrap();
        let worker = Killed(run(store, visible, args).command().stderr(log).spawn().unwrap());
        until("the worker says what it has", || said(store).contains("slots      ").then_some(()));
        worker
    };
    let gpu = start("a", "GPU-1,GPU-2", &["--role", "gpu", "-n", "gpu@test"]);
    let log = said("a");
    assert!(log.contains("devices    GPU-1  GPU-2   (CUDA_VISIBLE_DEVICES)") && log.contains("slots      2"), "{log}");
    assert!(!log.contains("share"), "{log}");
    let show = run("a", "", &["nodes", "show", "gpu@test"]).run();
    assert!(show.stdout.contains("devices   GPU-1  GPU-2   (of the slots of command)"), "{}{}", show.stdout, show.stderr);
    let call = ["call", "gpu.which", "--queue", "celery.gpu", "--wait", "-t", "60"];
    let which = run("a", "", &call).run();
    assert!(which.stdout.contains("GPU-1") ^ which.stdout.contains("GPU-2"), "{}{}", which.stdout, which.stderr);
    let shared = start("b", "0,1", &["--role", "gpu", "-c", "3"]);
    assert!(said("b").contains("3 slots share 2 devices: up to 2 tasks meet on one; -c 2 gives each its own"), "{}", said("b"));
    let none = start("c", "-1", &["--role", "gpu", "-c", "1"]);
    assert!(said("c").contains("no device was found (CUDA_VISIBLE_DEVICES names none)"), "{}", said("c"));
    drop((gpu, shared, none));
}

/// Killed with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
