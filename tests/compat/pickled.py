"""An application whose tasks and commands are in the serializer that SERIALIZER names, and its results in that of RESULTS; as a program, a
client that commands the worker.

Other settings come from the environment: BROKER, BACKEND. Standard output: one JSON object.
"""

import json
import os
import sys

from celery import Celery

from waiting import WAIT, soon

app = Celery("pickled", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_serializer=os.environ["SERIALIZER"],
    accept_content=[os.environ["SERIALIZER"]],
    result_serializer=os.environ["RESULTS"],
    result_accept_content=[os.environ["RESULTS"]],
)


@app.task(name="add")
def add(one, other):
    return one + other


def revoked():
    """A task that waits for its time is told to be revoked, and is."""
    result = add.apply_async((1, 2), countdown=600)
    soon("it is held", lambda: any((app.control.inspect(limit=1, timeout=5).scheduled() or {}).values()))
    result.revoke()
    return end(result)


def end(result):
    try:
        return result.get(timeout=WAIT)
    except Exception as error:
        return type(error).__name__


if __name__ == "__main__":
    sum_ = add.delay(1, 2).get(timeout=WAIT)
    ping = app.control.ping(timeout=5, limit=1)
    stats = app.control.inspect(limit=1, timeout=5).stats()
    json.dump(
        {
            "sum": sum_,
            "ping": [list(answer.values())[0] for answer in ping],
            "pool": [type(told["pool"]).__name__ for told in (stats or {}).values()],
            # Where only Python writes results, one that waits for its time is revoked then.
            "revoked": revoked() if os.environ["RESULTS"] == "json" else None,
            "refused": end(add.apply_async((1, 2), serializer="json")),
        },
        sys.stdout,
    )
