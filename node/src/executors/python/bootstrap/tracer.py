"""Runs one task as `celery/app/trace.py` does, up to the point where its end would be stored and sent on.

What user code can see is Celery's: the request, the signals, the handlers of the task class, in Celery's order. What follows from
the end of a run is told to the node, which stores results, sends successors and counts chords.

A tracer is a generator that stops where the task's function is to be called, so that functions, coroutines and functions on
threads go through the same code. It is given the function's value, or its exception, and returns an `Ending`. It stops once more, with an
`Early`, where handlers, signals or errbacks of the application are to be called, and is told whether the result is stored.
"""

import contextvars
import copyreg
import inspect
import logging
import sys
from datetime import timedelta, timezone
from functools import partial, wraps
from time import monotonic
from weakref import ref

from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded
from celery import signals, states
from celery._state import _task_stack
from celery.app import trace
from celery.app.task import Context
from celery.backends.base import Backend, DisabledBackend
from celery.exceptions import Ignore, NotRegistered, Reject, Retry
from celery.loaders.base import BaseLoader
from celery.result import ResultBase
from celery.utils.functional import arity_greater
from celery.utils.saferepr import saferepr
from celery.utils.serialization import ensure_serializable, get_pickleable_etype, get_pickleable_exception
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps as json_dumps

from umbel_bootstrap import codec, logs, takeover, wire

logger = logging.getLogger("celery.app.trace")

# 5.7's requests have them under their own names as well.
HAS_LIMITS = hasattr(Context, "time_limit")

# And 5.7's `task_success` tells how long a task took.
HAS_RUNTIME = "runtime" in signals.task_success.providing_args

clear_traceback = getattr(trace, "traceback_clear", lambda exc: None)

# The keys of a request that are no headers of the user's own (`celery/app/task.py::Context._get_custom_headers`).
OWN_KEYS = frozenset(Context.__dict__) | {"lang", "task", "argsrepr", "kwargsrepr", "compression"}


class Ending:
    """How a run ended: the head and the payload of the frame that tells the node."""

    __slots__ = ("head", "payload", "retval", "state")

    def __init__(self, kind, state, retval=None, payload=b"", **head):
        head["outcome"] = kind
        self.head, self.payload, self.state, self.retval = head, payload, state, retval


class Early:
    """An ending that is to be stored before the handlers, signals and errbacks that follow it here: they may look at it."""

    __slots__ = ("head", "payload", "run")

    def __init__(self, run, ending, **head):
        self.run, self.payload, self.head = run, ending.payload, {**ending.head, **head, "run": run.number}


# Who listens to signals and looks at no results: Celery's own fix-ups, and integrations that trace.
OBSERVERS = ("celery.fixups.", "umbel_bootstrap.", "sentry_sdk.", "opentelemetry.", "ddtrace.", "newrelic.")


def is_heard(signal):
    """Whether the application listens to a signal."""
    for _, receiver in signal.receivers:
        function = receiver() if isinstance(receiver, ref) else receiver
        if function is not None and not (getattr(function, "__module__", None) or "").startswith(OBSERVERS):
            return True
    return False


def custom_headers(request):
    """The user's own headers, or `None`."""
    if OWN_KEYS.issuperset(request):
        return None
    return {key: value for key, value in request.items() if key not in OWN_KEYS}


class RunContext(Context):
    """A request that knows its run. That is none of its members: tasks print, copy and pickle those."""

    __slots__ = ("umbel_run",)

    def __reduce_ex__(self, protocol):
        return copyreg._reconstructor, (Context, object, None), self.__dict__


def make_context(request, args, kwargs):
    """A task's request. `Context` itself would look for custom headers once more, at a fifth of the cost of a whole run."""
    context = RunContext.__new__(RunContext)
    request.update(args=args, kwargs=kwargs, called_directly=False)
    context.__dict__ = request
    timelimit = request.get("timelimit")
    if HAS_LIMITS and timelimit:
        context.time_limit, context.soft_time_limit = timelimit[:2]
    return context


def build_tracer(name, task, loader, hostname, app):
    """A function that runs `task` for the node: Celery's signature, with an `Ending` for a result."""
    app = app or task.app
    loader = loader or app.loader
    fun = task if trace.task_has_custom(task, "__call__") else task.run
    coroutine_fun = retried_by_itself(task, fun) if hasattr(task, "_orig_run") and is_coroutine(task) else fun
    handlers = {
        handler: getattr(task, handler)
        for handler in ("before_start", "on_success", "after_return", "on_failure", "on_retry")
        if trace.task_has_custom(task, handler)
    }
    before_start = handlers.get("before_start")
    on_success, after_return = handlers.get("on_success"), handlers.get("after_return")
    on_task_init = loader.on_task_init if overrides(loader, BaseLoader, "on_task_init") else None
    cleans_up = overrides(task.backend, Backend, "process_cleanup") or overrides(loader, BaseLoader, "on_process_cleanup")
    push_request, pop_request = task.request_stack.push, task.request_stack.pop
    push_task, pop_task = _task_stack.push, _task_stack.pop
    prerun, postrun, success = signals.task_prerun, signals.task_postrun, signals.task_success
    serializer = app.conf.result_serializer

    def steps(uuid, args, kwargs, request):
        run = request.pop("_umbel_run")
        context = make_context(request, args, kwargs)
        context.umbel_run = run
        tasks, requests = push_task(task), push_request(context)
        ending, begun = None, monotonic()
        try:
            if prerun.receivers:
                prerun.send(sender=task, task_id=uuid, task=task, args=args, kwargs=kwargs)
            if on_task_init:
                on_task_init(uuid, task)
            try:
                if before_start:
                    before_start(uuid, args, kwargs)
                value = yield
                runtime = monotonic() - begun
                ending = succeeded(value, task, context, serializer)
            except Reject as exc:
                ending = Ending("reject", states.REJECTED, exc, requeue=bool(exc.requeue), reason=str(exc.reason))
                log_error(task, context, exc)
                clear_traceback(exc)
            except Ignore as exc:
                ending = replaced(exc, context) if isinstance(exc, takeover.Replaced) else Ending("ignore", states.IGNORED, exc)
                log_error(task, context, exc)
                clear_traceback(exc)
            except Retry as exc:
                ending = yield from retried(task, context, run, exc, "on_retry" in handlers or follows(run))
                clear_traceback(exc)
            except Exception as exc:
                ending = yield from failed(task, context, run, exc, "on_failure" in handlers or after_return or follows(run))
                clear_traceback(exc)
            else:
                took = {"runtime": runtime} if HAS_RUNTIME else {}
                send_attempt(run)
                if (on_success or after_return or is_heard(success) or follows(run)) and not is_ignored(task, context):
                    yield from stored(run, ending)
                if on_success:
                    guard(on_success, value, uuid, args, kwargs)
                if success.receivers:
                    success.send(sender=task, result=value, **took)
                if logger.isEnabledFor(logging.INFO) and logs.is_heard(logger):
                    # A soft limit is not for handlers of logs.
                    run.failed = True
                    guard(log_success, task, context, value, runtime)
            send_attempt(run)
            if after_return and ending.state not in trace.IGNORE_STATES:
                guard(after_return, ending.state, ending.retval, uuid, args, kwargs, None)
        finally:
            try:
                if postrun.receivers:
                    state = ending.state if ending else None
                    retval = ending.retval if ending else None
                    postrun.send(sender=task, task_id=uuid, task=task, args=args, kwargs=kwargs, retval=retval, state=state)
            finally:
                if tasks and run.host.keeps_stacks:
                    # Celery's own `pop` lets go of a stack that is empty, only to make another for the next task.
                    tasks.pop()
                    requests.pop()
                else:
                    pop_task()
                    pop_request()
                if cleans_up:
                    cleanup(task, loader)
        return ending

    def call(uuid, args, kwargs, request=None, fun=fun):
        running = steps(uuid, args, kwargs, request)
        step = drive(running.send, None)
        # It may have failed before its function was to be called.
        while type(step) is not Ending:
            try:
                value = fun(*args, **kwargs) if step is None else step.run.host.store(step)
            except BaseException as exc:
                step = drive(running.throw, exc)
            else:
                step = drive(running.send, value)
        return step

    async def call_async(uuid, args, kwargs, request):
        running = steps(uuid, args, kwargs, request)
        step = drive(running.send, None)
        while type(step) is not Ending:
            try:
                value = await (coroutine_fun(*args, **kwargs) if step is None else step.run.host.store(step))
            except BaseException as exc:
                step = drive(running.throw, exc)
            else:
                step = drive(running.send, value)
        return step

    call.call_async = call_async
    return call


def drive(resume, what):
    """Lets the generator go on to where it stops, or to its end; what it says there."""
    try:
        return resume(what)
    except StopIteration as stop:
        return stop.value


def guard(handler, *args, **kwargs):
    """Calls a handler whose failure does not change how the task ended (as Celery 5.7 has it for `on_success`)."""
    try:
        handler(*args, **kwargs)
    except Exception:
        logger.exception("the handler %r raised", handler)


def is_expected(task, exc):
    """Whether a task says that it may raise this."""
    return bool(task.throws) and isinstance(exc, task.throws)


def log_error(task, context, exc, einfo=None):
    """Celery's line for what was raised, for handlers of the application's (`celery/app/trace.py::TraceInfo._log_error`)."""
    if logs.is_heard(logger):
        guard(trace.TraceInfo(None, exc)._log_error, task, context, einfo or ExceptionInfo())


def log_success(task, context, value, runtime):
    """Celery's line for a success, likewise."""
    said = {
        "id": context.id,
        "name": trace.get_task_name(context, task.name),
        "return_value": saferepr(value, task.resultrepr_maxsize),
        "runtime": runtime,
        "args": context.get("argsrepr") or trace.safe_repr(context.args),
        "kwargs": context.get("kwargsrepr") or trace.safe_repr(context.kwargs),
    }
    trace.info(trace.LOG_SUCCESS, said)


def overrides(one, base, name):
    """Whether a method is another than the base's, which does nothing."""
    return getattr(getattr(one, name), "__func__", None) is not getattr(base, name)


def cleanup(task, loader):
    try:
        task.backend.process_cleanup()
        loader.on_process_cleanup()
    except Exception:
        logger.exception("Process cleanup failed")


# The exception that a coroutine has raised, for the wrapper that `autoretry_for` has put around the task's `run`.
raised = contextvars.ContextVar("umbel_raised", default=None)


def retried_by_itself(task, fun):
    """A coroutine function with `autoretry_for` around what it awaits: Celery's wrapper (`celery/app/autoretry.py`) is around the call
    alone, which raises nothing yet. That wrapper is called once more for the exception, and decides as ever."""
    call = task._orig_run

    @wraps(call)
    def run(*args, **kwargs):
        exc = raised.get()
        if exc is None:
            return call(*args, **kwargs)
        raise exc

    async def awaited(*args, **kwargs):
        try:
            return await fun(*args, **kwargs)
        except Exception as exc:
            token = raised.set(exc)
            try:
                return task.run(*args, **kwargs)
            finally:
                raised.reset(token)

    task._orig_run = run
    return awaited


def succeeded(value, task, context, serializer):
    """SUCCESS. A value that cannot be serialized raises `EncodeError`, which makes the task a failure as Celery has it."""
    children = context.__dict__.get("_children") or context.__dict__.get("children")
    stored = value.as_tuple() if isinstance(value, ResultBase) else value
    try:
        content_type, payload = codec.dumps(stored, serializer)
    except EncodeError:
        if is_wanted(task, context):
            raise
        content_type, payload = codec.JSON, json_dumps(saferepr(value)).encode()
    head = {"content_type": content_type}
    if children:
        head["children"] = [child.as_tuple() for child in children]
    return Ending("success", states.SUCCESS, value, payload, **head)


def is_wanted(task, context):
    """Whether a task's value goes anywhere; Celery does not serialize one that does not (`celery/backends/base.py::mark_as_done`)."""
    return bool(context.callbacks or context.chain or context.chord) or not is_ignored(task, context)


def is_ignored(task, context):
    """Whether nobody wants the task's result."""
    ignored = context.__dict__.get("ignore_result")
    ignored = task.ignore_result if ignored is None else ignored
    return ignored or isinstance(task.backend, DisabledBackend)


def stores_errors(task, context):
    """Whether its exceptions are stored."""
    return not is_ignored(task, context) or (task.store_errors_even_if_ignored and not isinstance(task.backend, DisabledBackend))


def follows(run):
    """Whether something of the application is called at the end of every run: listeners, or the hooks of a request of its own."""
    return run.request is not None or is_heard(signals.task_postrun)


def stored(run, ending, **head):
    """Has the node store an ending before its run is over; whether it has. A soft limit is not for the wait, nor for errbacks."""
    run.failed = True
    done = yield Early(run, ending, **head)
    if done is None:
        # It is to end at once.
        raise SoftTimeLimitExceeded()
    run.failed = bool(head)
    if done:
        # It need not cross once more.
        ending.payload = b""
    return done


def failed(task, context, run, original, is_followed):
    """FAILURE: the errbacks that are called here, the handlers, the signal (`celery/app/trace.py::handle_failure`)."""
    send_attempt(run)
    exc = get_pickleable_exception(original)
    if exc.__traceback__ is None:
        exc.__traceback__ = sys.exc_info()[2]
    einfo = ExceptionInfo((get_pickleable_etype(type(original)), exc, exc.__traceback__))
    head = {"expected": is_expected(task, original), "traceback": einfo.traceback}
    ending = Ending("failure", states.FAILURE, exc, json_dumps(exception(exc)).encode(), **head)
    errbacks = Errbacks(task.app, context) if context.errbacks else None
    if errbacks and errbacks.here:
        if (yield from stored(run, ending, new=errbacks.new)):
            errbacks.call(run, exc, einfo.traceback)
    elif (is_followed or is_heard(signals.task_failure)) and stores_errors(task, context):
        yield from stored(run, ending)
    guard(task.on_failure, exc, context.id, context.args, context.kwargs, einfo)
    signals.task_failure.send(
        sender=task,
        task_id=context.id,
        exception=exc,
        args=context.args,
        kwargs=context.kwargs,
        traceback=exc.__traceback__,
        einfo=einfo,
    )
    log_error(task, context, exc, einfo)
    return ending


def retried(task, context, run, exc, is_followed):
    """RETRY: what the task has said of its next attempt."""
    einfo = ExceptionInfo((type(exc), exc, exc.__traceback__))
    attempt = None
    if run.attempt is not None and run.attempt.signature is exc.sig:
        attempt, run.attempt = run.attempt, None
    said = {"error": exception(exc.exc) if isinstance(exc.exc, BaseException) else None}
    # One that was raised by hand, as a task may, asks for an attempt as this one, and nobody has counted.
    if attempt is not None:
        said.update(args=attempt.args, kwargs=attempt.kwargs, options=attempt.options, counted=True)
    try:
        head = {"traceback": einfo.traceback, "countdown": delay(task.app, exc.when)}
        ending = Ending("retry", states.RETRY, exc, json_dumps(said).encode(), **head)
    except Exception as error:
        ending = Ending("reject", states.REJECTED, Reject(error, requeue=False), requeue=False, reason=str(error))
    else:
        send_attempt(run)
        if (is_followed or is_heard(signals.task_retry)) and stores_errors(task, context):
            yield from stored(run, ending)
    guard(task.on_retry, exc.exc, context.id, context.args, context.kwargs, einfo)
    signals.task_retry.send(sender=task, request=context, reason=exc, einfo=einfo)
    if logs.is_heard(logger):
        run.failed = True
        guard(trace.info, trace.LOG_RETRY, {"id": context.id, "name": trace.get_task_name(context, task.name), "exc": str(exc)})
    return ending


def delay(app, when):
    """Seconds until the next attempt; a point in time counts from now, nothing leaves it to the task's options."""
    if when is None:
        return None
    now = app.now()
    if isinstance(when, (int, float)):
        # There is no such time as in infinitely many seconds: it raises, as in Celery.
        now + timedelta(seconds=when)
        return float(when)
    # One without a zone is UTC, for whoever reads it from a message.
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - now).total_seconds())


def send_attempt(run):
    """An attempt that was asked for by a task which then went on and ended otherwise: Celery has sent it by then."""
    attempt, run.attempt = run.attempt, None
    if attempt is not None:
        attempt.send()


def replaced(exc, context):
    """Another signature takes the place of this task; one that cannot be serialized raises `EncodeError`."""
    del context
    return Ending("replace", states.IGNORED, exc, json_dumps(exc.signature).encode())


class Errbacks:
    """The errbacks of a task that has failed. Those that take more than the failed id are called here, once the failure is stored; the
    node is told of each, and sends the others (`celery/backends/base.py::_call_task_errbacks`, but one that raises harms no other and
    not the result)."""

    def __init__(self, app, request):
        self.request, self.all = request, [app.signature(signature) for signature in request.errbacks]
        for errback in self.all:
            if not errback._app:
                errback._app = app
        self.new = [number for number, errback in enumerate(self.all) if is_new_style(app, errback)]
        # A coroutine's place is on the event loop, so the node sends it.
        self.here = [number for number in self.new if not is_coroutine(self.all[number].type)]

    def call(self, run, exc, traceback):
        """Calls those whose place is here."""
        for number in self.here:
            errback = self.all[number]
            try:
                errback(self.request, exc, traceback)
            except Exception:
                logger.exception("the errback %s of task %s raised", errback.task, self.request.id)
            run.host.channel.send(wire.CALLED, {"run": run.number, "errback": number})


def is_coroutine(task):
    """Whether a task is an `async def`, whatever wraps it."""
    return inspect.iscoroutinefunction(inspect.unwrap(getattr(task, "_orig_run", task.run)))


def is_new_style(app, errback):
    """Whether an errback takes more than the failed id. 5.7 counts only the arguments that are not stored in it."""
    try:
        header = getattr(errback.type, "__header__", None)
    except NotRegistered:
        return False
    if header is None or isinstance(header, partial):
        return False
    own = getattr(app.backend, "_errback_arity_greater", None)
    return bool(own(errback, 1) if own else arity_greater(header, 1))


def of_failure(task, failed):
    """What an errback of the new style is called with for a task that failed in no process of Python, such as the body of a chord
    (`celery/backends/base.py::chord_error_from_stack`)."""
    request = Context({"id": failed["id"], "root_id": failed["id"], "errbacks": [], "delivery_info": {}})
    return request, task.backend.exception_to_python(failed["error"]), None


def exception(exc):
    """An exception as Celery stores it in any serializer but pickle (`celery/backends/base.py::prepare_exception`)."""
    kind = type(exc)
    return {
        "exc_type": getattr(kind, "__qualname__", kind.__name__),
        "exc_message": ensure_serializable(exc.args, json_dumps),
        "exc_module": kind.__module__,
    }

