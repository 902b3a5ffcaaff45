"""Tests with a broker and whatever workers take from it, Celery's or nodes: they cannot tell, which is the point.

They need the variables of ../envs/dev.env, a worker of this service, and one of the other. They work in the workers' own database,
not in a test database, and so each makes accounts of its own.
"""

import os
import time
import uuid

import pytest

if not os.environ.get("CELERY_BROKER_URL"):
    pytest.exit("CELERY_BROKER_URL is not set; try: set -a; . ../envs/dev.env", returncode=2)


@pytest.fixture(autouse=True)
def workers_database(django_db_blocker):
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def account():
    """Makes an account with orders."""
    from apps.accounts.models import Account

    def make(*cents):
        account = Account.objects.create(name=f"account {uuid.uuid4()}")
        for amount in cents:
            account.orders.create(cents=amount)
        return account.pk

    return make


@pytest.fixture
def settled():
    """A TaskRun, once it is as it should be: its row is written by another process."""
    from apps.orchestration.models import TaskRun

    def wait(task_run_id, *statuses):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            run = TaskRun.objects.get(pk=task_run_id)
            if run.status in statuses:
                return run
            time.sleep(0.02)
        raise AssertionError(f"TaskRun {task_run_id} is still {run.status}")

    return wait
