"""The application of the canvas cases: tasks that a worker runs. Settings come from the environment: BROKER, BACKEND."""

import json
import os
import time

from celery import Celery, signature

app = Celery("canvas_tasks", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.set_default()
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_pool_limit=None,
    redis_socket_timeout=60,
    result_expires=3600,
    task_track_started=False,
    worker_hijack_root_logger=False,
)


def write(key, value):
    """Notes something where the client can see it."""
    app.backend.client.rpush(f"notes:{key}", json.dumps(value))


def notes(key):
    return [json.loads(note) for note in app.backend.client.lrange(f"notes:{key}", 0, -1)]


@app.task
def echo(value=None):
    return value


@app.task
def add(a, b=0):
    return a + b


@app.task
def pair(a, b):
    return [a, b]


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def keyed(value, **kwargs):
    return [value, kwargs]


@app.task
def fail(*args):
    raise ValueError("bad")


@app.task
def note(value, key):
    write(key, value)
    return value


@app.task
def late(value, key, until):
    """Ends when another has noted something."""
    while len(notes(key)) < until:
        time.sleep(0.01)
    return value


@app.task(bind=True, max_retries=3)
def flaky(self, value, times, key):
    """Fails so many times before it returns."""
    write(key, self.request.retries)
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return value


@app.task(bind=True, max_retries=2)
def insatiable(self, because):
    raise self.retry(exc=ValueError("tired") if because else None, countdown=0)


@app.task(autoretry_for=(KeyError,), max_retries=3, default_retry_delay=0)
def unlucky(key):
    write(key, 1)
    raise KeyError("unlucky")


@app.task(bind=True)
def become(self, replacement):
    """Puts a workflow in its own place."""
    return self.replace(signature(replacement, app=app))


@app.task(bind=True)
def spawn(self, value):
    echo.delay(value)
    return value


@app.task(ignore_result=True)
def quiet(value=None):
    return value


@app.task
def old_errback(task_id, *, key):
    """One positional parameter: a task of its own."""
    write(key, task_id)


@app.task
def new_errback(request, exc, trace, key):
    """Called in the process of the failed task."""
    write(key, [request.id, type(exc).__name__, str(exc)])


@app.task
def looking_errback(request, exc, trace, key, others):
    """Notes what is stored of the failed task and of others."""
    write(key, [app.AsyncResult(task_id).state for task_id in [request.id, *others]])


@app.task
def looking_old_errback(task_id, *, key):
    write(key, app.AsyncResult(task_id).state)


@app.task
def bad_errback(request, exc, trace, key):
    write(key, request.id)
    raise RuntimeError("the errback's own")
