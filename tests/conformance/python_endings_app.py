"""Tasks that end as few do, for the Python executor in each of its pools."""

import asyncio
import copy
import json
import multiprocessing
import os
import pickle
import signal
import time
from decimal import Decimal

import billiard
from celery import Celery, signals

app = Celery("python_endings_app", broker="memory://", backend="redis://", set_as_current=True)


@signals.task_internal_error.connect
def internal_error(sender, task_id, args, exception, **_):
    with open(args[0], "w") as written:
        written.write(f"{sender.name} {task_id} {exception}")


@app.task(name="escapes")
def escapes(file):
    def failed(sender, exception, **_):
        with open(file, "w") as written:
            written.write(repr(exception))

    signals.task_failure.connect(failed, sender=escapes, weak=False)
    raise Odd(file)


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="add_async")
async def add_async(a, b):
    return a + b


class Odd(BaseException):
    """What no handler of `Exception` sees."""


async def cancelled():
    waits = asyncio.ensure_future(asyncio.sleep(3600))
    waits.cancel()
    await waits


@app.task(name="cancelled")
def runs_what_is_cancelled():
    asyncio.run(cancelled())


@app.task(name="cancelled_async")
async def awaits_what_is_cancelled():
    await cancelled()


@app.task(name="odd")
def odd():
    raise Odd("very")


@app.task(name="process")
def process():
    return os.getpid()


@app.task(name="place")
def place():
    """Where it runs, as tasks find it that choose a device or a file by it."""
    process = billiard.current_process()
    return [process.index, process.name, multiprocessing.current_process().name]


@app.task(name="killed")
def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="copied", bind=True)
def copied(self):
    """Its request is printed, copied and pickled, as tasks that ask themselves what goes on do."""
    twin = pickle.loads(pickle.dumps(copy.deepcopy(self.request)))
    json.dumps({key: str(value) for key, value in vars(self.request).items()})
    return [twin.id == self.request.id, type(twin).__name__, "run" in repr(self.request).lower().replace("is_running", "")]


@app.task(name="odd_async")
async def odd_async():
    raise Odd("very")


@app.task(name="interrupted")
def interrupted():
    raise KeyboardInterrupt


@app.task(name="internal", throws=("no class",))
def internal(file):
    """Its failure cannot be looked at."""
    raise ValueError("bad")


@app.task(name="price")
def price():
    return Decimal("1.50")


@app.task(name="child")
def child():
    return add.AsyncResult("other")


@app.task(name="unserializable")
def unserializable():
    return Odd


@app.task(name="unserializable_ignored", ignore_result=True)
def unserializable_ignored():
    return Odd


@app.task(
    name="auto_async",
    autoretry_for=(OSError,),
    dont_autoretry_for=(FileNotFoundError,),
    retry_kwargs={"max_retries": 1},
    retry_backoff=4,
    retry_jitter=False,
)
async def auto_async(kind):
    await asyncio.sleep(0)
    raise {"listed": ConnectionError, "left out": FileNotFoundError, "other": ValueError}[kind]("bad")


@app.task(name="pops", bind=True)
def pops(self, items, options):
    options["left"] = items.pop()
    raise self.retry(countdown=0)


@app.task(name="again", bind=True)
def again(self, items, options):
    raise self.retry(countdown=0)


def square(number):
    return number * number


def tells_its_handler(queue):
    queue.put(signal.getsignal(signal.SIGHUP) is handler and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)


def handler(signum, frame):
    """The application's own."""


@app.task(name="forks")
def forks():
    """A pool, which ends its processes with SIGTERM; a process that is ended so; and one that looks at its handlers."""
    with multiprocessing.Pool(2) as pool:
        squares = pool.map(square, [1, 2, 3])
    sleeps = multiprocessing.Process(target=time.sleep, args=(3600,))
    sleeps.start()
    sleeps.terminate()
    sleeps.join()
    signal.signal(signal.SIGHUP, handler)
    queue = multiprocessing.Queue()
    looks = multiprocessing.Process(target=tells_its_handler, args=(queue,))
    looks.start()
    told = queue.get()
    looks.join()
    ordered = os.fork()
    if ordered == 0:
        os.kill(os.getpid(), signal.SIGUSR1)
        os._exit(0)
    return [squares, sleeps.exitcode, told, os.WTERMSIG(os.waitpid(ordered, 0)[1])]
