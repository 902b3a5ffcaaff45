//! The shop of `deploy/examples`: a Django and a FastAPI service with their own tests, which cannot tell Celery's workers from nodes.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use umbel_tests::servers::redis::RedisServer;

/// Every queue of the platform, as its workers name them.
const PLATFORM: &str = "platform,platform.cpu,platform.io,platform.beat";

/// Who works for the shop.
#[derive(Clone, Copy)]
enum Workers {
    Celery,
    Nodes,
}

/// A shop of one test: a database and a broker of its own.
struct Shop {
    redis: RedisServer,
    folder: tempfile::TempDir,
    workers: Vec<Child>,
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn python() -> PathBuf {
    let python = top().join("target/shop/bin/python");
    assert!(python.is_file(), "{} is not there; try: tests/setup", python.display());
    python
}

impl Shop {
    fn open() -> Self {
        let shop = Self { redis: RedisServer::default(), folder: tempfile::tempdir().unwrap(), workers: Vec::new() };
        let output = shop.command("django", &python()).args(["manage.py", "migrate", "--verbosity", "0"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        shop
    }

    /// A program in the folder of a service, with the shop's variables.
    fn command(&self, service: &str, program: &Path) -> Command {
        let mut command = Command::new(program);
        let environment = top().join("target/shop");
        let mut path = environment.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .env_clear()
            .env("PATH", path)
            .env("VIRTUAL_ENV", environment)
            .env("PYTHONPATH", ".:../shared")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CELERY_BROKER_URL", self.redis.url(0))
            .env("CELERY_RESULT_BACKEND", self.redis.url(1))
            .env("SHOP_DATABASE", self.folder.path().join("shop.sqlite3"))
            .current_dir(top().join("deploy/examples").join(service))
            .stdin(Stdio::null());
        command
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a worker for a service.
    fn hire(&mut self, who: Workers, service: &str, app: &str, queues: &str) {
        let name = format!("{service}@test");
        let mut command = match who {
            Workers::Celery => {
                let mut command = self.command(service, &python());
                command.args(["-m", "celery", "-A", app, "worker", "-Q", queues, "-c", "2", "-n", &name, "-l", "INFO"]);
                command
            }
            Workers::Nodes => {
                let mut command = self.command(service, Path::new(env!("CARGO_BIN_EXE_node-under-test")));
                command.args(["worker", "-A", app, "-Q", queues, "-c", "2", "-n", &name]);
                command
            }
        };
        let log = File::create(self.log(service)).unwrap();
        self.workers.push(command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap());
    }

    /// Runs tests of a service to their end.
    fn test(&self, service: &str, tests: &str) -> Result<(), String> {
        let mut command = self.command(service, &python());
        command.args(["-m", "pytest", "-q", "--tb", "short", "-p", "no:cacheprovider", tests]);
        let output = command.output().unwrap();
        if output.status.success() {
            return Ok(());
        }
        let worker = std::fs::read_to_string(self.log(service)).unwrap_or_default();
        let tail: Vec<&str> = worker.lines().rev().take(60).collect();
        let tail: String = tail.into_iter().rev().map(|line| format!("    {line}\n")).collect();
        Err(format!(
            "{service}, {tests}: {}\n{}\nthe worker's log ends with\n{tail}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        ))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", worker.id())]).status();
            let _ = worker.wait();
        }
    }
}

/// The tests of these services that need a broker, with one kind of workers or the other.
fn works_with(platform: Workers, atom: Workers) {
    let mut shop = Shop::open();
    shop.hire(platform, "django", "config.celery", PLATFORM);
    shop.hire(atom, "fastapi", "app.celery_app", "atom");
    let tested: Vec<_> = std::thread::scope(|scope| {
        let shop = &shop;
        let tests = ["django", "fastapi"].map(|service| scope.spawn(move || shop.test(service, "tests/broker")));
        tests.into_iter().map(|test| test.join().unwrap()).collect()
    });
    let failed: Vec<String> = tested.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The yardstick: what the tests expect is what Celery does.
#[test]
fn the_shop_works_with_celery() {
    works_with(Workers::Celery, Workers::Celery);
}

/// Nobody has noticed that Celery's workers are gone.
#[test]
fn the_shop_works_with_nodes() {
    works_with(Workers::Nodes, Workers::Nodes);
}

/// One service has moved, the other has not.
#[test]
fn the_shop_works_with_both() {
    works_with(Workers::Nodes, Workers::Celery);
}

/// The tests that shops have already, which no worker takes part in.
#[test]
fn tests_without_a_broker_stay_as_they_are() {
    let shop = Shop::open();
    for service in ["django", "fastapi"] {
        shop.test(service, "tests/unit").unwrap_or_else(|failed| panic!("{failed}"));
    }
}
