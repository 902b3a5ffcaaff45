"""A pytest plugin that gives Celery's integration suite a worker in another process.

The suite runs its tests against a worker in a thread of its own process, made by the fixture `celery_session_worker`. Here the
fixture stands for a program: this plugin starts it, watches it, and replaces what the suite looks up in its own process by what the
program says of itself. No assertion is relaxed; what is replaced:

* `manager.wait_until_idle` asks this one worker, and takes its first answer;
* `os.getpid` and `NODENAME` of `test_inspect` are the program's;
* `worker.state.successful_requests` is what the program's events say;
* `worker.state.revoked_stamps.clear()` starts the program anew on an empty broker: it has no other memory to clear;
* `SOLO` tests get a worker with one process, as the suite's own has.

The variable SUITE names a JSON file with the session: `worker` and `solo` (command lines), `hostname`, `broker`, `backend`,
`ids` (tests to run, in order), `seconds` (for one test), `records` (a file to append to), `log` (of the worker).

Each record is a line of JSON: `{"collected": [id]}` when that is all that is asked for, `{"worker": pid}` when one is started, `{"begun": id}`, `{"ended": id, "outcome", "seconds", "why"}`.
"""

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

import celery.contrib.pytest
import pytest
from celery import Celery
from celery.contrib.testing import manager as testing_manager
from celery.result import _set_task_join_will_block
from celery.worker import state

with open(os.environ["SUITE"], encoding="utf-8") as file:
    SESSION = json.load(file)

HOSTNAME = SESSION["hostname"]

# One asks for a pool of one process, the other counts its attempts in the memory of the process that runs it.
SOLO = ("::test_Inspect::test_stats", "::test_tasks::test_retry")

# Seconds until a worker that was asked to stop is killed, and until one that is busy is taken for stuck.
STOP = 15
IDLE = 30
START = 40


def tell(**record):
    with open(SESSION["records"], "a", encoding="utf-8") as records:
        records.write(json.dumps(record) + "\n")


class Clock:
    """Ends a test that takes too long. It rings again and again, because a subtest swallows what is raised in it."""

    def __init__(self):
        self.left = 0.0

    @contextmanager
    def running(self, seconds):
        signal.signal(signal.SIGALRM, self.ring)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1), 2)
        try:
            yield
        finally:
            self.left = signal.setitimer(signal.ITIMER_REAL, 0)[0]

    @contextmanager
    def stopped(self):
        left, again = signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, left, again)

    @staticmethod
    def ring(*_):
        pytest.fail("the test took too long")


CLOCK = Clock()


class Worker:
    """The program under test."""

    def __init__(self):
        self.process = None
        self.solo = False
        self.succeeded = set()
        self.app = self.client()
        threading.Thread(target=self.listen, daemon=True).start()

    @staticmethod
    def client():
        """An application that shares nothing with the tests'."""
        app = Celery("observer", broker=SESSION["broker"], backend=SESSION["backend"], set_as_current=False)
        app.conf.broker_connection_timeout = 2
        return app

    @property
    def pid(self):
        return self.process.pid if self.process else 0

    def start(self):
        command = SESSION["solo" if self.solo else "worker"]
        with open(SESSION["log"], "ab") as log:
            begun = log.tell()
            # A process group of its own, so that all of it can be killed.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        tell(worker=self.pid)
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.process.poll() is None:
            # A worker without remote control says so at least.
            if self.ask("ping", 0.5) or self.says_ready(begun):
                self.aside(lambda app: app.control.enable_events(destination=[HOSTNAME]), 10)
                return
        tell(trouble=f"not ready, exit {self.process.poll()}")

    @staticmethod
    def says_ready(begun):
        with open(SESSION["log"], "rb") as log:
            log.seek(begun)
            return f"{HOSTNAME} ready.".encode() in log.read()

    def stop(self, gently=True):
        if self.process is None:
            return
        if gently and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP)
            except subprocess.TimeoutExpired:
                tell(trouble="did not stop when it was asked to")
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def restart(self, why, clean=False, gently=True):
        with CLOCK.stopped():
            tell(restart=why)
            self.stop(gently)
            if clean:
                self.wipe()
            self.start()

    def prepare(self, test):
        """Makes it what `test` needs."""
        solo = test.endswith(SOLO)
        if solo != self.solo:
            self.solo = solo
            self.restart(f"{'one process' if solo else 'all processes'} for {test}")
        elif self.process.poll() is not None:
            self.restart(f"it was dead, exit {self.process.returncode}", clean=True)

    def wipe(self):
        """What a stuck test left must not trouble the next one."""
        from t.integration.tasks import get_redis_connection

        self.purge()
        if SESSION["broker"].startswith("amqp"):
            # What nodes on RabbitMQ know of revocations, and what they gave back when they ended; with Redis it is flushed.
            for queue in ("umbel.state", "umbel.front.celery"):
                self.aside(lambda app, queue=queue: self.forget(app, queue), 10)
        with get_redis_connection() as connection:
            # The queue of the one who listens to events here stays bound.
            bound = {key: connection.smembers(key) for key in connection.keys("_kombu.binding.celeryev*")}
            connection.flushall()
            for key, members in bound.items():
                connection.sadd(key, *members)

    @staticmethod
    def forget(app, queue):
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue)

    def purge(self):
        return self.aside(lambda app: app.control.purge(), 10) or 0

    def ask(self, question, seconds=1.0):
        """What the worker answers to one question of `inspect`; None when it does not."""

        def inspect(app):
            return app.control.inspect(destination=[HOSTNAME], timeout=seconds, limit=1)._request(question)

        return (self.aside(inspect, seconds + 10) or {}).get(HOSTNAME)

    def aside(self, function, seconds):
        """Calls `function` in a thread of its own, where the clock's signal cannot break a connection half-way."""
        answers = []

        def call(app):
            try:
                answers.append(function(app))
            except Exception as error:  # noqa: BLE001 whatever it is, it is the worker's or the broker's trouble
                tell(trouble=repr(error))

        thread = threading.Thread(target=call, args=[self.app], daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self.app = self.client()
        return answers[0] if answers else None

    def listen(self):
        """Follows the events, to know what has succeeded."""
        while True:
            try:
                app = self.client()
                with app.connection_for_read() as connection:
                    handlers = {"task-succeeded": lambda event: self.succeeded.add(event["uuid"])}
                    app.events.Receiver(connection, handlers=handlers).capture(wakeup=False)
            except Exception as error:  # noqa: BLE001 the broker may be wiped or gone for a while
                tell(trouble=f"events: {error!r}")
                time.sleep(0.5)

    def wait_until_idle(self):
        while self.purge():
            pass
        deadline = time.monotonic() + IDLE
        while time.monotonic() < deadline:
            active = self.ask("active")
            reserved = [] if active is None else self.ask("reserved")
            if not active and not reserved:
                return
        names = sorted({task.get("name", "?") for task in [*active, *(reserved or [])]})
        self.restart(f"busy for {IDLE} s with {names}", clean=True, gently=False)


WORKER = None


class StandIn:
    """What the suite gets instead of its worker."""

    hostname = HOSTNAME


@pytest.fixture(scope="session")
def celery_session_worker(celery_session_app, celery_includes, celery_class_tasks):
    """The suite's own fixture without the worker: what it does for the clients in this process remains."""
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for task in celery_class_tasks:
        celery_session_app.register_task(task)
    celery_session_app.finalize()
    celery_session_app.set_current()
    celery_session_app.set_default()
    yield StandIn()


celery.contrib.pytest.celery_session_worker = celery_session_worker


class Succeeded(set):
    def __contains__(self, task):
        return task in WORKER.succeeded


class RevokedStamps(dict):
    def clear(self):
        super().clear()
        WORKER.restart("the revoked stamps are to be forgotten", clean=True)


class Os:
    """The module, with another idea of who it is."""

    def __getattr__(self, name):
        return getattr(os, name)

    @staticmethod
    def getpid():
        return WORKER.pid


testing_manager.ManagerMixin.wait_until_idle = lambda _: WORKER.wait_until_idle()
state.successful_requests = Succeeded()
state.revoked_stamps = RevokedStamps()


def pytest_collection_modifyitems(config, items):
    if config.option.collectonly:
        tell(collected=[item.nodeid for item in items])
        return
    found = {item.nodeid: item for item in items}
    # The worker is changed once only.
    items[:] = [found[test] for test in sorted(SESSION["ids"], key=lambda test: test.endswith(SOLO))]
    for item in items:
        if item.module.__name__.endswith("test_inspect"):
            item.module.NODENAME = HOSTNAME
            item.module.os = Os()


def pytest_sessionstart(session):
    global WORKER
    if not session.config.option.collectonly:
        WORKER = Worker()
        WORKER.start()


def pytest_sessionfinish():
    if WORKER:
        WORKER.stop()


def seconds(item):
    """A test's own limit counts, with room for a worker that is started anew meanwhile."""
    mark = item.get_closest_marker("timeout")
    own = (mark.args or [mark.kwargs.get("timeout")])[0] if mark else None
    return min(SESSION["seconds"], own + 30) if own else SESSION["seconds"]


RUN = {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    WORKER.prepare(item.nodeid)
    RUN.update(outcome=None, why="")
    begun = time.monotonic()
    tell(begun=item.nodeid)
    try:
        return (yield)
    finally:
        tell(ended=item.nodeid, outcome=RUN["outcome"], seconds=round(time.monotonic() - begun, 2), why=RUN["why"])
        if RUN["outcome"] == "failed" and "took too long" in RUN["why"]:
            WORKER.restart("it may be stuck", clean=True, gently=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    # A test that makes a worker object of its own forbids waiting for results in this process.
    _set_task_join_will_block(False)
    with CLOCK.running(seconds(item)):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item):
    with CLOCK.running(CLOCK.left):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    with CLOCK.running(IDLE + 30):
        return (yield)


def pytest_runtest_logreport(report):
    expected = hasattr(report, "wasxfail")
    text = report.longreprtext
    if report.failed and text.startswith("[XPASS(strict)]"):
        # Celery's worker is known to fail it.
        RUN["outcome"] = RUN["outcome"] or "passed"
    elif report.failed:
        RUN["outcome"] = "failed"
        # A long report is told by its first error.
        errors = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
        RUN["why"] = RUN["why"] or (errors or text.splitlines() or [""])[0][:300]
    elif RUN["outcome"] is None and report.skipped:
        RUN["outcome"] = "expected to fail" if expected else "skipped"
        RUN["why"] = report.wasxfail if expected else str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
    elif RUN["outcome"] is None and report.passed and report.when == "call":
        RUN["outcome"] = "passed"
