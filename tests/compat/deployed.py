"""An application as it is deployed: limits on the command line, a worker's settings, what it looks at and adds when a worker starts. As a
program, a client that tells what came of each scenario.

Settings come from the environment: BROKER, BACKEND, RUNS (a file), CERTIFICATES (a folder: TLS as a setting). Standard output: one JSON
object.
"""

import json
import logging
import os
import pathlib
import ssl
import sys
import time

from celery import Celery, bootsteps
from celery.exceptions import Retry, SoftTimeLimitExceeded
from celery.signals import after_setup_logger, after_setup_task_logger, heartbeat_sent, worker_ready
from celery.utils.log import get_task_logger

from waiting import WAIT, soon

app = Celery("deployed", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True, worker_disable_rate_limits=True)
if "CERTIFICATES" in os.environ:
    folder = pathlib.Path(os.environ["CERTIFICATES"])
    files = {"ca_certs": folder / "ca.crt", "certfile": folder / "client.crt", "keyfile": folder / "client.key"}
    options = {"ssl_" + name: str(file) for name, file in files.items()}
    app.conf.broker_use_ssl = app.conf.redis_backend_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, **options}
logger = get_task_logger(__name__)


class Probe(bootsteps.StartStopStep):
    """Something that watches over a worker."""


app.steps["worker"].add(Probe)


class Redacts(logging.Filter):
    def filter(self, record):
        record.msg = str(record.msg).replace("SECRET", "***")
        return True


@after_setup_logger.connect
@after_setup_task_logger.connect
def set_up(logger, **more):
    for handler in logger.handlers:
        handler.addFilter(Redacts())


@worker_ready.connect
@heartbeat_sent.connect
def lives(signal, **more):
    """As probes of orchestrators have it: a file that says that the worker lives."""
    with open(os.environ["RUNS"] + ".alive", "a") as file:
        print(signal.name, file=file)


@app.task(name="rare", rate_limit="1/m")
def rare(number):
    return number


@app.task(name="heeds")
def heeds():
    try:
        time.sleep(3600)
    except SoftTimeLimitExceeded:
        return "told"


@app.task(name="heeds_not")
def heeds_not():
    while True:
        try:
            time.sleep(3600)
        except SoftTimeLimitExceeded:
            pass


@app.task(name="asks", max_retries=2)
def asks():
    with open(os.environ["RUNS"], "a") as file:
        print(file=file)
    raise Retry("by hand", when=0)


@app.task(name="becomes_float", bind=True)
def becomes_float(self, number):
    if type(number) is int:
        raise self.retry(args=(float(number),), countdown=0)
    return repr(number)


@app.task(name="looks")
def looks():
    logger.error("the word is SECRET")
    return [os.path.basename(sys.argv[0]), *sys.argv[1:]]


def end(result):
    try:
        return result.get(timeout=WAIT)
    except Exception as error:
        return type(error).__name__


def alive():
    with open(os.environ["RUNS"] + ".alive") as file:
        lines = file.read().splitlines()
    return lines[:3] if len(lines) > 2 else None


def by_hand():
    return [end(asks.delay()), len(open(os.environ["RUNS"]).readlines())]


if __name__ == "__main__":
    told = {
        "rare": [end(result) for result in [rare.delay(number) for number in range(3)]],
        "limits": [end(heeds.delay()), end(heeds_not.delay())],
        "by_hand": by_hand(),
        "becomes_float": end(becomes_float.delay(1)),
        "looks": end(looks.delay()),
        "alive": soon("it lives", alive),
    }
    json.dump(told, sys.stdout)
