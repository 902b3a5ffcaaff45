"""An application with the rarer features of Celery; as a program, a client that tells what came of them.

Settings come from the environment: BROKER, BACKEND. Standard output: one JSON object, a name of each scenario with what came of it.
"""

import json
import os
import signal
import sys
import time
from datetime import datetime, timezone
from decimal import Decimal

import redis
from celery import Celery, Task, chain, chord, group, signals
from celery.canvas import StampingVisitor
from celery.contrib.abortable import AbortableAsyncResult, AbortableTask
from kombu.serialization import register

from waiting import soon, WAIT

app = Celery("features", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
register("backwards", lambda value: json.dumps(value)[::-1], lambda text: json.loads(text[::-1]), "application/x-backwards", "utf-8")
app.conf.update(
    accept_content=["json", "application/x-backwards"],
    result_accept_content=["json", "application/x-backwards"],
    broker_connection_retry_on_startup=True,
    result_extended=True,
    task_annotations={"annotated": {"max_retries": 7}, "*": {"annotation": "all"}},
)
store = redis.Redis.from_url(os.environ["BACKEND"])


def seen(key, value):
    store.rpush("seen:" + key, value)


def what_was_seen(key):
    return [value.decode() for value in store.lrange("seen:" + key, 0, -1)]


@signals.worker_ready.connect
def ready(sender, **_):
    seen("ready", sender.hostname)


class Counting(Task):
    """A class of tasks with a call of its own, and something that it keeps in its process."""

    kept = None

    def __call__(self, *args, **kwargs):
        self.kept = (self.kept or 0) + 1
        return ["called", super().__call__(*args, **kwargs)]

    def apply_async(self, args=None, kwargs=None, **options):
        return super().apply_async(args, {**(kwargs or {}), "via": "own"}, **options)


@app.task(base=Counting, bind=True, name="counted")
def counted(self, value, via=None):
    return [value, via, self.kept > 0]


@app.task(bind=True, name="annotated")
def annotated(self):
    return [self.max_retries, self.annotation]


@app.task(bind=True, base=AbortableTask, name="abortable")
def abortable(self):
    seen("abortable", "begun")
    deadline = time.monotonic() + WAIT
    while not self.is_aborted() and time.monotonic() < deadline:
        time.sleep(0.02)
    seen("abortable", "aborted" if self.is_aborted() else "late")
    return "stopped"


@app.task(name="fails_late", acks_late=True, acks_on_failure_or_timeout=False)
def fails_late(key):
    seen(key, "run")
    raise ValueError("bad")


@app.task(name="dies_once", acks_late=True, reject_on_worker_lost=True)
def dies_once(key):
    if store.rpush("seen:" + key, "run") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@app.task(name="stores_errors", ignore_result=True, store_errors_even_if_ignored=True)
def stores_errors():
    raise KeyError("kept")


@app.task(name="ignored", ignore_result=True)
def ignored(value):
    return value


@app.task(name="add")
def add(a, b=0):
    return a + b


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(bind=True, name="grows")
def grows(self, value):
    self.add_to_chord(add.s(value, 100))
    return value


@app.task(bind=True, name="stamps")
def stamps(self, value=None):
    return [sorted(self.request.stamped_headers or []), self.request.stamps]


class Odd(Exception):
    """One that cannot be made again from its arguments."""

    def __init__(self, a, *, b):
        super().__init__(f"{a} and {b}")
        self.b = b


@app.task(name="raises_odd")
def raises_odd():
    raise Odd(1, b=2)


@app.task(name="unserializable")
def unserializable():
    return object()


@app.task(name="exits")
def exits():
    raise SystemExit(3)


@app.task(bind=True, name="retries_otherwise", max_retries=3)
def retries_otherwise(self, value):
    if self.request.retries < 2:
        raise self.retry(args=(value + 1,), countdown=0, exc=ValueError("again"))
    return [value, self.request.retries]


@app.task(name="typed")
def typed(*values):
    return [type(value).__name__ for value in values] + list(values)


class Stamped(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"who": "me", "stamped_headers": ["who"]}


def failure(result):
    try:
        return result.get(timeout=WAIT)
    except Exception as error:
        return [type(error).__name__, str(error).split(" Job: ")[0], result.state]


def classes():
    return counted.delay(1).get(timeout=WAIT)


def annotations():
    return annotated.delay().get(timeout=WAIT)


def aborts():
    result = abortable.delay()
    soon("the task runs", lambda: what_was_seen("abortable"))
    AbortableAsyncResult(result.id, app=app).abort()
    soon("the task has ended", lambda: len(what_was_seen("abortable")) > 1)
    return what_was_seen("abortable")


def acknowledgements():
    failed = failure(fails_late.delay("fails_late"))
    return [failed, what_was_seen("fails_late"), dies_once.delay("dies_once").get(timeout=WAIT), what_was_seen("dies_once")]


def ignoring():
    stored = stores_errors.delay()
    quiet = ignored.delay(1)
    return [
        failure(app.AsyncResult(soon("the failure is stored", lambda: app.AsyncResult(stored.id).ready() and stored.id))),
        chord([add.s(1, 1), add.s(2, 2)], total.s()).apply_async().get(timeout=WAIT),
        chain(ignored.s(3), add.s(4)).apply_async().get(timeout=WAIT),
        app.AsyncResult(quiet.id).state,
    ]


def growing():
    return chord([grows.s(1), add.s(2)], total.s()).apply_async().get(timeout=WAIT)


def serializers():
    def own(*arguments):
        return add.s(*arguments).set(serializer="backwards")

    workflows = [own(1, 2), chain(own(1, 2), own(3)), chord([own(1, 2), add.s(3, 4)], total.s())]
    return [workflow.apply_async().get(timeout=WAIT) for workflow in workflows]


def extended():
    result = add.apply_async((1,), {"b": 2})
    result.get(timeout=WAIT)
    return [result.name, result.args, result.kwargs, result.worker, result.retries, result.queue, result.date_done is not None]


def stamping():
    told = []
    for workflow in [stamps.s(), group(stamps.s(), stamps.s()), chain(add.s(1), stamps.s()), chord([add.s(1), add.s(2)], stamps.s())]:
        workflow.stamp(Stamped())
        told.append(workflow.apply_async().get(timeout=WAIT))
    return told


def odd():
    return [failure(raises_odd.delay()), failure(unserializable.delay())[::2], failure(exits.delay())[::2]]


def attempts():
    return retries_otherwise.delay(1).get(timeout=WAIT)


def composites():
    chunks = add.chunks(zip(range(4), range(4)), 2).apply_async().get(timeout=WAIT)
    return [chunks, add.starmap([(1, 2), (3, 4)]).apply_async().get(timeout=WAIT), total.map([[1], [2, 3]]).apply_async().get(timeout=WAIT)]


def values():
    when = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    told = typed.delay(Decimal("1.5"), when, b"bytes", {"a": 1}, [1], "ü", 1 << 70).get(timeout=WAIT)
    return [*told[:7], str(told[7]), told[8].isoformat(), told[9].decode(), *told[10:13], str(told[13])]


def readiness():
    return soon("the worker says that it is ready", lambda: what_was_seen("ready"))


SCENARIOS = [readiness, classes, annotations, aborts, acknowledgements, ignoring, growing, serializers, extended, stamping, odd, attempts, composites, values]

if __name__ == "__main__":
    told = {}
    for scenario in SCENARIOS:
        if not sys.argv[1:] or scenario.__name__ in sys.argv[1:]:
            try:
                told[scenario.__name__] = scenario()
            except Exception as error:
                told[scenario.__name__] = f"{type(error).__name__}: {error}"
    json.dump(told, sys.stdout)
