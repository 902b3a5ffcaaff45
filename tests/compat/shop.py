"""A Celery application as it stands in a shop, run by `node -A shop`; as a program, a client that tells what came of a scenario.

Settings come from the environment: BROKER, BACKEND. Standard output: one JSON object.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time

import redis
from celery import Celery, chain, chord, group, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.result import AsyncResult
from celery.worker.request import Request

app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    task_default_queue="platform",
    broker_connection_retry_on_startup=True,
    result_expires=3600,
    task_routes={"shop.routed": {"queue": "platform"}},
    timezone="Europe/Berlin",
    beat_schedule={"tick": {"task": "add", "schedule": 30.0, "args": (1, 2)}},
)
store = redis.Redis.from_url(os.environ["BACKEND"])


def seen(key, value):
    """Writes down that something has happened."""
    store.rpush("seen:" + key, value)


def what_was_seen(key):
    return [value.decode() for value in store.lrange("seen:" + key, 0, -1)]


@signals.task_prerun.connect
def prerun(task_id, task, args, kwargs, **_):
    if task.name == "signalled":
        seen("signals", "prerun")


@signals.task_postrun.connect
def postrun(task_id, task, args, kwargs, retval, state, **_):
    if task.name == "signalled":
        seen("signals", f"postrun {retval} {state}")


@signals.task_success.connect
def success(sender, result, **_):
    if sender.name == "signalled":
        seen("signals", f"success {result}")


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="echo")
def echo(value=None):
    return value


@app.task(name="fail")
def fail(value=None):
    raise ValueError("bad")


@app.task(name="count")
def count(value, key):
    seen(key, str(value))
    return value


class Handled(app.Task):
    def before_start(self, task_id, args, kwargs):
        seen("signals", "before_start")

    def on_success(self, retval, task_id, args, kwargs):
        seen("signals", f"on_success {retval}")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        seen("signals", f"after_return {status}")


@app.task(name="signalled", base=Handled)
def signalled():
    seen("signals", "run")
    return 7


@app.task(name="request", bind=True)
def request(self, *args, **kwargs):
    own = self.request
    return {
        "id": own.id,
        "args": list(own.args),
        "kwargs": own.kwargs,
        "retries": own.retries,
        "root": own.root_id,
        "parent": own.parent_id,
        "routing_key": own.delivery_info["routing_key"],
        "priority": own.delivery_info["priority"],
        "headers": own.headers,
        "timelimit": own.timelimit,
        "hostname": own.hostname,
        "eager": own.is_eager,
        "direct": own.called_directly,
        "group": own.group,
    }


@app.task(name="flaky", bind=True, max_retries=3)
def flaky(self, fails):
    if self.request.retries < fails:
        raise self.retry(exc=KeyError("not yet"), countdown=0.01)
    return self.request.retries


@app.task(name="swap", bind=True)
def swap(self, a, b):
    if self.request.retries == 0:
        raise self.retry(args=(b, a), countdown=0, headers={"x-shop": "swapped"})
    return [a, b, (self.request.headers or {}).get("x-shop")]


@app.task(name="auto", autoretry_for=(OSError,), retry_kwargs={"max_retries": 2}, default_retry_delay=0.01)
def auto(key):
    seen(key, "run")
    raise OSError("out of order")


@app.task(name="quiet", bind=True)
def quiet(self, key):
    seen(key, str(self.request.retries))
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return "loud"


@app.task(name="instead", bind=True)
def instead(self, how):
    ways = {
        "task": lambda: add.s(20, 22),
        "chain": lambda: chain(add.s(1, 2), add.s(3)),
        "group": lambda: group(add.s(1, 2), add.s(3, 4)),
        "chord": lambda: chord([add.s(1, 2), add.s(3, 4)], total.s()),
        "map": lambda: echo.map([1, 2, 3]),
        "chain to group": lambda: chain(add.s(1, 2), group(add.s(1), add.s(2))),
        "empty group": lambda: group([]),
        "again": lambda: instead.s("task"),
        "failure": lambda: chain(fail.s(1), echo.s()),
    }
    raise self.replace(ways[how]())


@app.task(name="ends", bind=True)
def ends(self, how):
    if how == "ignore":
        raise Ignore()
    if how == "own state":
        self.update_state(state="ODD", meta={"percent": 40})
        raise Ignore()
    if how == "requeue":
        if not self.request.delivery_info["redelivered"]:
            raise Reject("not now", requeue=True)
        return "redelivered"
    raise Reject("never", requeue=False)


# Late, as a message that was acknowledged cannot go back.
ends.acks_late = True


@app.task(name="slow", soft_time_limit=0.3, time_limit=30)
def slow():
    try:
        time.sleep(60)  # workload
    except SoftTimeLimitExceeded:
        return "told"


@app.task(name="stubborn", time_limit=0.5)
def stubborn():
    time.sleep(60)  # workload


@app.task(name="die")
def die(how):
    print("the last words")
    if how == "exit":
        sys.exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


class Watched(Request):
    """As Celery's documentation has it; what its hooks are told is written down."""

    def told(self, what):
        seen("hooks", f"{self.task_name}: {what}")

    def on_accepted(self, pid, time_accepted):
        super().on_accepted(pid, time_accepted)
        self.told("accepted")

    def on_retry(self, exc_info):
        super().on_retry(exc_info)
        self.told(f"retry {type(exc_info.exception.exc).__name__}")

    def on_failure(self, exc_info, send_failed_event=True, return_ok=False):
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        self.told(f"failure {type(exc_info.exception).__name__}")

    def on_timeout(self, soft, timeout):
        super().on_timeout(soft, timeout)
        self.told(f"{'soft' if soft else 'hard'} limit {timeout}")


@signals.task_failure.connect
def failure(sender, exception, **_):
    if sender.name.startswith("watched"):
        seen("hooks", f"{sender.name}: signal {type(exception).__name__}")


@app.task(name="watched", bind=True, Request=Watched)
def watched(self, how):
    if how == "again" and self.request.retries == 0:
        raise self.retry(exc=OSError("later"), countdown=0)
    return fail() if how == "fail" else how


@app.task(name="watched.slow", Request=Watched, soft_time_limit=0.3, time_limit=30)
def watched_slow():
    try:
        time.sleep(60)  # workload
    except SoftTimeLimitExceeded:
        return "told"


# Whole seconds, as Celery shows them to its hooks.
@app.task(name="watched.stubborn", Request="shop:Watched", time_limit=1)
def watched_stubborn():
    time.sleep(60)  # workload


@app.task(name="watched.dies", Request=Watched)
def watched_dies():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="nap")
async def nap(seconds, value):
    await asyncio.sleep(seconds)
    return value


@app.task(name="who", bind=True)
async def who(self):
    before = self.request.id
    await asyncio.sleep(0.05)
    return before == self.request.id


@app.task(name="spawn", bind=True)
def spawn(self):
    return add.delay(4, 5).id


@app.task(name="tell")
def tell(request, exc, traceback, key):
    seen(key, f"{request.id} {exc!r}")


@app.task(name="tell_badly")
def tell_badly(request, exc, traceback):
    raise RuntimeError("the errback itself")


@app.task(name="told_by_id")
def told_by_id(failed_id, *, key):
    seen(key, failed_id)


@app.task(name="pickled", serializer="pickle")
def pickled(value):
    return value


WAIT = 60


def outcome(result):
    """The value, or the exception's class and text."""
    try:
        return result.get(timeout=WAIT)
    except Exception as error:  # noqa: BLE001 the exception is the outcome
        return [type(error).__name__, str(error)]


def kind(result):
    """The value, or the exception's class alone: its text may name ids."""
    ended = outcome(result)
    return ended[0] if isinstance(ended, list) and ended and isinstance(ended[0], str) else ended


def until(key, size):
    """What was seen, once it is so much."""
    give_up = time.monotonic() + WAIT
    while time.monotonic() < give_up:
        found = what_was_seen(key)
        if len(found) >= size:
            return found
        time.sleep(0.02)
    return what_was_seen(key)


def basics():
    told = {}
    told["value"] = outcome(add.delay(2, 3))
    failed = fail.delay()
    told["failure"], told["state"] = outcome(failed), failed.state
    told["traceback"] = "raise ValueError" in failed.traceback
    told["chain"] = outcome(chain(add.s(1, 2), add.s(3), add.s(4)).apply_async())
    told["group"] = outcome(group(add.s(i, i) for i in range(5)).apply_async())
    told["chord"] = outcome(chord([add.s(i, i) for i in range(5)], total.s())())
    told["map"] = outcome(add.starmap([(1, 2), (3, 4)]).apply_async())
    seen_request = request.apply_async((1,), {"k": [2]}, headers={"x-shop": "yes", "umbel_copy": "e/1"}, time_limit=20, soft_time_limit=10)
    told["request"] = outcome(seen_request)
    told["request_id"] = seen_request.id
    signalled.delay().get(timeout=WAIT)
    told["signals"] = until("signals", 7)
    spawned = outcome(spawn.delay())
    told["spawned"] = outcome(AsyncResult(spawned, app=app))
    return told


def endings():
    told = {}
    told["flaky"] = outcome(flaky.delay(2))
    told["exhausted"] = outcome(flaky.delay(9))
    told["swapped"] = outcome(swap.delay(1, 2))
    told["auto"] = outcome(auto.delay("auto"))
    told["auto_runs"] = len(until("auto", 3))
    odd = ends.delay("own state")
    told["odd"] = [wait_for_state(odd, "ODD"), odd.info]
    told["requeued"] = outcome(ends.delay("requeue"))
    told["rejected"] = kind(ends.delay("reject"))
    told["soft"] = outcome(slow.delay())
    told["hard"] = outcome(stubborn.delay())
    for how in ("exit", "segfault", "kill"):
        told[how] = outcome(die.delay(how))
    told["after"] = outcome(add.delay(1, 1))
    return told


def wait_for_state(result, state):
    give_up = time.monotonic() + WAIT
    while result.state != state and time.monotonic() < give_up:
        time.sleep(0.02)
    return result.state


def coroutines():
    begun = time.monotonic()
    values = group(nap.s(0.5, number) for number in range(50)).apply_async().get(timeout=WAIT)
    return {
        "values": values == list(range(50)),
        # One after the other would take 25 s.
        "together": time.monotonic() - begun < 20,
        "own_requests": all(group(who.s() for _ in range(20)).apply_async().get(timeout=WAIT)),
    }


def errbacks():
    told = {}
    failed = fail.apply_async(link_error=[tell.s(key="new"), told_by_id.s(key="old")])
    told["new"] = until("new", 1) == [f"{failed.id} ValueError('bad')"]
    told["old"] = until("old", 1) == [failed.id]
    # One that raises neither changes the result nor keeps the next from running (P17).
    failed = fail.apply_async(link_error=[tell_badly.s(), tell.s(key="after")])
    told["after"] = until("after", 1) == [f"{failed.id} ValueError('bad')"]
    told["kept"] = outcome(failed)
    return told


# What the hooks of a task's own class of requests are told, however often.
HOOKS = 14


def hooks():
    ways = ["well", "fail", "again"]
    for result in (*(watched.delay(how) for how in ways), watched_slow.delay(), watched_stubborn.delay(), watched_dies.delay()):
        outcome(result)
    give_up = time.monotonic() + WAIT
    while len(found := set(what_was_seen("hooks"))) < HOOKS and time.monotonic() < give_up:
        time.sleep(0.02)
    return sorted(found)


def replacing():
    """What takes a task's place, and what becomes of its links and options (cases 13 to 16 of the rules of canvas)."""
    told = {}
    hushed = quiet.apply_async(("p13",), ignore_result=True)
    told["p13"] = [until("p13", 2), hushed.state]
    told["p14"] = outcome(instead.apply_async(("chain",), link=count.s(key="p14")))
    for how in ("task", "chain", "group", "chord", "map", "chain to group", "empty group", "again", "failure"):
        told[how] = outcome(instead.delay(how))
    told["in a chain"] = outcome(chain(instead.s("group"), total.s(), add.s(1)).apply_async())
    told["in a header"] = outcome(chord([instead.s("chain to group"), add.s(1, 1)], echo.s())())
    told["p14 links"] = what_was_seen("p14")
    return told


if __name__ == "__main__":
    scenarios = {scenario.__name__: scenario for scenario in (basics, endings, coroutines, errbacks, hooks, replacing)}
    print(json.dumps({name: scenarios[name]() for name in sys.argv[1:]}))
