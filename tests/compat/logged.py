"""An application with a handler of its own for Celery's log records, which writes them to the file LOG; as a program, a client that tells
what came of its tasks there.

Other settings come from the environment: BROKER, BACKEND. Standard output: one JSON object.
"""

import json
import logging
import os
import sys

from celery import Celery, signals

from waiting import WAIT, soon

app = Celery("logged", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True)


class Record(logging.Formatter):
    """What a record says, and whether it has the particulars that Celery gives it."""

    def format(self, record):
        text = record.getMessage()
        data = getattr(record, "data", None)
        return json.dumps([record.levelname, record.name, text.split("\n")[0], bool(record.exc_info), sorted(data or {})])


@signals.after_setup_logger.connect
def log_to_file(logger, **_):
    handler = logging.FileHandler(os.environ["LOG"])
    handler.setFormatter(Record())
    logger.addHandler(handler)


@app.task(name="add")
def add(one, other):
    return one + other


@app.task(name="bad", throws=(KeyError,))
def bad(key=None):
    if key:
        raise KeyError(key)
    raise ValueError("no key")


@app.task(name="again", bind=True)
def again(self):
    if self.request.retries == 0:
        raise self.retry(exc=OSError("not yet"), countdown=0)
    return 1


def ended(result):
    try:
        result.get(timeout=WAIT)
    except Exception:
        pass
    return result.id


def lines(task_id):
    with open(os.environ["LOG"]) as log:
        said = [json.loads(line) for line in log if task_id in line]
    return [
        [level, text.replace(task_id, "ID").partition(" in ")[0], traceback, data]
        for level, logger, text, traceback, data in said
        if logger == "celery.app.trace"
    ]


if __name__ == "__main__":
    runs = {"add": add.delay(1, 2), "unexpected": bad.delay(), "expected": bad.delay("k"), "again": again.delay()}
    ids = {name: ended(result) for name, result in runs.items()}
    wanted = {"again": 2}
    for name, task_id in ids.items():
        soon(name + " is logged", lambda: len(lines(task_id)) >= wanted.get(name, 1))
    json.dump({name: lines(task_id) for name, task_id in ids.items()}, sys.stdout)
