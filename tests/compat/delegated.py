"""An application whose results only Python can write: its backend or its serializer is one that a node does not know. As a program, a
client that tells what came of each scenario.

Settings come from the environment: BROKER, BACKEND, SERIALIZER. Standard output: one JSON object.
"""

import asyncio
import json
import os
import sys

from celery import Celery, chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import DecodeError

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


@app.task(name="auto_async", bind=True, autoretry_for=(OSError,), default_retry_delay=0, retry_kwargs={"max_retries": 2})
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
    told = {}
    for scenario in [values, workflows, coroutines]:
        try:
            told[scenario.__name__] = scenario()
        except Exception as error:
            told[scenario.__name__] = f"{type(error).__name__}: {error}"
    json.dump(told, sys.stdout)
