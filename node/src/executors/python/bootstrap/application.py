"""The application: found and loaded as `celery -A` does it, and a worker's signals for those who listen to them."""

import logging
import os
import signal
import sys
import time

from celery import concurrency, platforms, signals
from celery.app import trace
from celery.app.utils import find_app
from celery.utils.nodenames import worker_direct

# How long that may take, in seconds: a node that starts in an outage goes on without.
DECLARE_WITHIN = 10

# As `mod.rs` has it.
THREADS = "threads", "gevent", "eventlet"


def pool(app):
    """Celery's name of the pool that the application asks for."""
    wanted = app.conf.worker_pool
    names = [name for name, implementation in concurrency.ALIASES.items() if wanted in (name, implementation)]
    return names[0] if names else "prefork"


class Worker:
    """What receivers of a worker's signals get as their sender: the parts of `celery.apps.worker.Worker` they look at."""

    def __init__(self, app, start):
        self.app = app
        self.hostname = start["hostname"]
        self.concurrency = start["concurrency"]
        threads = (start["pool"] or pool(app)) in THREADS
        self.pool_cls = concurrency.get_implementation("threads" if threads else "prefork")
        self.loglevel = start["loglevel"]
        self.logfile = None
        self.options = {}
        self.pool = self.consumer = None
        self.own_queues = []
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
    queues = app.amqp.queues
    known = set(queues)
    if app.conf.worker_direct:
        queues.select_add(worker_direct(hostname))
    signals.celeryd_after_setup.send(sender=hostname, instance=worker, conf=app.conf)
    # What is taken from besides what the node is told to.
    worker.own_queues = [name for name in queues.consume_from if name not in known]
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


def declare(app, own):
    """Declares the queues of `task_queues`, and its `own`, that have exchanges, bindings or arguments of their own, as a worker does when
    it begins to consume: the node takes queues as it finds them, and would make plain ones. Where the broker is away, that is what it
    does. A process of its own does it, which can be ended, and whose connection nobody inherits."""
    wanted = [queue for name, queue in app.amqp.queues.items() if app.conf.task_queues or name in own]
    queues = [queue for queue in wanted if not is_plain(queue)]
    if not queues:
        return
    pid = os.fork()
    if pid == 0:
        try:
            with app.connection_for_write() as connection:
                for queue in queues:
                    queue(connection.default_channel).declare()
        except BaseException as error:
            not_declared(queues, "%s: %s" % (type(error).__name__, error))
        finally:
            os._exit(0)
    until = time.monotonic() + DECLARE_WITHIN
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            not_declared(queues, "the broker did not answer within %s seconds" % DECLARE_WITHIN)
            return
        time.sleep(0.005)


def not_declared(queues, why):
    names = ", ".join(queue.name for queue in queues)
    logging.getLogger("celery").warning("these queues could not be declared as task_queues has them: %s (%s)", names, why)


def is_plain(queue):
    """Whether a queue is as the node makes them: bound to a direct exchange of its name, by its name."""
    exchange = queue.exchange
    bound = exchange is None or not exchange.name or (exchange.name == queue.name and exchange.type == "direct")
    more = queue.queue_arguments or queue.bindings or queue.max_priority or queue.max_length or queue.message_ttl or queue.expires
    return bound and queue.routing_key in (None, "", queue.name) and not more and queue.durable and not queue.auto_delete


def after_fork(app):
    """What `celery.concurrency.prefork.process_initializer` does in a new process."""
    from celery._state import _set_task_join_will_block

    _set_task_join_will_block(True)
    app._after_fork()
    app.set_current()
    app.set_default()
    trace._tasks = app._tasks
    app.loader.init_worker_process()


def prepares():
    """Whether the application itself listens to `worker_process_init`."""
    receivers = signals.worker_process_init._live_receivers(None)
    return any(not (getattr(receiver, "__module__", None) or "").startswith("celery.") for receiver in receivers)
