"""Work of this service."""

import json
from io import StringIO

import pytest
from apps.accounts.models import Report
from apps.accounts.tasks import account_report, forecast, orders_of, provision_account
from apps.orchestration.models import TaskRun
from apps.orchestration.tasks import execute_task
from celery.exceptions import ChordError
from celery.result import AsyncResult
from config.celery import app
from django.core.management import call_command

WAIT = 60


def test_a_report_is_put_together_by_a_chord(account):
    accounts = [account(100, 300, 200), account(), account(50)]
    told = account_report.delay(accounts).get(timeout=WAIT)
    assert [part["total"] for part in told["accounts"]] == [600, 0, 50]
    assert told["accounts"][0] == {"account": accounts[0], "orders": 3, "total": 600, "median": 200}
    report = Report.objects.get(pk=told["report"])
    assert report.totals == {str(accounts[0]): 600, str(accounts[1]): 0, str(accounts[2]): 50}
    assert Report.objects.filter(task_id=report.task_id).count() == 1


def test_an_account_that_is_not_there_fails_its_report(account):
    with pytest.raises(ChordError, match="DoesNotExist"):
        account_report.delay([account(1), 10**9]).get(timeout=WAIT)


def test_many_reports_at_once(account):
    accounts = [account(cents) for cents in (1, 2, 3)]
    results = [account_report.delay(accounts) for _ in range(20)]
    assert [result.get(timeout=WAIT)["total"] for result in results] == [6] * 20


def test_a_run_is_asked_for_over_http(client, settled):
    asked = {"pipeline": "add_up", "payload": {"numbers": [1, 2, 3]}}
    started = client.post("/task-runs", json.dumps(asked), content_type="application/json").json()
    run = settled(started["id"], TaskRun.Status.SUCCESS)
    assert (run.result, run.attempts) == (6, 1)
    told = client.get(f"/task-runs/{run.pk}").json()
    assert told == {"status": "SUCCESS", "attempts": 1, "result": 6, "error": ""}


def test_a_run_is_retried_until_it_succeeds(settled):
    run = TaskRun.objects.create(pipeline="unreliable", payload={"succeeds_at": 3})
    result = execute_task.apply_async(args=[run.pk, "public"])
    assert result.get(timeout=WAIT) == 3
    run = settled(run.pk, TaskRun.Status.SUCCESS)
    assert (run.attempts, run.result, run.task_id, run.error) == (3, 3, result.id, "")


def test_a_run_that_is_never_ready_fails(settled):
    run = TaskRun.objects.create(pipeline="unreliable", payload={"succeeds_at": 99})
    result = execute_task.delay(run.pk)
    with pytest.raises(Exception, match="attempt 4"):
        result.get(timeout=WAIT)
    run = settled(run.pk, TaskRun.Status.FAILURE)
    assert (run.attempts, run.error) == (4, "TryLater('attempt 4')")


def test_a_failure_is_kept_and_monitored(settled):
    run = TaskRun.objects.create(pipeline="broken", payload={"reason": "no stock"})
    result = execute_task.delay(run.pk)
    with pytest.raises(ValueError, match="no stock"):
        result.get(timeout=WAIT)
    assert settled(run.pk, TaskRun.Status.FAILURE).error == "ValueError('no stock')"
    output = StringIO()
    call_command("monitor_orchestration_tasks", task_id=result.id, stdout=output)
    assert output.getvalue().strip() == f"task {result.id}: celery FAILURE, TaskRun {run.pk} FAILURE"


def test_both_services_work_on_one_result(account):
    """The platform reads the orders, the other service learns from them: 100, 200, 300, and then?"""
    assert forecast.delay(account(100, 200, 300), 3).get(timeout=WAIT) == pytest.approx(400)


def test_tasks_run_where_their_routes_say(account):
    result = orders_of.delay(account(7))
    assert result.get(timeout=WAIT) == [7]
    assert AsyncResult(result.id, app=app).queue == "platform.io"


def test_asking_twice_provisions_once():
    results = [provision_account.delay("asked for twice") for _ in range(2)]
    assert len({result.get(timeout=WAIT) for result in results}) == 1
