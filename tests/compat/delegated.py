"""An application whose results only Python can write: its backend or its serializer is one that a node does not know. As a program, a
client that tells what came of each scenario.

Settings come from the environment: BROKER, BACKEND, SERIALIZER, HEARD (a file), DJANGO_SETTINGS_MODULE, NODE_ARGS. Standard output: one JSON object.
"""

import asyncio
import json
import os
import signal
import sys
import time

from celery import Celery, chain, chord, group
from celery.backends.filesystem import FilesystemBackend
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_postrun, task_revoked
from kombu.exceptions import DecodeError
from redis import Redis

from waiting import WAIT, soon

app = Celery("delegated", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_serializer=os.environ["SERIALIZER"],
    result_accept_content=["json", "msgpack"],
    result_chord_retry_interval=0.2,
)


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="fails")
def fails():
    raise ValueError("bad")


@app.task(name="stored")
def stored():
    return 3


@app.task(name="failed")
def failed(_):
    open(os.environ["HEARD"] + ".failed", "w").close()


@app.task(name="spins")
def spins():
    while True:
        time.sleep(0.01)


@app.task(name="called")
def called(_):
    with open(os.environ["HEARD"] + ".called", "a") as file:
        print(file=file)


@task_postrun.connect
def die(sender, **more):
    if sender.name == "stored":
        os.kill(os.getpid(), signal.SIGKILL)


class Moody(FilesystemBackend):
    """A task's own backend, which is out of order at times."""

    def store_result(self, *args, **kwargs):
        if os.path.exists(os.environ["HEARD"] + ".broken"):
            with open(os.environ["HEARD"] + ".tries", "a") as file:
                print(*args[:1], file=file)
            raise OSError("out of order")
        return super().store_result(*args, **kwargs)


@app.task(name="kept", backend=Moody(app=app, url="file://" + os.path.dirname(os.environ["HEARD"])))
def kept():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="dies")
def dies():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="sleeps", bind=True)
def sleeps(self):
    with open(os.environ["HEARD"] + self.request.id, "w"):
        time.sleep(3600)


@task_revoked.connect
def heard(sender, request, terminated, signum, expired, **more):
    with open(os.environ["HEARD"], "a") as file:
        print(sender.name, request.id, terminated, signum and int(signum), expired, file=file)


@app.task(name="becomes_group", bind=True)
def becomes_group(self):
    raise self.replace(group(add.s(1, 2), add.s(3, 4)))


@app.task(name="add_async", bind=True)
async def add_async(self, a, b):
    await asyncio.sleep(0.01)
    return [a + b, self.request.id]


@app.task(name="fails_async")
async def fails_async():
    raise ValueError("bad")


# Celery sends the next attempt before it stores RETRY, which some backends put in the place of a SUCCESS that came sooner.
@app.task(name="auto_async", bind=True, autoretry_for=(OSError,), default_retry_delay=0.3, retry_kwargs={"max_retries": 2})
async def auto_async(self):
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise OSError("out of order")
    return self.request.retries


@app.task(name="limited_async", soft_time_limit=0.3)
async def limited_async():
    try:
        await asyncio.sleep(3600)
    except SoftTimeLimitExceeded:
        return "told"


@app.task(name="cancelled_async")
async def cancelled_async():
    waits = asyncio.ensure_future(asyncio.sleep(3600))
    waits.cancel()
    await waits


def get(result):
    """A file may be read while it is written; then it says nothing yet."""

    def look():
        try:
            return [result.get(timeout=WAIT)]
        except DecodeError:
            return None

    return soon("the result can be read", look)[0]


def failure(result):
    try:
        return get(result)
    except Exception as error:
        return [type(error).__name__, str(error).split("(")[0], result.state]


def values():
    return [get(add.delay(1, 2)), failure(fails.delay())]


def not_run():
    """Ends that no process tells of."""
    after = add.apply_async((1, 2), expires=-1)
    revoked = add.apply_async((1, 2), countdown=3)
    revoked.revoke()
    limited, ended = sleeps.apply_async(time_limit=1), sleeps.delay()
    soon("it sleeps", lambda: os.path.exists(os.environ["HEARD"] + ended.id))
    ended.revoke(terminate=True, signal="SIGTERM")
    ends = [failure(result) for result in [after, revoked, limited, ended, dies.delay(), app.send_task("unknown")]]
    # By its own end or by that of its part, whichever the client sees first.
    whole = failure(chord([add.s(1, 2), dies.s()], total.s()).apply_async())
    ends.append("failed" if whole[0] in ["ChordError", "WorkerLostError"] else whole)
    ends.append(failure(chain(dies.s(), add.s(1)).apply_async().parent))

    def lines():
        with open(os.environ["HEARD"]) as file:
            said = [line.split() for line in file]
        return sorted([[[after.id, revoked.id, ended.id].index(id), *said] for _, id, *said in said]) if len(said) == 3 else None

    return [ends, soon("the signals are sent", lines)]


def out_of_order():
    """The same where they cannot be stored at first."""
    broken, tries = os.environ["HEARD"] + ".broken", os.environ["HEARD"] + ".tries"
    open(broken, "w").close()
    after = kept.apply_async(expires=-1)
    soon("it was tried again", lambda: os.path.exists(tries) and len(open(tries).readlines()) > 1)
    state = after.state
    os.remove(broken)
    return [state, failure(after), failure(kept.delay())]


def lost_late():
    """A process is lost when its task's end is stored."""
    result = stored.apply_async(link_error=failed.s())
    first = failure(result)
    broker = Redis.from_url(os.environ["BROKER"])
    soon("all is acknowledged", lambda: not broker.exists("unacked") and not broker.exists("celery"))
    return [first, result.state, os.path.exists(os.environ["HEARD"] + ".failed")]


def spinning():
    """A thread ends by itself when it is told of a hard limit."""
    end = failure(spins.apply_async(time_limit=0.5, link_error=called.s()))
    broker = Redis.from_url(os.environ["BROKER"])
    soon("all is acknowledged", lambda: not broker.exists("unacked") and not broker.exists("celery"))
    return [end[0], len(open(os.environ["HEARD"] + ".called").readlines())]


def workflows():
    return [
        get(chain(add.s(1, 2), add.s(3)).apply_async()),
        get(chord([add.s(1, 2), add.s(3, 4)], total.s()).apply_async()),
        get(becomes_group.delay()),
    ]


def coroutines():
    results = [add_async.delay(number, 1) for number in range(10)]
    told = [get(result) for result in results]
    return [
        [value for value, _ in told],
        [own for _, own in told] == [result.id for result in results],
        failure(fails_async.delay()),
        get(auto_async.delay()),
        get(limited_async.delay()),
        failure(cancelled_async.delay()),
    ]


if __name__ == "__main__":
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        import django

        django.setup()
    told = {}
    all_of_them = [values, workflows, coroutines, not_run, out_of_order, lost_late]
    for scenario in [spinning] if os.environ.get("NODE_ARGS") == "-P threads" else all_of_them:
        try:
            told[scenario.__name__] = scenario()
        except Exception as error:
            told[scenario.__name__] = f"{type(error).__name__}: {error}"
    json.dump(told, sys.stdout)
