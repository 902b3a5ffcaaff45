"""What a Celery worker does in its main process about a task's request: the hooks of `Task.Request`, and word of runs that were killed.

A node has no Python in its own process, so a process that runs tasks does it: the task's own, before its end is told; where that was
killed or has died, the one that takes its place. Acknowledging, results and events are the node's: what the hooks of
`celery.worker.request.Request` do about them is left out, so that `super()` may be called as ever.
"""

import logging
import os
import time

import celery
from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery.app import trace
from celery.exceptions import Retry, TimeLimitExceeded, WorkerLostError
from celery.utils.imports import symbol_by_name
from kombu.utils.json import dumps as json_dumps

from umbel_bootstrap import delegate, tracer, wire

logger = logging.getLogger("celery.worker.request")

CELERYS = "celery.worker.request:Request"

# Since 5.7 a hard limit is a task's failure like another (`celery/worker/request.py::on_timeout`).
LIMITS_FAIL = tuple(int(part) for part in celery.__version__.split(".")[:2]) >= (5, 7)

# Of `billiard.einfo`, whose older versions have none.
WRAPPER = "ExceptionWithTraceback"

own = {}


class Message:
    """The parts of a message that a request looks at."""

    __slots__ = ("body", "content_encoding", "content_type", "delivery_info", "headers", "payload", "properties")


def class_of(task):
    """The task's own class of requests; `None` where it has Celery's."""
    try:
        return own[task.name]
    except KeyError:
        pass
    found = None
    if task.Request != CELERYS:
        from celery.worker.request import Request

        wanted = symbol_by_name(task.Request)
        if wanted is not Request:
            leave_to_the_node(Request)
            found = wanted
    own[task.name] = found
    return found


def leave_to_the_node(request):
    """Takes out of Celery's class what is the node's."""
    request.on_accepted, request.on_timeout = on_accepted, on_timeout
    request.on_failure, request.on_retry = on_failure, on_retry
    request.acknowledge = request.reject = request.send_event = lambda self, *args, **kwargs: None


def on_accepted(self, pid, time_accepted):
    self.worker_pid = pid
    self.time_start = time.time() - (time.monotonic() - time_accepted)


def on_retry(self, exc_info):
    del exc_info


def on_failure(self, exc_info, send_failed_event=True, return_ok=False):
    del send_failed_event, return_ok
    exc = unwrapped(exc_info)
    if isinstance(exc, Retry):
        self.on_retry(exc_info)
    elif isinstance(exc, WorkerLostError):
        tell_of_loss(self.task, self._context, exc_info)


def on_timeout(self, soft, timeout):
    if soft:
        logger.warning("Soft time limit (%ss) exceeded for %s[%s]", timeout, self.name, self.id)
    else:
        tell_of_limit(self.task, self._context, timeout)


def unwrapped(einfo):
    """The exception itself; newer billiards wrap it."""
    return getattr(einfo.exception, "exc", einfo.exception) if type(einfo.exception).__name__ == WRAPPER else einfo.exception


def make(cls, app, hostname, head, headers, payload, body):
    """A request as `celery/worker/strategy.py` makes it."""
    message = Message()
    message.headers, message.properties, message.body, message.payload = headers, head["properties"], payload, body
    message.delivery_info = head["properties"].get("delivery_info") or {}
    message.content_type, message.content_encoding = head["content_type"], head["content_encoding"]
    return cls(message, app=app, hostname=hostname, task=app.tasks[headers["task"]])


def accepted(run):
    """A run begins."""
    tracer.guard(run.request.on_accepted, os.getpid(), time.monotonic())


def ended(run, ending):
    """A run has ended, and its end is not told yet. Of a success a worker calls no hook but Celery's own (`create_request_cls`)."""
    exc = ending.retval
    if isinstance(exc, BaseException) and ending.state != states.SUCCESS:
        einfo = ExceptionInfo((type(exc), exc, exc.__traceback__))
        # Without what it is wrapped in on its way between two processes.
        einfo.exception = exc
        tracer.guard(run.request.on_failure, einfo, return_ok=True)


def soft_limit(run):
    """The run's soft limit has passed; it will hear of it next."""
    seconds = run.request.time_limits[1] or run.task.soft_time_limit
    tracer.guard(run.request.on_timeout, True, seconds)


def lost(host, head, payload):
    """Another process has run this and was killed at a hard limit, or has died."""
    how = head["lost"]
    try:
        run, (_, args, kwargs, request) = host.prepare(head, payload)
        context = tracer.make_context(request, args, kwargs)
        run.task.request_stack.push(context)
        try:
            tell(run, context, how)
        finally:
            run.task.request_stack.pop()
    except Exception:
        logger.exception("the loss of a task could not be told")


def tell(run, context, how):
    """Calls the hook of the task's own class of requests, which calls Celery's; or does what Celery's does."""
    if how["limit"] is not None:
        # As it was written: 1, not 1.0.
        seconds = (context.timelimit or (None,))[0] or run.task.time_limit or how["limit"]
        if run.request is None:
            tell_of_limit(run.task, context, seconds)
        else:
            # Both, in this order (`billiard/pool.py::on_hard_timeout`).
            run.request.on_failure(info(TimeLimitExceeded(seconds)))
            run.request.on_timeout(False, seconds)
    else:
        einfo = info(WorkerLostError("Worker exited prematurely: " + how["detail"]))
        if run.request is None:
            tell_of_loss(run.task, context, einfo)
        else:
            run.request.on_failure(einfo)


def info(exc):
    """What is known of an exception that nobody has raised."""
    try:
        raise exc
    except type(exc):
        return ExceptionInfo()


def tell_of_limit(task, context, seconds):
    """A hard limit, to those who listen (`celery/worker/request.py::on_timeout`)."""
    logger.error("Hard time limit (%ss) exceeded for %s[%s]", seconds, task.name, context.id)
    exc = TimeLimitExceeded(seconds)
    einfo = info(exc)
    if LIMITS_FAIL:
        tracer.guard(task.on_failure, exc, context.id, context.args, context.kwargs, einfo)
        if trace.task_has_custom(task, "after_return"):
            tracer.guard(task.after_return, states.FAILURE, exc, context.id, context.args, context.kwargs, None)
    send_failure(task, context, exc, einfo)


def tell_of_loss(task, context, einfo):
    """A process that has died under a task, likewise (`on_failure`); one that runs again has not failed."""
    if not (task.acks_late and task.reject_on_worker_lost):
        send_failure(task, context, unwrapped(einfo), einfo)


def tell_of_escape(task, call, exc):
    """A task has raised what is no `Exception`, likewise."""
    context = tracer.make_context(call[3], call[1], call[2])
    task.request_stack.push(context)
    try:
        send_failure(task, context, exc, ExceptionInfo((type(exc), exc, exc.__traceback__)))
    finally:
        task.request_stack.pop()


def send_failure(task, context, exc, einfo):
    signals.task_failure.send(
        sender=task, task_id=context.id, exception=exc, args=context.args, kwargs=context.kwargs, traceback=exc.__traceback__, einfo=einfo
    )


def decided(host, head, payload):
    """The node has ended a task whose processes tell nothing of that: stores it where only Python can, and tells those who listen. What
    goes wrong with storing it is the answer, and the node asks again; all else happens once."""
    how, headers, properties = head["decided"], head["headers"], head["properties"]
    task = host.tasks.get(headers["task"])
    try:
        _, call = host.prepare(head, payload)
    except Exception:
        # Nobody can read its arguments, or knows it: that is no reason to keep its end from those who wait for it.
        sender = {name: properties.get(name) for name in ("reply_to", "correlation_id")}
        call = headers["id"], (), {}, dict(headers, args=(), kwargs={}, **sender)
    if task is None or host.delegates(task, head["content_type"]):
        backend = host.app.backend if task is None else task.backend
        try:
            delegate.store_end(task, backend, call, how)
        except Exception as exc:
            logger.debug("the end of a task could not be stored", exc_info=True)
            # What follows the first line may have the values in it.
            text = "%s: %s" % (type(exc).__name__, (str(exc).splitlines() or [""])[0][:300])
            return tracer.Ending("failure", states.FAILURE, exc, json_dumps(tracer.exception(RuntimeError(text))).encode(), traceback=None)
        host.channel.send(wire.CALLED, {"run": head["run"], "errback": 0})
        tracer.guard(delegate.after_end, backend, call, how)
    if task is not None and "reason" in how:
        tracer.guard(tell_of_revocation, task, call, how)
    return None


def tell_of_revocation(task, call, how):
    """`task_revoked`, as a worker sends it (`celery/worker/request.py::Request._announce_revoked`)."""
    context = tracer.make_context(call[3], call[1], call[2])
    signals.task_revoked.send(sender=task, request=context, terminated=how["terminated"], signum=how["signal"], expired=how["expired"])
