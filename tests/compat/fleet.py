"""A Celery application whose tasks Rust nodes know by the same names; as a program, a client that tells what came of a scenario.

Settings come from the environment: BROKER, BACKEND, VISIBILITY. Standard output: one JSON object.
"""

import json
import os
import sys
import time

import celery
from celery import Celery, chain, chord, group

app = Celery("fleet", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    broker_transport_options=(
        {
            "visibility_timeout": float(os.environ.get("VISIBILITY", "3600")),
            # Looks for what was not acknowledged in time every second, instead of every hundred.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        }
        if os.environ["BROKER"].startswith("redis")
        else {"confirm_publish": True}
    ),
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    result_expires=3600,
)


def ran(task_id):
    """Writes down that a task runs here, where the test wants it: one line, one system call."""
    ledger = os.environ.get("LEDGER")
    if ledger:
        with open(ledger, "ab", buffering=0) as file:
            file.write(f"celery {task_id}\n".encode())


@app.task(name="add", bind=True)
def add(self, a, b):
    ran(self.request.id)
    return a + b


@app.task(name="total", bind=True)
def total(self, numbers):
    ran(self.request.id)
    return sum(numbers)


@app.task(name="echo")
def echo(value):
    return value


@app.task(name="fail")
def fail(value=None):
    raise ValueError("bad")


@app.task(name="who")
def who(*_):
    return "celery"


@app.task(name="hang")
def hang(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
    return "ended"


WAIT = float(os.environ.get("WAIT", "60"))


def outcome(result):
    """The value, or the exception's class and text."""
    try:
        return result.get(timeout=WAIT)
    except Exception as error:  # noqa: BLE001 the exception is the outcome
        return [type(error).__name__, str(error)]


def on(queues, signatures):
    """Spreads signatures over queues."""
    return [signature.set(queue=queues[at % len(queues)]) for at, signature in enumerate(signatures)]


def basics(queues):
    told = {}
    simple = add.apply_async((2, 3), queue=queues[0])
    told["value"], told["state"] = outcome(simple), simple.state
    failed = fail.apply_async(queue=queues[0])
    told["failure"], told["failed_state"] = outcome(failed), failed.state
    told["group"] = outcome(group(on(queues, [add.s(i, i) for i in range(12)])).apply_async())
    told["chain"] = outcome(chain(*on(queues, [add.s(1, 2), add.s(3), add.s(4), add.s(5)])).apply_async())
    told["expired"] = outcome(add.apply_async((1, 1), queue=queues[0], expires=-1))
    # 5.6.3 waits for messages a second at a time, and begins another connection after each; what comes meanwhile is lost, also of
    # Celery's own worker (celery/backends/asynchronous.py::reconnect_on_error).
    countdown = 0.5 if os.environ["BACKEND"].startswith("rpc") and celery.__version__ < "5.7" else 1
    before = time.time()
    told["eta"] = outcome(add.apply_async((1, 2), queue=queues[0], countdown=countdown))
    told["early"] = time.time() - before < countdown
    unicode = {"ключ": ["\u0000", "käse \U0001f9c0", None, 1e300, 2**70, True]}
    told["unicode"] = outcome(echo.apply_async((unicode,), queue=queues[0])) == unicode
    return told


def chords(queues):
    told = {}
    header = lambda count: on(queues, [add.s(i, i) for i in range(count)])
    body = lambda at=0: total.s().set(queue=queues[at % len(queues)])
    told["chord"] = outcome(chord(header(10), body())())
    told["then"] = outcome((group(header(4)) | body(1) | add.s(100).set(queue=queues[0])).apply_async())
    nested = chord([chord(header(3), body()), add.s(10, 10).set(queue=queues[0])], body(1))
    told["nested"] = outcome(nested())
    failed = chord([*header(3), fail.s().set(queue=queues[-1])], body())()
    # Without its parents, whose own failure would be raised before the chord's.
    told["failed"] = outcome(app.AsyncResult(failed.id))
    many = [chord(header(5), body(at))() for at in range(20)]
    told["many"] = [outcome(result) for result in many]
    return told


def fleet(queues):
    """Many tasks and many chords on one queue; what is wrong, and the ids of everything."""
    tasks, size = int(sys.argv[3]), 5
    chords = int(sys.argv[4])
    plain = [add.apply_async((i, i), queue=queues[0]) for i in range(tasks)]
    header = lambda at: [add.s(at, i).set(queue=queues[0]) for i in range(size)]
    bodies = [chord(header(at), total.s().set(queue=queues[0]))() for at in range(chords)]
    wrong = []
    for i, result in enumerate(plain):
        value = outcome(result)
        if value != 2 * i:
            wrong.append(["task", i, value])
    for at, result in enumerate(bodies):
        value = outcome(result)
        if value != size * at + sum(range(size)):
            wrong.append(["chord", at, value])
    ids = [result.id for result in plain] + [result.id for result in bodies]
    for result in bodies:
        ids.extend(member.id for member in result.parent.results)
    return {"wrong": wrong, "ids": ids}


def submit(queues):
    countdown = float(sys.argv[4]) if len(sys.argv) > 4 else None
    return {"id": hang.apply_async((float(sys.argv[3]),), queue=queues[0], countdown=countdown).id}


def bulk(queues):
    """Many tasks and chords of three at once; tells which came out wrong."""
    tasks, chords = int(sys.argv[3]), int(sys.argv[4])
    at = lambda number: queues[number % len(queues)]
    results = [add.apply_async((number, 1), queue=at(number)) for number in range(tasks)]
    bodies = [
        chord(on(queues, [add.s(number, member) for member in range(3)]), total.s().set(queue=at(number)))()
        for number in range(chords)
    ]
    return {
        "tasks": [number for number, result in enumerate(results) if outcome(result) != number + 1],
        "chords": [number for number, result in enumerate(bodies) if outcome(result) != 3 * number + 3],
    }


def delayed(queues):
    """Declares delayed delivery as a worker with a quorum queue does."""
    from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues

    with app.connection() as connection:
        declare_native_delayed_delivery_exchanges_and_queues(connection, sys.argv[3])
    return {}


def get(queues):
    return {"value": outcome(app.AsyncResult(sys.argv[3]))}


if __name__ == "__main__":
    scenarios = {
        "basics": basics,
        "chords": chords,
        "submit": submit,
        "get": get,
        "fleet": fleet,
        "bulk": bulk,
        "delayed": delayed,
    }
    scenario = scenarios[sys.argv[1]]
    print(json.dumps(scenario(sys.argv[2].split(","))))
