"""An application with queues of its own making: exchanges, bindings, priorities. As a program, a client that tells what came of each.

Settings come from the environment: BROKER, BACKEND. Standard output: one JSON object.
"""

import json
import os
import sys

from celery import Celery, chain
from celery.signals import celeryd_after_setup
from celery.utils.nodenames import worker_direct
from kombu import Exchange, Queue

from waiting import WAIT, soon

app = Celery("declared", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_direct=True,
    task_queues=(
        Queue("celery"),
        Queue("prio", Exchange("media"), routing_key="media.prio", queue_arguments={"x-max-priority": 10}),
        Queue("dx", Exchange("dex", type="direct"), routing_key="dkey"),
        Queue("feed", Exchange("feeds", type="topic"), routing_key="feed.#"),
    ),
    task_routes={
        "prio": {"queue": "prio"},
        "dx": {"exchange": "dex", "routing_key": "dkey"},
        "feed": {"exchange": "feeds", "exchange_type": "topic", "routing_key": "feed.two"},
    },
)


# As `told.rs` has it.
WORKER = "declared@test"


@celeryd_after_setup.connect
def take_more(sender, instance, **more):
    instance.app.amqp.queues.select_add(f"{sender}.own")


@app.task(name="seven")
def seven():
    return 7


@app.task(name="prio", bind=True)
def prio(self):
    return [self.request.delivery_info["routing_key"], self.request.delivery_info["priority"]]


@app.task(name="dx", bind=True)
def dx(self):
    return [self.request.delivery_info["exchange"], self.request.delivery_info["routing_key"]]


@app.task(name="feed", bind=True)
def feed(self):
    return [self.request.delivery_info["exchange"], self.request.delivery_info["routing_key"]]


def end(result):
    try:
        return result.get(timeout=WAIT)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    # The worker is there first: queues are as it has declared them.
    soon("somebody works", lambda: app.control.ping(timeout=0.5))
    told = {
        "prio": end(prio.apply_async(priority=5)),
        "dx": end(dx.delay()),
        "later": [end(chain(seven.si(), task.si())()) for task in (prio, dx)],
    }
    told["own"] = [end(seven.apply_async(queue=f"{WORKER}.own")), end(seven.apply_async(queue=worker_direct(WORKER)))]
    # Who takes from no queue on Redis does not know what kind an exchange is (`kombu/transport/virtual/base.py::typeof`).
    if app.conf.broker_url.startswith("amqp"):
        told["feed"] = [end(feed.delay()), end(chain(seven.si(), feed.si())())]
    json.dump(told, sys.stdout)
