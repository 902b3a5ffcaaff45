"""Tasks that fail, as functions and as a coroutine, and errbacks that write down that they were called: one line each in a file. And tasks
that succeed, and whose handler ends their process.
"""

import os
import signal
import time

from celery import Celery, Task

# Nobody asks for results here, but there is where to.
app = Celery("errbacks", broker="memory://", backend="redis://127.0.0.1:1", set_as_current=True)


@app.task(name="fail")
def fail():
    raise ValueError("bad")


@app.task(name="fail_async")
async def fail_async():
    raise ValueError("bad")


@app.task(name="old")
def old(task_id):
    raise AssertionError("nobody calls it here")


@app.task(name="told")
def told(request, exc, trace, path):
    with open(path, "a", encoding="utf-8") as file:
        file.write("%s %s %s\n" % (request.id, type(exc).__name__, exc))


@app.task(name="told_async")
async def told_async(request, exc, trace, path):
    raise AssertionError("nobody calls it here")


@app.task(name="raises")
def raises(request, exc, trace, path):
    raise RuntimeError("its own")


@app.task(name="dies")
def dies(request, exc, trace, path):
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="hangs")
def hangs(request, exc, trace, path):
    told(request, exc, trace, path)
    while True:
        # A thread hears of its soft limit between two steps only.
        time.sleep(0.01)  # workload


class Dying(Task):
    def on_success(self, retval, task_id, args, kwargs):
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="succeed", base=Dying)
def succeed():
    return 1


@app.task(name="succeed_async", base=Dying)
async def succeed_async():
    return 1
