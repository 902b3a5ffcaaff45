"""Tasks whose end only Python can write: their serializer or their result backend is one that the node does not know.

They go through Celery's own tracer: it stores the result, sends callbacks and the next step of the chain, and counts the chord,
with the application's own backend and producer, before the node is told. What is left to the node is the message itself.
"""

import inspect

from celery import states
from celery.app.task import Context
from celery.exceptions import Reject, Retry, TaskRevokedError
from kombu.utils.json import dumps as json_dumps

from umbel_bootstrap import takeover, tracer

# Serializers of messages that the node reads and writes itself.
KNOWN_SERIALIZERS = {"json", "msgpack", "application/json", "application/x-msgpack"}

# Of results it writes no others.
KNOWN_RESULT_SERIALIZERS = {"json", "application/json"}

tracers = {}


def knows_backend(app, schemes):
    """Whether the node can store results where the application's own backend does. Where it has none, so it can."""
    url = app.backend_cls or app.conf.result_backend
    if not url:
        return True
    return isinstance(url, str) and (url == "disabled" or url.partition("://")[0].lower() in schemes)


def ends_everything(app, schemes):
    """Whether the end of every task is Celery's, and so are its built-in tasks that look at results."""
    return not knows_backend(app, schemes) or app.conf.result_serializer not in KNOWN_RESULT_SERIALIZERS


def has_own_backend(task):
    """Whether a task has another backend than its application. `@app.task(backend=...)` puts an attribute in the place of the property."""
    return task._backend is not None or not isinstance(inspect.getattr_static(type(task), "backend"), property)


def rule(everything):
    """A function that says whether a task with a message of some content type is Celery's to end."""
    own_backends = {}

    def delegates(task, content_type):
        if everything or content_type not in KNOWN_SERIALIZERS:
            return True
        own = own_backends.get(task.name)
        if own is None:
            own = own_backends[task.name] = has_own_backend(task)
        return own

    return delegates


def tracer_of(task, app, hostname):
    found = tracers.get(task.name)
    if found is None:
        found = tracers[task.name] = takeover.celery_build_tracer(task.name, task, app.loader, hostname, app=app)
    return found


def run(host, run, call):
    """Runs a task to its end, Celery's way."""
    traced = tracer_of(run.task, host.app, host.hostname)(*call)
    info = traced[1]
    if info is not None and isinstance(info.retval, Reject) and not info.retval.requeue:
        # What rejects its message for good never runs again, which is a failure.
        fail(run.task, call, info.retval)
    ending = ending_of(run.task, info, traced)
    ending.head["delegated"] = True
    return ending


def fail(task, call, exc):
    """A failure that its worker stores, not its tracer (`celery/worker/request.py::Request.on_failure`)."""
    request = Context(call[3])
    task.backend.mark_as_failure(call[0], exc, request=request, store_result=stores_errors(task, request))


def store_end(task, backend, call, how):
    """Stores how a task has ended that did not tell, for the task and for what was to follow it. It may be called again."""
    task_id, request = call[0], Context(call[3])
    if task is not None and not stores_errors(task, request):
        return
    if "error" not in how:
        backend.store_result(task_id, TaskRevokedError(how["reason"]), states.REVOKED, traceback=None, request=request)
        return
    if how["error"]["exc_type"] == "WorkerLostError" and has_succeeded(backend, task_id):
        # It was lost after its end was stored (`celery/worker/request.py`, as of 5.7).
        how["over"] = True
        return
    exc = backend.exception_to_python(how["error"])
    backend.store_result(task_id, exc, states.FAILURE, traceback=None, request=request)
    # As `celery/backends/base.py::mark_as_failure` does.
    for step in request.chain or ():
        context = Context(step)
        context.update(context.options)
        context.id, context.group = context.options.get("task_id"), context.options.get("group_id")
        if context.id is not None:
            backend.store_result(context.id, exc, states.FAILURE, traceback=None, request=context)


def after_end(backend, call, how):
    """What follows from such an end: parts of chords and errbacks, Celery's way."""
    task_id, request = call[0], Context(call[3])
    if "error" not in how:
        backend.mark_as_revoked(task_id, how["reason"], request=request, store_result=False)
    elif "over" not in how:
        backend.mark_as_failure(task_id, backend.exception_to_python(how["error"]), request=request, store_result=False)


def has_succeeded(backend, task_id):
    """Whether SUCCESS is stored. Results that are sent as messages are not there to look at."""
    return type(backend).__module__ != "celery.backends.rpc" and backend.get_state(task_id) == states.SUCCESS


def stores_errors(task, request):
    ignored = task.ignore_result if request.ignore_result is None else request.ignore_result
    return not ignored or task.store_errors_even_if_ignored


def ending_of(task, info, traced):
    """What to tell the node: for its log, its counters and its events."""
    if info is None:
        shown = traced[3] if isinstance(traced[3], str) else repr(traced[0])
        return tracer.Ending("success", states.SUCCESS, None, json_dumps(shown).encode(), content_type="application/json")
    state, exc = info.state, info.retval
    if state == states.RETRY and isinstance(exc, Retry):
        said = {"error": tracer.exception(exc.exc) if isinstance(exc.exc, BaseException) else None}
        countdown = exc.when if isinstance(exc.when, (int, float)) else None
        return tracer.Ending("retry", state, exc, json_dumps(said).encode(), countdown=countdown, traceback=None)
    if state == states.REJECTED and isinstance(exc, Reject):
        return tracer.Ending("reject", state, exc, requeue=bool(exc.requeue), reason=str(exc.reason))
    if state == states.IGNORED:
        return tracer.Ending("ignore", state, exc)
    text = getattr(traced[0], "traceback", None)
    head = {"expected": tracer.is_expected(task, exc), "traceback": text}
    return tracer.Ending("failure", state, exc, json_dumps(tracer.exception(exc)).encode(), **head)
