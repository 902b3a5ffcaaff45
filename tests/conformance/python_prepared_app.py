"""An application that gets each of its processes ready, and goes by the number of its slot for that."""

import os
import signal

import billiard
from celery import Celery, signals

app = Celery("python_prepared_app", broker="memory://", backend="redis://", set_as_current=True)
prepared = []


@signals.worker_process_init.connect
def prepare(**_):
    prepared.append(billiard.current_process().index)


@app.task(name="place")
def place():
    return [*prepared, billiard.current_process().index]


@app.task(name="killed")
def killed():
    os.kill(os.getpid(), signal.SIGKILL)
