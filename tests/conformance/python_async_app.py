"""The tasks of the executor conformance suite as coroutines."""

import asyncio

from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

app = Celery("conformance", broker="memory://", set_as_current=True)


@app.task(name="conformance.add")
async def add(a, b):
    return a + b


@app.task(name="conformance.echo")
async def echo(value):
    return value


@app.task(name="conformance.fail")
async def fail(message):
    raise ValueError(message)


@app.task(name="conformance.crash")
async def crash(message):
    assert not message, message


@app.task(name="conformance.wait", bind=True)
async def wait(self):
    self.update_state(state="WAITING")
    while True:
        await asyncio.sleep(3600)


@app.task(name="conformance.stubborn", bind=True)
async def stubborn(self):
    self.update_state(state="WAITING")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


@app.task(name="conformance.polite", bind=True)
async def polite(self):
    try:
        self.update_state(state="WAITING")
        while True:
            await asyncio.sleep(3600)
    except SoftTimeLimitExceeded:
        return "told"


@app.task(name="conformance.report", bind=True)
async def report(self, n):
    for step in range(n):
        self.update_state(state="STEP", meta=step)
    return n


@app.task(name="conformance.retry", bind=True)
async def retry(self, message):
    raise self.retry(exc=ValueError(message), countdown=7)


@app.task(name="conformance.ignore")
async def ignore():
    raise Ignore()


@app.task(name="conformance.reject")
async def reject(requeue):
    raise Reject("on purpose", requeue=requeue)


@app.task(name="conformance.replace", bind=True)
async def replace(self, a, b):
    raise self.replace(add.s(a, b))
