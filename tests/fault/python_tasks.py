"""Tasks that write down their beginning and their end, one line with one system call each, into the file that RUNS names.

Short ones, of which many are handed to a process ahead, only write their number. ACKS=early has them acknowledged early.
"""

import os
import signal
import subprocess
import threading
import time

from celery import Celery

app = Celery("python_tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.task_acks_late = os.environ.get("ACKS") != "early"

runs = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(line):
    os.write(runs, (line + "\n").encode())


@app.task(name="work")
def work(number):
    write(f"begin {number}")
    time.sleep(0.4)  # workload
    write(f"end {number}")


@app.task(name="with_child")
def with_child(number):
    # A session of its own, as daemons have: beyond the reach of a signal to the group.
    started = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    write(f"child {started.pid}")
    started.wait()


@app.task(name="killed_once", bind=True)
def killed_once(self, number):
    write(f"begin {number}")
    if not self.request.delivery_info["redelivered"] and first(number):
        os.kill(os.getpid(), signal.SIGKILL)
    write(f"end {number}")


@app.task(name="hungry")
def hungry(number):
    write(f"begin {number} {os.getpid()}")
    taken = []
    while first(number) or taken:
        if len(taken) < 200:
            taken.append(bytearray(os.urandom(1024)) * 1024)
        time.sleep(0.001)  # workload
    write(f"end {number}")


@app.task(name="dooms")
def dooms(number):
    """Sends a task that fails."""
    fails.apply_async((number,), link_error=[told.s(number), told_by_another.s(number + 1), told.s(number + 2)])


@app.task(name="fails")
def fails(number):
    write(f"begin {number}")
    raise ValueError("bad")


@app.task(name="told")
def told(request, exc, trace, number):
    write(f"told {number} {type(exc).__name__} {app.AsyncResult(request.id).state}")


@app.task(name="told_by_another")
def told_by_another(request, exc, trace, number):
    """Dies in the process of the failed task."""
    if first(number):
        os.kill(os.getpid(), signal.SIGKILL)
    told(request, exc, trace, number)


@app.task(name="where")
def where(number):
    """Where it runs."""
    write(f"where {os.getpid()} {threading.current_thread().name}")


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
    """Ends when all others have run, as many as ALL says, however many were behind it."""
    write(f"{number}")
    while True:
        with open(os.environ["RUNS"]) as ran:
            if len(set(ran)) >= int(os.environ["ALL"]):
                return number
        time.sleep(0.01)  # workload


def first(number):
    """Whether nobody has run it before."""
    try:
        os.close(os.open(f"{os.environ['RUNS']}.{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
