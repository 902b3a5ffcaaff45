"""The Celery application of the Python benches, for nodes and for Celery's own workers; as a program, a client that measures.

Settings come from the environment: BROKER, BACKEND.
"""

import asyncio
import json
import os
import sys
import time

from celery import Celery

app = Celery("python_bench", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(task_default_queue="bench", worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task(name="tests.echo")
def echo(text, number):
    return number


@app.task(name="tests.nap")
async def nap(text, number):
    await asyncio.sleep(0.01)  # workload: ten milliseconds of waiting, which is what T9 counts
    return number


def round_trips(count):
    """How long `delay().get()` takes, in milliseconds: median, and the slowest of a hundred."""
    echo.delay("x", 0).get(timeout=60)
    times = []
    for number in range(count):
        begun = time.perf_counter()
        echo.delay("x" * 300, number).get(timeout=60)
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    return {"p50_ms": times[count // 2], "p99_ms": times[count * 99 // 100]}


if __name__ == "__main__":
    print(json.dumps(round_trips(int(sys.argv[1]))))
