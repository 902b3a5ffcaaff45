"""Short tasks among which some kill their process or last long. Each writes one line into the file that RUNS names when it runs."""

import os
import signal
import time

from celery import Celery

app = Celery("python_ahead_tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.task_acks_late = os.environ["ACKS"] == "late"

runs = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(line):
    os.write(runs, (line + "\n").encode())


@app.task(name="short")
def short(number):
    write(f"{number}")
    return number


@app.task(name="deadly")
def deadly(number):
    write(f"{number}")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="patient")
def patient(number):
    # Ends when all others have run, however many were behind it.
    write(f"{number}")
    while True:
        with open(os.environ["RUNS"]) as ran:
            if len(set(ran)) >= int(os.environ["ALL"]):
                return number
        time.sleep(0.01)  # workload
