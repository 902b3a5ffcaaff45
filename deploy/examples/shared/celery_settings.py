"""Celery's settings for both services of the shop: one set of variables, read in one place.

| variable | meaning | without it |
|---|---|---|
| `CELERY_BROKER_URL` | where messages are | `REDIS_URL` |
| `CELERY_RESULT_BACKEND` | where results are | `REDIS_URL` |
| `CELERY_TASK_DEFAULT_QUEUE` | work of the platform | `platform` |
| `CELERY_ATOM_QUEUE` | machine learning | `atom` |
| `CELERY_CPU_QUEUE`, `CELERY_IO_QUEUE` | what computes, what waits | `<platform>.cpu`, `<platform>.io` |
| `CELERY_BEAT_QUEUE` | what the clock starts | `<platform>.beat` |
| `CELERY_WORKER_CONCURRENCY` | processes of a worker | as many as there are cores |
"""

import os

from celery.schedules import crontab
from kombu import Queue


def variable(name, default=None):
    """A variable of the environment; one that is empty counts as not there, as compose files leave them."""
    return os.environ.get(name) or default


REDIS_URL = variable("REDIS_URL", "redis://localhost:6379/0")
BROKER_URL = variable("CELERY_BROKER_URL", REDIS_URL)
RESULT_BACKEND = variable("CELERY_RESULT_BACKEND", REDIS_URL)

PLATFORM = variable("CELERY_TASK_DEFAULT_QUEUE", "platform")
ATOM = variable("CELERY_ATOM_QUEUE", "atom")
CPU = variable("CELERY_CPU_QUEUE", f"{PLATFORM}.cpu")
IO = variable("CELERY_IO_QUEUE", f"{PLATFORM}.io")
BEAT = variable("CELERY_BEAT_QUEUE", f"{PLATFORM}.beat")

ROUTES = {
    "apps.accounts.tasks.orders_of": {"queue": IO},
    "apps.accounts.tasks.statistics": {"queue": CPU},
    "apps.*": {"queue": PLATFORM},
    "app.atom.*": {"queue": ATOM},
}

SCHEDULE = {
    "purge-task-runs": {
        "task": "apps.orchestration.tasks.purge_task_runs",
        "schedule": crontab(hour=3, minute=0),
        "options": {"queue": BEAT},
    },
    "report-on-all-accounts": {
        "task": "apps.accounts.tasks.report_on_all_accounts",
        "schedule": crontab(hour=5, minute=0, day_of_week="mon"),
        "options": {"queue": BEAT},
    },
}


def configure_celery_app(app, default_queue):
    """Gives `app` the settings that every service of the shop has; what names no queue goes to `default_queue`."""
    app.conf.update(
        broker_url=BROKER_URL,
        result_backend=RESULT_BACKEND,
        broker_connection_retry_on_startup=True,
        task_default_queue=default_queue,
        task_queues=[Queue(name) for name in (PLATFORM, CPU, IO, BEAT, ATOM)],
        task_routes=ROUTES,
        beat_schedule=SCHEDULE,
        # A killed worker's tasks run again, so tasks are written to be run twice.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_track_started=True,
        result_extended=True,
        result_expires=24 * 3600,
        timezone="UTC",
    )
    concurrency = variable("CELERY_WORKER_CONCURRENCY")
    if concurrency:
        app.conf.worker_concurrency = int(concurrency)
    return app
