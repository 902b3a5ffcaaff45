"""The application: found and loaded as `celery -A` does it, and a worker's signals for those who listen to them."""

import logging
import os
import sys

from celery import concurrency, platforms, signals
from celery.app import trace
from celery.app.utils import find_app


class Worker:
    """What receivers of a worker's signals get as their sender: the parts of `celery.apps.worker.Worker` they look at."""

    def __init__(self, app, start):
        self.app = app
        self.hostname = start["hostname"]
        self.concurrency = start["concurrency"]
        self.pool_cls = concurrency.get_implementation(start["pool"])
        self.loglevel = start["loglevel"]
        self.logfile = None
        self.options = {}
        self.pool = self.consumer = None
        self.pid = os.getppid()


def find(start):
    """The application that `-A` names; Celery's own errors when there is none."""
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    app = find_app(start["app"])
    for name, value in start["settings"]:
        app.conf[name] = value
    return app


def load(app, start, set_up_logs):
    """Everything a worker does before it takes work (`celery/worker/worker.py`, `celery/apps/worker.py`)."""
    hostname = start["hostname"]
    app.loader.init_worker()
    trace.setup_worker_optimizations(app, hostname)
    worker = Worker(app, start)
    signals.celeryd_init.send(sender=hostname, instance=worker, conf=app.conf, options=worker.options)
    platforms.check_privileges(app.conf.accept_content)
    signals.worker_init.send(sender=worker)
    set_up_logs()
    trace.setup_worker_optimizations(app, hostname)
    signals.celeryd_after_setup.send(sender=hostname, instance=worker, conf=app.conf)
    app.finalize()
    # Where its tasks are, as `celery/worker/worker.py::setup_includes` writes it down.
    app.conf.include = sorted({*app.conf.include, *(type(task).__module__ for task in app.tasks.values())})
    # Another process has written the tracers of this one's tasks, if any.
    for task in app.tasks.values():
        task.__trace__ = None
    tell_of_extensions(app)
    return worker


def tell_of_extensions(app):
    """Parts of a worker that an application brings along, and that do nothing here."""
    steps = [getattr(step, "__name__", repr(step)) for name in ("worker", "consumer") for step in app.steps[name]]
    control = sys.modules.get("celery.worker.control")
    commands = control.Panel.data.items() if control else ()
    own = [name for name, command in commands if not command.__module__.startswith("celery.")]
    for what, names in (("bootsteps", steps), ("commands of remote control", own)):
        if names:
            logging.getLogger("celery").warning("%s of the application do nothing in a node: %s", what, ", ".join(sorted(names)))


def after_fork(app):
    """What `celery.concurrency.prefork.process_initializer` does in a new process."""
    from celery._state import _set_task_join_will_block

    _set_task_join_will_block(True)
    app._after_fork()
    app.set_current()
    app.set_default()
    trace._tasks = app._tasks
    app.loader.init_worker_process()
