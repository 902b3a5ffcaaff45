"""A Celery application with a task that does nothing; as a program, `celery_app.py <tasks>` sends that many."""

import os
import sys

from celery import Celery

app = Celery("bench", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task(name="noop")
def noop(number, padding):
    return number


if __name__ == "__main__":
    with app.connection_for_write() as connection, app.amqp.producer_pool.acquire(block=True) as producer:
        padding = "x" * 300
        for number in range(int(sys.argv[1])):
            noop.apply_async((number, padding), producer=producer)
