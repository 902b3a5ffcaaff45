//! The tables of django-celery-beat: rows that people write in Django are sent by whichever node leads.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value as Json, json};
use umbel::scheduler::beat::tick_id;
use umbel_tests::{servers::redis::RedisServer, wait::until};

use super::{Process, mark, node, sent};

/// Runs before each piece of Python: Django, its models, and a way to answer.
const BEFORE: &str = "
import json, tables_app, django
django.setup()
from datetime import timedelta
from django.core.management import call_command
from django.utils.timezone import now
from django_celery_beat.models import *
def tell(value): print(json.dumps(value, default=str))
def every(seconds): return IntervalSchedule.objects.get_or_create(every=seconds, period='seconds')[0]
";

/// Where kombu has messages of a queue with the priority 3.
const ONCE: &str = "once\x06\x163";

struct Project {
    server: RedisServer,
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self { server: RedisServer::default(), folder: tempfile::tempdir().unwrap() };
        project.django("call_command('migrate', verbosity=0); tell('made')");
        project
    }

    fn environment(&self, command: &mut Command) {
        let of_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("beat");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.folder.path());
        command.env("DATABASE", self.folder.path().join("db.sqlite3")).env("BROKER", self.server.url(0));
        command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(of_tests).stdin(Stdio::null());
    }

    /// What Django answers.
    fn django(&self, code: &str) -> Json {
        let mut command = Command::new(python());
        self.environment(&mut command);
        let ran = command.arg("-c").arg(format!("{BEFORE}{code}")).output().unwrap();
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        serde_json::from_str(out.trim()).unwrap_or_else(|_| panic!("{code}:\n{out}\n{errors}"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    fn beat(&self, name: &str) -> Process {
        let mut command = node().command();
        self.environment(&mut command);
        command.args(["-A", "tables_app", "beat", "-n", name, "--listen", "127.0.0.1:0", "--python"]).arg(python());
        let log = std::fs::File::options().create(true).append(true).open(self.log(name)).unwrap();
        Process(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn leader(&self) -> Option<String> {
        let leader: Option<String> = self.server.ask(&["GET", "umbel:beat:leader"]);
        leader.and_then(|leader| leader.split_once(' ').map(|(_, node)| node.to_owned()))
    }

    /// Every message of an entry is that of one of its due times, and there are as many as the mark has counted.
    fn assert_once_each(&self, name: &str, every: i64, queues: &[&str]) {
        let (due, runs, found) = until("a tick is whole", || {
            let (due, runs) = mark(&self.server, name)?;
            let found: Vec<String> = queues.iter().flat_map(|queue| sent(&self.server, queue)).map(|message| message.id).collect();
            (found.len() == runs).then_some((due, runs, found))
        });
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(distinct.len(), runs, "{name}: a due time was sent twice");
        let times: BTreeSet<String> = (0..2_000).map(|back| tick_id(name, due - back * every).to_string()).collect();
        assert!(found.iter().all(|id| times.contains(id)), "{name}: something was sent that was not due");
    }
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/django-beat/bin/python")
}

/// Goal: rows are sent by one of several nodes, once each, with all they say; the rows are told of it; a change is followed; when
/// the leader is killed, another goes on; what is off, over, expired or wrong is not sent.
#[test]
fn rows_are_sent_changed_and_told() {
    let project = Project::new();
    let server = &project.server;
    let began = project.django(
        r#"
PeriodicTask.objects.create(name="fast", task="proj.fast", interval=every(1), queue="fast", args='[1, "two"]', kwargs='{"x": 2}',
                            headers='{"mine": 1}', expire_seconds=60)
PeriodicTask.objects.create(name="once", task="proj.once", clocked=ClockedSchedule.objects.create(clocked_time=now()), one_off=True, queue="once", priority=3)
PeriodicTask.objects.create(name="off", task="proj.off", interval=every(1), queue="off", enabled=False)
PeriodicTask.objects.create(name="expired", task="proj.off", interval=every(1), queue="off", expires=now() - timedelta(seconds=5))
PeriodicTask.objects.create(name="wrong", task="proj.off", interval=every(1), queue="off", args="[")
tokyo = CrontabSchedule.objects.create(minute="0", hour="4", timezone="Asia/Tokyo")
PeriodicTask.objects.create(name="nightly", task="proj.nightly", crontab=tokyo)
sun = SolarSchedule.objects.create(event="sunset", latitude=52.5, longitude=13.4)
PeriodicTask.objects.create(name="evening", task="proj.evening", solar=sun)
last = now() - timedelta(seconds=600)
PeriodicTask.objects.create(name="left", task="proj.left", interval=every(3600), queue="left", last_run_at=last, total_run_count=500)
tell(int(last.timestamp() * 1000))
"#,
    );
    let names = ["one@test", "two@test", "three@test"];
    let mut nodes: Vec<(&str, Process)> = names.into_iter().map(|name| (name, project.beat(name))).collect();
    let first = until("a row is sent", || sent(server, "fast").into_iter().next());
    assert_eq!((&first.headers["task"], &first.headers["argsrepr"]), (&"proj.fast".into(), &"(1, 'two')".into()));
    assert_eq!((&first.headers["kwargsrepr"], &first.headers["mine"]), (&"{'x': 2}".into(), &1.into()));
    assert_eq!(first.headers["periodic_task_name"], "fast");
    assert!(first.headers["expires"].is_string(), "{}", first.headers);
    until("the clocked one is sent", || sent(server, ONCE).into_iter().next());
    // Where another beat left it: not counted anew, and not due before its hour is over.
    let left = until("the one that ran before is known", || mark(server, "left").filter(|(_, runs)| *runs > 0));
    assert_eq!(json!([left.0, left.1]), json!([began, 500]));
    assert!(mark(server, "nightly").is_some() && mark(server, "evening").is_some() && mark(server, "off").is_none());

    let rows = "tell({row.name: [row.enabled, row.total_run_count, row.last_run_at] for row in PeriodicTask.objects.all()})";
    let told = until("the rows are told", || {
        let told = project.django(rows);
        (told["fast"][1].as_i64() > Some(1) && told["once"][0] == false).then_some(told)
    });
    assert!(told["fast"][2].is_string(), "{told}");
    assert_eq!((&told["expired"][0], &told["left"][1]), (&Json::Bool(false), &500.into()));
    assert!(told["of-the-app"].is_array() && told["celery.backend_cleanup"].is_array(), "{told}");

    project.django("row = PeriodicTask.objects.get(name='fast'); row.queue = 'moved'; row.save(); tell('saved')");
    until("the change is followed", || sent(server, "moved").into_iter().next());

    let killed = until("somebody leads", || project.leader());
    nodes.retain(|(name, _)| *name != killed);
    assert_eq!(nodes.len(), 2);
    until("another leads", || project.leader().filter(|leader| *leader != killed));
    let runs = mark(server, "fast").unwrap().1;
    until("it goes on", || mark(server, "fast").filter(|(_, now)| *now > runs + 1));
    until("the rows are told by it", || {
        let told = project.django("tell(PeriodicTask.objects.get(name='fast').total_run_count)");
        (told.as_u64() > Some(runs as u64)).then_some(())
    });
    project.django("PeriodicTask.objects.get(name='fast').delete(); tell('gone')");
    // The count goes with the entry.
    let last = until("the last is known", || {
        let before = mark(server, "fast");
        let found: BTreeSet<String> = ["fast", "moved"].iter().flat_map(|queue| sent(server, queue)).map(|message| message.id).collect();
        before.is_none().then_some(found)
    });
    let all = ["fast", "moved"].iter().map(|queue| sent(server, queue).len()).sum::<usize>();
    assert_eq!(last.len(), all, "a due time was sent twice");
    assert!(all > runs, "{all} of at least {runs}");
    assert_eq!((sent(server, ONCE).len(), sent(server, "off").len()), (1, 0));
    let logs: String = names.iter().map(|name| std::fs::read_to_string(project.log(name)).unwrap()).collect();
    assert!(logs.contains("\"wrong\"") || logs.contains("'wrong'"), "the wrong row is named:\n{logs}");
}

/// Goal: while the database is away, what it said last is sent; and each due time is sent once while nodes come and go.
#[test]
fn an_outage_of_the_database_stops_nothing() {
    let project = Project::new();
    let server = &project.server;
    project.django("PeriodicTask.objects.create(name='fast', task='proj.fast', interval=every(1), queue='fast'); tell('made')");
    let first = project.beat("one@test");
    until("a row is sent", || sent(server, "fast").into_iter().next());
    let (file, aside) = (project.folder.path().join("db.sqlite3"), project.folder.path().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    until("it is told", || std::fs::read_to_string(project.log("one@test")).ok().filter(|log| log.contains("cannot be asked")));
    let runs = mark(server, "fast").unwrap().1;
    until("it goes on", || mark(server, "fast").filter(|(_, now)| *now > runs + 1));
    // Another one that has never seen the rows.
    drop(first);
    let _second = project.beat("two@test");
    let runs = mark(server, "fast").unwrap().1;
    until("the other goes on", || mark(server, "fast").filter(|(_, now)| *now > runs + 1));
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    until("the row is told", || {
        let told = project.django("tell(PeriodicTask.objects.get(name='fast').total_run_count)");
        (told.as_u64() > Some(runs as u64)).then_some(())
    });
    project.assert_once_each("fast", 1_000, &["fast"]);
}

/// Goal: a scheduler that only Celery can run, and tables that are not there, are refused with what to do.
#[test]
fn what_cannot_be_a_source_is_refused() {
    let server = RedisServer::default();
    let folder = tempfile::tempdir().unwrap();
    for (scheduler, said) in [("redbeat.RedBeatScheduler", "only Celery's beat can run"), ("django", "through an application")] {
        let ran = node().args(["-b", &server.url(0), "beat", "-S", scheduler]).env("HOME", folder.path()).within(folder.path()).run();
        assert!(ran.code == Some(2) && ran.stderr.contains(said), "{scheduler}: {}", ran.stderr);
    }
}
