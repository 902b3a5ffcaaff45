"""The tasks of the executor conformance suite, as a Celery application has them."""

import time

from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

app = Celery("conformance", broker="memory://", set_as_current=True)


@app.task(name="conformance.add")
def add(a, b):
    return a + b


@app.task(name="conformance.echo")
def echo(value):
    return value


@app.task(name="conformance.fail")
def fail(message):
    raise ValueError(message)


@app.task(name="conformance.crash")
def crash(message):
    assert not message, message


@app.task(name="conformance.wait", bind=True)
def wait(self):
    self.update_state(state="WAITING")
    while True:
        time.sleep(3600)


@app.task(name="conformance.stubborn", bind=True)
def stubborn(self):
    self.update_state(state="WAITING")
    while True:
        pass


@app.task(name="conformance.polite", bind=True)
def polite(self):
    try:
        self.update_state(state="WAITING")
        while True:
            # A thread hears of its soft limit between two steps only.
            time.sleep(0.01)  # workload
    except SoftTimeLimitExceeded:
        return "told"


@app.task(name="conformance.report", bind=True)
def report(self, n):
    for step in range(n):
        self.update_state(state="STEP", meta=step)
    return n


@app.task(name="conformance.retry", bind=True)
def retry(self, message):
    raise self.retry(exc=ValueError(message), countdown=7)


@app.task(name="conformance.ignore")
def ignore():
    raise Ignore()


@app.task(name="conformance.reject")
def reject(requeue):
    raise Reject("on purpose", requeue=requeue)


@app.task(name="conformance.replace", bind=True)
def replace(self, a, b):
    raise self.replace(add.s(a, b))
