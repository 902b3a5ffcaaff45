"""The Celery application of the Python benches, for nodes and for Celery's own workers; as a program, a client that measures.

Settings come from the environment: BROKER, BACKEND, and RUNS, the file that tasks with limits write their times into.
"""

import asyncio
import gc
import json
import os
import sys
import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("python_bench", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(task_default_queue="bench", worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task(name="tests.echo")
def echo(text, number):
    return number


@app.task(name="tests.nap")
async def nap(text, number):
    await asyncio.sleep(0.01)  # workload: ten milliseconds of waiting, which is what T9 counts
    return number


def live():
    """Writes down when it began and, each millisecond, that it lives still."""
    file = os.open(os.environ["RUNS"], os.O_RDWR | os.O_CREAT, 0o600)
    place = os.fstat(file).st_size
    begun = time.clock_gettime(time.CLOCK_MONOTONIC) * 1000
    while True:
        now = time.clock_gettime(time.CLOCK_MONOTONIC) * 1000
        os.pwrite(file, b"%20.3f %20.3f\n" % (begun, now), place)
        time.sleep(0.001)  # workload


@app.task(name="tests.hard", time_limit=0.2)
def hard(text, number):
    live()


@app.task(name="tests.soft", soft_time_limit=0.2, time_limit=30)
def soft(text, number):
    try:
        live()
    except SoftTimeLimitExceeded:
        return number


def round_trips(count):
    """How long `delay().get()` takes, in milliseconds: median, and the slowest of a hundred. Once more without the client's collector of
    garbage: it lets go of some thirty results at once, each of which unsubscribes, and the next `get` reads all the answers first."""
    echo.delay("x", 0).get(timeout=60)
    trips = measured(count)
    gc.disable()
    return {**trips, "without_gc": measured(count)}


def measured(count):
    times = []
    for number in range(count):
        begun = time.perf_counter()
        echo.delay("x" * 300, number).get(timeout=60)
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    return {"p50_ms": times[count // 2], "p99_ms": times[count * 99 // 100]}


if __name__ == "__main__":
    print(json.dumps(round_trips(int(sys.argv[1]))))
