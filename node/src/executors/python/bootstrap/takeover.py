"""What Celery does inside a task's process and the node does in its stead, or better.

`install` comes before the application is imported, so that integrations that patch Celery (Sentry, New Relic, ...) find these
functions in their places and wrap them as they would Celery's own.

Only runs that the node has handed over are taken over. Tasks that are called directly, or applied eagerly, stay Celery's.
"""

from celery import states
from celery.app import trace
from celery.app.task import Task
from celery.exceptions import Ignore, ImproperlyConfigured

from umbel_bootstrap import codec

celery_build_tracer = trace.build_tracer
celery_retry = Task.retry
celery_signature_from_request = Task.signature_from_request
celery_replace = Task.replace
celery_on_replace = Task.on_replace
celery_update_state = Task.update_state


class Replaced(Ignore):
    """Another signature takes the place of the task that runs."""

    def __init__(self, signature):
        super().__init__("Replaced by new task")
        self.signature = signature


def same(one, other):
    """Whether they are equal, and of the same types: 1 and 1.0 are not the same."""
    return one == other and repr(one) == repr(other)


class Attempt:
    """What a task has said of its next attempt: a signature that Celery has made and the node sends."""

    def __init__(self, run, request, signature, options):
        self.signature, self.options = signature, options
        # Arguments that stay the same go on as the bytes they came in. The task may have changed those of its request.
        args, kwargs = (request.args, request.kwargs) if run.message is None else codec.loads(*run.message)[:2]
        self.args = None if same(signature.args, tuple(args)) else list(signature.args)
        self.kwargs = None if same(signature.kwargs, kwargs) else signature.kwargs

    def send(self):
        """As Celery does it."""
        type(self.signature).apply_async(self.signature)


def run_of(request):
    """The node's run that `request` belongs to; `None` when there is none, or when Celery itself ends it."""
    if request is None or request.called_directly or request.is_eager:
        return None
    run = getattr(request, "umbel_run", None)
    return None if run is None or run.delegated else run


def retry(self, args=None, kwargs=None, exc=None, throw=True, eta=None, countdown=None, max_retries=None, **options):
    """`Task.retry`, but the next attempt is sent by the node, together with the end of this one.

    A task may catch what this raises, or go on after `throw=False`; then the attempt is sent all the same (`tracer.steps`).
    """
    run = run_of(self.request)
    if run is None:
        return celery_retry(self, args, kwargs, exc, throw, eta, countdown, max_retries, **options)
    run.retrying = options
    try:
        return celery_retry(self, args, kwargs, exc, throw, eta, countdown, max_retries, **options)
    finally:
        run.retrying = None


def signature_from_request(self, request=None, *args, **kwargs):
    """`Task.signature_from_request`; one that is made for `retry` is kept where that would send it."""
    signature = celery_signature_from_request(self, request, *args, **kwargs)
    run = run_of(self.request)
    if run is not None and run.retrying is not None:
        options = run.retrying

        def keep():
            run.attempt = Attempt(run, self.request, signature, options)

        signature.apply_async = keep
    return signature


def replace(self, sig):
    """`Task.replace`, but the node hands on callbacks, errbacks, the rest of the chain and the place in a chord."""
    if run_of(self.request) is None:
        return celery_replace(self, sig)
    if "chord" in sig.options:
        raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
    if sig.task == "celery.chain" and not getattr(sig, "tasks", True):
        raise ImproperlyConfigured("Cannot replace with an empty chain")
    return self.on_replace(sig)


def on_replace(self, sig):
    """What subclasses override, and call last."""
    if run_of(self.request) is None:
        return celery_on_replace(self, sig)
    raise Replaced(sig)


def update_state(self, task_id=None, state=None, meta=None, **kwargs):
    """`Task.update_state`: through the node where the application itself cannot reach the results."""
    run = run_of(self.request)
    if run is None or not run.host.keeps_states or (task_id is not None and task_id != self.request.id):
        return celery_update_state(self, task_id, state, meta, **kwargs)
    run.host.progress(run, state or states.PENDING, meta)
    return None


def install(build_tracer):
    """Puts everything in place. `build_tracer` makes the tracers of tasks that run for the node."""

    def build(name, task, loader=None, hostname=None, store_errors=True, *args, **kwargs):
        if kwargs.get("eager"):
            return celery_build_tracer(name, task, loader, hostname, store_errors, *args, **kwargs)
        return build_tracer(name, task, loader, hostname, kwargs.get("app"))

    trace.build_tracer = build
    Task.retry, Task.signature_from_request = retry, signature_from_request
    Task.replace, Task.on_replace, Task.update_state = replace, on_replace, update_state
