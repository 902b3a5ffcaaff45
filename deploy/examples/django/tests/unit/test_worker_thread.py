"""Celery's own pytest support: a worker in a thread of the test, on a broker in memory."""

import time

import pytest
from apps.accounts.models import Account
from apps.accounts.tasks import report_on_all_accounts, statistics
from apps.orchestration.models import TaskRun
from apps.orchestration.tasks import execute_task
from celery.contrib.testing.worker import start_worker
from config.celery import app


@pytest.fixture
def worker(transactional_db):
    """The worker's thread sees what the test has written: nothing is kept back in a transaction."""
    with start_worker(app, perform_ping_check=False) as running:
        yield running


def test_a_run_is_executed_and_kept(worker):
    run = TaskRun.objects.create(pipeline="add_up", payload={"numbers": [4, 5]})
    assert execute_task.delay(run.pk).get(timeout=30) == 9
    # Workers store the result before they call `on_success`, which writes the row.
    deadline = time.monotonic() + 30
    while run.status != TaskRun.Status.SUCCESS and time.monotonic() < deadline:
        time.sleep(0.02)
        run.refresh_from_db()
    assert (run.status, run.result) == (TaskRun.Status.SUCCESS, 9)


def test_a_task_becomes_a_chord(worker):
    for name in ("a", "b"):
        Account.objects.create(name=name).orders.create(cents=100)
    assert report_on_all_accounts.delay().get(timeout=30)["total"] == 200


@pytest.mark.celery(broker_url="memory://", result_backend="cache+memory://")
def test_shared_tasks_run_in_the_fixtures_worker(celery_app, celery_worker):
    """The fixtures bring an application of their own, which shared tasks follow."""
    assert statistics.delay([5], 1).get(timeout=30)["median"] == 5
