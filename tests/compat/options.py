"""An application with options and settings that few have: its own steps of priority, options of tasks, types, results for ever. As a
program, a client that tells what came of each.

Settings come from the environment: BROKER, BACKEND. Standard output: one JSON object.
"""

import json
import os
import sys
from datetime import datetime, timedelta, timezone

from celery import Celery, chain, chord
from kombu.utils.json import register_type

from waiting import WAIT

app = Celery("options", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    # As Celery's own guide to Redis has it.
    broker_transport_options={"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"},
    result_expires=None,
    timezone="America/New_York",
)


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


register_type(Point, "Point", lambda point: [point.x, point.y], lambda parts: Point(*parts))


@app.task(name="add")
def add(one, other):
    return one + other


@app.task(name="urgent", bind=True, priority=7, expires=60)
def urgent(self, *args):
    expires = self.request.expires
    if isinstance(expires, str):
        expires = datetime.fromisoformat(expires)
    left = (expires - datetime.now(timezone.utc)).total_seconds() if expires else None
    return [self.request.delivery_info["priority"], left is not None and 0 < left <= 60]


@app.task(name="again", bind=True)
def again(self):
    if self.request.retries == 0:
        # UTC, as a point in time without a zone is for whoever reads a message.
        raise self.retry(eta=datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=0.5))
    return self.request.eta is not None


@app.task(name="moved", bind=True)
def moved(self, point):
    if self.request.retries == 0:
        raise self.retry(args=(Point(point.x + 1, point.y),), countdown=0)
    return Point(point.x, point.y + 1)


@app.task(name="file")
def file(name):
    """A file's name that is not UTF-8, as `os.listdir` tells it."""
    return name or os.fsdecode(b"caf\xe9")


@app.task(name="codes")
def codes(names):
    return [[hex(ord(char)) for char in name] for name in ([names] if isinstance(names, str) else names)]


@app.task(name="shown")
def shown(point):
    return [type(point).__name__, point.x, point.y]


def end(result):
    try:
        return result.get(timeout=WAIT)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def point():
    result = moved.delay(Point(1, 2))
    return [shown(end(result)), end(chain(moved.si(Point(3, 4)), shown.s())())]


def names():
    """The same name as a result, handed on, in a chord, and given to a later step."""
    name = os.fsdecode(b"\xe9")
    steps = [codes.si(name), chain(file.s(name), codes.s()), chain(file.si(name), codes.si(name)), chord([file.s(name)] * 2, codes.s())]
    return [ascii(end(file.delay("")))] + [end(step.delay()) for step in steps]


def ttl():
    result = add.delay(1, 2)
    end(result)
    return app.backend.client.ttl(app.backend.get_key_for_task(result.id))


if __name__ == "__main__":
    json.dump(
        {
            "priorities": [end(result) for result in [add.apply_async((1, number), priority=number) for number in range(10)]],
            "urgent": [end(urgent.delay()), end(chain(add.si(1, 2), urgent.si())()), end(chord([add.s(1, 2)])(urgent.s()))],
            "again": end(again.delay()),
            "point": point(),
            "names": names(),
            "ttl": ttl(),
        },
        sys.stdout,
    )
