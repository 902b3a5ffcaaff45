"""A process that runs tasks: from a frame of the node to a task's call, and back.

Forked from the template, with two sockets and a pipe of its own. One socket brings runs, also while one is under way, so that
the next begins at once; the other takes endings. The pipe brings orders (soft limits) to the main thread while that is busy
with a task: the node writes the run's number into it and sends SIGUSR1, and the handler acts only if that run is still the one
that runs, so that no other task gets an exception that was meant for the last.
"""

import multiprocessing.process
import os
import resource
import signal
import struct
import sys
import time
import traceback

import billiard.process
from billiard.exceptions import SoftTimeLimitExceeded
from celery import signals, states
from celery.app import trace
from celery.exceptions import WorkerLostError
from kombu.serialization import prepare_accept_content
from kombu.utils.json import dumps as json_dumps

from umbel_bootstrap import codec, delegate, requests, tracer, wire

ORDER = struct.Struct(">Q")

# The head of a success that has nothing but a value.
PLAIN = b'{"outcome":"success","content_type":"' + codec.JSON.encode() + b'","run":%d,"took":%b}'


def internal_error(task, task_id, args, kwargs, request, exc):
    """Tells those who listen to `task_internal_error`."""
    if signals.task_internal_error.receivers:
        try:
            raise exc
        except Exception:
            trace._signal_internal_error(task, task_id, args, kwargs, request, exc)


def sit(slot):
    """What a task finds by `current_process()`, of billiard and multiprocessing: by its `index` some choose a device, a port or a file."""
    for module in (billiard.process, multiprocessing.process):
        process = module.current_process()
        process.name, process.index = "ForkPoolWorker-%d" % (slot + 1), slot


class Run:
    """One run of one task."""

    __slots__ = ("attempt", "begun", "delegated", "failed", "host", "id", "message", "number", "request", "retrying", "task")

    def __init__(self, number, task_id, task, host, delegated):
        self.number, self.id, self.task, self.host, self.delegated = number, task_id, task, host, delegated
        self.attempt = self.retrying = self.request = None
        # Its arguments as they came, where they are all there is: a task may change those that it is called with.
        self.message = None
        # Whether its function is called, for a pool that wants to know.
        self.begun = delegated
        # Whether its soft limit is not for what comes now: its ending is about to be stored, or a hook is called.
        self.failed = False


class Host:
    """The process: what it is told, what it runs, what it tells."""

    def __init__(self, app, channel, runs, orders, start):
        self.app, self.channel, self.runs, self.orders = app, channel, runs, orders
        self.hostname = start["hostname"]
        self.keeps_states = start["keeps_states"]
        self.delegates = start["delegates"]
        self.accept = prepare_accept_content(app.conf.accept_content)
        self.tasks = app._tasks
        self.current = None
        self.told = set()
        # Whether the run has told of more than its end: what follows goes the same way, so as not to overtake it.
        self.spoke = False
        # Whether this process may run no more.
        self.spent = False
        # Whether whoever runs a task runs others after it: a process, a thread.
        self.keeps_stacks = True
        # What is called in the place of a task's function, for a pool that wants to know when that begins.
        self.beginning = None
        self.left = app.conf.worker_max_tasks_per_child or start.get("max_tasks_per_child")
        self.memory_kib = app.conf.worker_max_memory_per_child or start.get("max_memory_per_child")

    # Runs

    def prepare(self, head, payload):
        """A task's call from a frame: `(run, tracer, (id, args, kwargs, request))`; raises what is wrong with the message."""
        headers, properties = head["headers"], head["properties"]
        name, task_id = headers["task"], headers["id"]
        # What a ledger writes on what it sends is no header of the user's.
        headers.pop("umbel_copy", None)
        args, kwargs, embed = codec.loads(payload, head["content_type"], head["content_encoding"], self.accept)
        kwargs.items  # noqa: B018  Celery's own check that it is a mapping
        task = self.tasks[name]
        own_request = requests.class_of(task)
        if own_request is not None:
            own_request = requests.make(own_request, self.app, self.hostname, head, dict(headers), payload, (args, kwargs, embed))
        failed = headers.pop("umbel_failed", None)
        if failed:
            args = [*tracer.of_failure(task, failed), *args]
        delivery = properties.get("delivery_info") or {}
        request = headers
        request["headers"] = tracer.custom_headers(headers)
        request.update(
            properties=properties,
            reply_to=properties.get("reply_to"),
            correlation_id=properties.get("correlation_id"),
            hostname=self.hostname,
            is_eager=False,
            delivery_info={
                "exchange": delivery.get("exchange"),
                "routing_key": delivery.get("routing_key"),
                "priority": properties.get("priority"),
                "redelivered": delivery.get("redelivered", False),
            },
            args=args,
            kwargs=kwargs,
        )
        if embed:
            request.update(embed)
        run = Run(head["run"], task_id, task, self, self.delegates(task, head["content_type"]))
        run.request = own_request
        if not failed:
            run.message = payload, head["content_type"], head["content_encoding"], self.accept
        return run, (task_id, args, kwargs, request)

    def tracer_of(self, run):
        """The function that runs a task; made when it is first wanted, so that integrations set up meanwhile are part of it."""
        if run.delegated:
            return delegate.tracer_of(run.task, self.app, self.hostname)
        task = run.task
        if task.__trace__ is None:
            task.__trace__ = trace.build_tracer(task.name, task, self.app.loader, self.hostname, app=self.app)
        return task.__trace__

    def perform(self, head, payload):
        """Runs a task in this thread, to its `Ending`."""
        try:
            run, call = self.prepare(head, payload)
        except Exception as exc:
            return self.refused(head, exc)
        ending = None
        try:
            try:
                self.current = run
                ending = self.finish(run, call)
            finally:
                self.current = None
        except SoftTimeLimitExceeded as exc:
            # It passed between two steps of ours. An end that is known by then stands.
            if ending is None:
                ending = self.broken(exc, run, call)
        except (KeyboardInterrupt, SystemExit):
            # The end of this process.
            raise
        except BaseException as exc:
            # A process of the task's own does not end with it (billiard 4.3, `pool.py::Worker.workloop`).
            if ending is None:
                run.failed = True
                ending = self.escaped(exc, run, call)
        finally:
            self.current = None
        return ending

    def finish(self, run, call):
        """Calls a task, in whatever thread this is."""
        try:
            if run.request is not None:
                # A soft limit is not for the hook, which would keep it to itself.
                run.failed = True
                requests.accepted(run)
                run.failed = False
            if run.delegated:
                if run.number in self.told:
                    self.hurry(run)
                ending = delegate.run(self, run, call)
            else:
                call[3]["_umbel_run"] = run
                perform = self.tracer_of(run)
                # One that came before the run is raised where the task would begin.
                if self.beginning is not None:
                    ending = perform(*call, self.beginning(run))
                elif run.number in self.told:
                    ending = perform(*call, lambda *args, **kwargs: self.hurry(run))
                else:
                    ending = perform(*call)
        except Exception as exc:
            ending = self.broken(exc, run, call)
        if run.request is not None:
            run.failed = True
            requests.ended(run, ending)
        return ending

    def hurry(self, run):
        """Raises what a run hears of its soft limit."""
        self.told.discard(run.number)
        if run.request is not None:
            requests.soft_limit(run)
        raise SoftTimeLimitExceeded()

    def refused(self, head, exc):
        """A message that cannot be called at all."""
        if isinstance(exc, KeyError) and head["headers"]["task"] not in self.tasks:
            error = {"exc_type": "NotRegistered", "exc_message": [head["headers"]["task"]], "exc_module": "celery.exceptions"}
            return tracer.Ending("failure", None, payload=json_dumps(error).encode(), traceback=None)
        return tracer.Ending("reject", None, requeue=False, reason="%s: %s" % (type(exc).__name__, exc))

    def escaped(self, exc, run, call):
        """The task's failure by what is no `Exception`, in a process of its own: a worker tells those who listen of it, and calls no handler of
        the task's. Backends of applications know of exceptions alone before 5.7, and store it as a loss."""
        if run.delegated:
            return self.broken(exc, run, call)
        text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        ending = tracer.Ending("failure", states.FAILURE, exc, json_dumps(tracer.exception(exc)).encode(), traceback=text)
        if run.request is not None:
            requests.ended(run, ending)
        tracer.guard(requests.tell_of_escape, run.task, call, exc)
        return ending

    def broken(self, exc, run, call):
        """Something around the task failed, not the task: its failure all the same (`celery/app/trace.py::trace_task`). What is no
        `Exception` looks as if it had ended its process (`celery/concurrency/base.py::apply_target`)."""
        if isinstance(exc, Exception):
            tracer.guard(internal_error, run.task, *call, exc)
        else:
            exc = WorkerLostError(repr(exc)).with_traceback(exc.__traceback__)
        text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        ending = tracer.Ending("failure", None, payload=json_dumps(tracer.exception(exc)).encode(), traceback=text)
        if run.delegated:
            tracer.guard(delegate.fail, run.task, call, exc)
            ending.head["delegated"] = True
        return ending

    def pack(self, number, ending, begun=None):
        """The frame that tells the node how a run ended, and how long it took since then; one without an ending was ended by the node."""
        if ending is None:
            return wire.pack(wire.DONE, {"outcome": "ignore", "run": number})
        head, took = ending.head, None if begun is None else int((time.monotonic() - begun) * 1000000)
        if self.is_spent():
            head["retire"] = self.spent = True
        elif len(head) == 2 and head.get("content_type") == codec.JSON:
            # A plain success, as nearly all are.
            return wire.pack_bytes(wire.DONE, PLAIN % (number, b"null" if took is None else b"%d" % took), ending.payload)
        head["run"], head["took"] = number, took
        return wire.pack(wire.DONE, head, ending.payload)

    def progress(self, run, state, meta):
        """A state of the task's own."""
        self.spoke = True
        self.channel.send(wire.PROGRESS, {"run": run.number, "state": state}, json_dumps(meta).encode())

    def store(self, early):
        """Has the node store an ending; whether it has."""
        self.spoke = True
        self.channel.send(wire.EARLY, early.head, early.payload)
        while True:
            frame = self.channel.receive()
            if frame is None:
                return False
            kind, head, _ = frame
            if kind == wire.STORED and head["run"] == early.run.number:
                return head["stored"]

    def is_spent(self):
        """Whether this process has run as many tasks, or grown as large, as one may (`worker_max_*_per_child`)."""
        if self.left:
            self.left -= 1
            if self.left == 0:
                return True
        return bool(self.memory_kib) and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > self.memory_kib

    # Orders

    def listen(self):
        """From now on the node's orders are heard in the main thread."""
        os.set_blocking(self.orders, False)
        signal.signal(signal.SIGUSR1, self.ordered)

    def ordered(self, signum, frame):
        """SIGUSR1: reads which runs are to hurry, and raises in this one if it is among them."""
        try:
            data = os.read(self.orders, 4096)
        except OSError:
            data = b""
        for (number,) in ORDER.iter_unpack(data[: len(data) // ORDER.size * ORDER.size]):
            self.told.add(number)
        run = self.current
        if run is not None and run.number in self.told and not run.failed:
            self.hurry(run)
        if len(self.told) > 1000:
            self.told.clear()


def serve(host):
    """One task at a time, until the node lets go."""
    channel, runs = host.channel, host.runs
    frame = runs.wait()
    while frame is not None:
        kind, head, payload = frame
        number, begun, ending = head["run"], time.monotonic(), None
        if "slot" in head:
            # Of a process that was ready before it was known which slot it is for.
            sit(head["slot"])
        if kind == wire.RUN:
            ending = host.perform(head, payload)
        elif kind == wire.LOST:
            requests.lost(host, head, payload)
        elif kind == wire.DECIDED:
            ending = requests.decided(host, head, payload)
        host.told.discard(number)
        packed = host.pack(number, ending, begun)
        # The next one before the end of this one is told: where there is none, the node has to wake up for it.
        try:
            frame = None if host.spent else runs.look()
        except BaseException:
            # That one costs this process, and not the run before it its end.
            channel.send_packed(packed)
            raise
        if frame is None or host.spoke:
            channel.send_packed(packed)
        else:
            runs.tell(packed)
        host.spoke = False
        if frame is None and not host.spent:
            frame = runs.wait()


def main(app, channel, runs, orders, start, pool):
    """The life of a process that runs tasks."""
    host = Host(app, channel, runs, orders, start)
    host.listen()
    signals.worker_process_init.send(sender=None)
    channel.send(wire.READY, {"pid": os.getpid()})
    code = 0
    try:
        pool(host)
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        code = 1
    finally:
        goodbye(code)


def goodbye(code):
    """What a process does last: signals for those who buffer, and streams."""
    try:
        signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=code)
        sentry = sys.modules.get("sentry_sdk")
        if sentry is not None:
            sentry.flush(timeout=2)
    except Exception:
        traceback.print_exc(file=sys.__stderr__)
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(code)

