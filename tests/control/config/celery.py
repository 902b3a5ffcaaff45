"""The application of the guide that people validate their workers with: its settings come from the environment."""

import os

from celery import Celery

app = Celery("config", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app.conf.task_default_queue = os.environ.get("CELERY_TASK_DEFAULT_QUEUE", "celery")
app.conf.broker_connection_retry_on_startup = True
app.conf.task_send_sent_event = True


@app.task(name="proj.add")
def add(a, b):
    return a + b


@app.task(name="proj.fail")
def fail():
    raise ValueError("no")


@app.task(name="proj.wait")
def wait():
    """Only nodes run it."""
