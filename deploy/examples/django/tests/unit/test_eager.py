"""How shops test tasks: called as functions, applied, and in eager mode. No worker takes part, whichever it is in production.

Eager mode only emulates a worker: it cannot replace a task by a chord, which is tested in test_worker_thread.py.
"""

import json

import pytest
from apps.accounts.models import Account, Report
from apps.accounts.tasks import provision_account, reporting, statistics
from apps.orchestration.models import TaskRun
from apps.orchestration.tasks import execute_task, purge_task_runs
from config.celery import app

pytestmark = pytest.mark.django_db


@pytest.fixture
def eager(settings):
    settings.CELERY_TASK_ALWAYS_EAGER = True
    settings.CELERY_TASK_EAGER_PROPAGATES = True


def shop(*names):
    accounts = [Account.objects.create(name=name) for name in names]
    for at, account in enumerate(accounts):
        for cents in (100, 200 * (at + 1)):
            account.orders.create(cents=cents)
    return accounts


def test_a_task_is_a_function():
    assert statistics([1, 2, 9], 7) == {"account": 7, "orders": 3, "total": 12, "median": 2}
    assert provision_account("a") == provision_account("a")


def test_a_chord_runs_in_eager_mode(eager):
    accounts = shop("a", "b")
    told = reporting([account.pk for account in accounts]).delay().get()
    assert [part["total"] for part in told["accounts"]] == [300, 500]
    assert Report.objects.get(pk=told["report"]).totals == {str(accounts[0].pk): 300, str(accounts[1].pk): 500}


@pytest.mark.django_db(transaction=True)
def test_the_platform_answers(eager, client):
    asked = {"pipeline": "add_up", "payload": {"numbers": [1, 2, 3]}}
    started = client.post("/task-runs", json.dumps(asked), content_type="application/json")
    assert started.status_code == 202
    assert client.get(f"/task-runs/{started.json()['id']}").json() == {"status": "SUCCESS", "attempts": 1, "result": 6, "error": ""}


def test_a_run_is_retried(settings):
    settings.CELERY_TASK_ALWAYS_EAGER = True
    run = TaskRun.objects.create(pipeline="unreliable", payload={"succeeds_at": 3})
    assert execute_task.apply((run.pk,)).get() == 3
    run.refresh_from_db()
    assert (run.status, run.attempts, run.result) == ("SUCCESS", 3, 3)


def test_a_failure_is_kept():
    run = TaskRun.objects.create(pipeline="broken", payload={"reason": "no stock"})
    assert execute_task.apply((run.pk,)).state == "FAILURE"
    run.refresh_from_db()
    assert (run.status, run.error) == ("FAILURE", "ValueError('no stock')")


def test_old_runs_are_forgotten():
    TaskRun.objects.create(pipeline="add_up", status="SUCCESS")
    TaskRun.objects.create(pipeline="add_up")
    assert purge_task_runs(days=0) == 1
    assert TaskRun.objects.count() == 1


def test_tasks_go_to_their_queues():
    def queue(task):
        return app.amqp.router.route({}, task)["queue"].name

    assert queue("apps.accounts.tasks.orders_of") == "platform.io"
    assert queue("apps.accounts.tasks.statistics") == "platform.cpu"
    assert queue("apps.accounts.tasks.account_report") == "platform"
    assert queue("app.atom.tasks.fit_series") == "atom"


def test_the_clock_starts_tasks_that_are_there():
    app.loader.import_default_modules()
    entries = app.conf.beat_schedule.values()
    assert {entry["task"] for entry in entries} <= set(app.tasks)
    assert {entry["options"]["queue"] for entry in entries} == {"platform.beat"}
