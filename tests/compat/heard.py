"""An application that looks at results where it hears of a task's end: in handlers and signals. As a program, a client that tells what it
saw there, and what is stored in the end.

Settings come from the environment: BROKER, BACKEND, RUNS (a file, of one line for each time it heard). Standard output: one JSON object.
"""

import json
import os
import sys

from celery import Celery, Task, chain, chord, signals

from waiting import WAIT, soon

app = Celery("heard", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True)


def write(task, heard, **more):
    result = app.AsyncResult(task.request.id)
    line = {"id": task.request.id, "heard": heard, "state": result.state, **more}
    with open(os.environ["RUNS"], "a") as file:
        print(json.dumps(line), file=file)


class Listening(Task):
    def on_success(self, retval, task_id, args, kwargs):
        write(self, "on_success", retval=retval)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        write(self, "on_failure", retval=str(exc))
        if kwargs.get("says"):
            self.update_state(state="EXPLAINED", meta={"why": kwargs["says"]})

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        write(self, "on_retry", retval=str(exc))

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        write(self, "after_return", retval=str(retval))


@signals.task_success.connect
def succeeded(sender, result, runtime=None, **more):
    write(sender, "task_success", retval=result, runtime=type(runtime).__name__)


@signals.task_postrun.connect
def postrun(sender, state, **more):
    write(sender, "task_postrun", retval=state)


@app.task(name="add", base=Listening)
def add(one, other):
    return one + other


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="add_async", base=Listening)
async def add_async(one, other):
    return one + other


@app.task(name="quiet", base=Listening, ignore_result=True)
def quiet():
    return 1


@app.task(name="fails", base=Listening)
def fails(says=None):
    raise ValueError("bad")


@app.task(name="again", bind=True, base=Listening, max_retries=1)
def again(self):
    if self.request.retries == 0:
        raise self.retry(exc=ValueError("not yet"), countdown=0.3)
    return "done"


@app.task(name="spoils", base=Listening)
def spoils(one):
    """What it returns cannot be stored."""
    return object()


def heard(result, count):
    """What was heard of a task, once that is all."""

    def look():
        with open(os.environ["RUNS"], "a+") as file:
            file.seek(0)
            lines = [line for line in map(json.loads, file) if line["id"] == result.id]
        return len(lines) >= count and [[line["heard"], line["state"], line["retval"]] for line in lines]

    return soon(f"{count} have heard of it", look)


def end(result):
    try:
        return result.get(timeout=WAIT)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)


def told(result, count):
    return [end(result), heard(result, count)]


def explained():
    result = fails.delay(says="because")
    lines = heard(result, 3)
    soon("it is explained", lambda: result.state != "FAILURE")
    return [result.state, result.info, lines]


def in_chain():
    """The first of a chain, and its value behind the last."""
    result = chain(add.s(1, 2), add.s(10)).delay()
    value = end(result)
    return [value, heard(result.parent, 4), heard(result, 4)]


def in_chord():
    result = chord([add.s(1, 2), add.s(3, 4)])(total.s())
    return [end(result), [heard(member, 4)[0] for member in result.parent.results]]


def runtimes():
    with open(os.environ["RUNS"]) as file:
        return sorted({line["runtime"] for line in map(json.loads, file) if "runtime" in line})


if __name__ == "__main__":
    json.dump(
        {
            "value": told(add.delay(1, 2), 4),
            "failure": told(fails.delay(), 3),
            "explained": explained(),
            "retry": told(again.delay(), 6),
            "spoils": told(spoils.delay(1), 3),
            "quiet": heard(quiet.delay(), 4),
            "chain": in_chain(),
            "chord": in_chord(),
            "coroutine": told(add_async.delay(1, 2), 4) if "ASYNC" in os.environ else None,
            "runtimes": runtimes(),
        },
        sys.stdout,
    )
