"""The application that the worker outside runs: the tasks of Celery's integration suite with the settings its conftest gives.

The suite's `t.integration.tasks` has no application of its own (its worker takes one from a fixture), so `-A` needs this one.
"""

import os

from celery import Celery

app = Celery("suite", broker=os.environ["TEST_BROKER"], backend=os.environ["TEST_BACKEND"])
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_heartbeat=0,
    enable_utc=True,
    result_extended=True,
    task_create_missing_queues=os.environ["SUITE_CREATES_QUEUES"] == "1",
    timezone="UTC",
    worker_hijack_root_logger=False,
    worker_log_color=False,
)
app.set_default()

from celery.contrib.testing import tasks as _ping  # noqa: E402,F401 its import registers `celery.ping`
from t.integration import tasks  # noqa: E402 the tasks are shared ones, they want an application first

app.register_task(tasks.ClassBasedAutoRetryTask)
