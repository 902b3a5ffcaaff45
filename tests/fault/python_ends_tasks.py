"""Tasks that end in ways that are hard to tell of, and one that writes its number into the file that it is given."""

import os
import time

from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded
from umbel_bootstrap import wire

app = Celery("python_ends_tasks", broker="memory://", set_as_current=True)


@app.task(name="ends.unnamed")
def unnamed():
    """Raises what `os.listdir` calls a file whose name is no UTF-8."""
    time.sleep(0.002)  # workload
    raise ValueError(os.fsdecode(b"\xff"))


@app.task(name="ends.never", bind=True)
def never(self):
    time.sleep(0.002)  # workload
    raise self.retry(countdown=float("inf"))


@app.task(name="ends.garbled", bind=True)
def garbled(self, head, aloud):
    """Its end is told by this head. It goes by the process's channel if it has told of more before."""
    host = self.request.umbel_run.host
    pack = host.pack

    def garble(number, ending, begun=None):
        host.pack, host.spoke = pack, aloud
        return wire.pack_bytes(wire.DONE, head.replace("NUMBER", str(number)).encode(), b"")

    host.pack = garble
    time.sleep(0.002)  # workload


@app.task(name="ends.marks")
def marks(number, file):
    with open(file, "a") as written:
        written.write(f"{number}\n")
    time.sleep(0.05)  # workload
    return number


class Telling(Task):
    """Writes its failure into the file that it is given."""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        with open(args[0], "w") as written:
            written.write(type(exc).__name__)


@app.task(name="ends.polite", base=Telling)
def polite(file):
    try:
        time.sleep(3)  # workload
    except SoftTimeLimitExceeded:
        return "told"
    return "not told"


@app.task(name="ends.briefly")
def briefly():
    time.sleep(0.002)  # workload


class Lingering(Task):
    """Writes the file that it is given when it is lost, and stays a while in its handler."""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        open(args[0], "w").close()
        await_file(args[0] + ".go", 2.5)


def await_file(name, seconds):
    until = time.monotonic() + seconds
    while not os.path.exists(name) and time.monotonic() < until:
        time.sleep(0.01)  # workload


@app.task(name="ends.deaf", base=Lingering, bind=True)
def deaf(self, file):
    self.update_state(state="WAITING")
    time.sleep(3600)  # workload


@app.task(name="ends.leaves")
def leaves(file):
    """Ends its process, but not another that holds whatever it had open."""
    if os.fork() == 0:
        os.setsid()
        await_file(file, 100)
        os._exit(0)
    os._exit(3)
