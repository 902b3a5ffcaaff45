"""How shops test tasks: called as functions, applied, and in eager mode. No worker takes part, whichever it is in production.

Eager mode only emulates a worker: it cannot replace a task by a chord, which is tested in test_worker_thread.py.
"""

import pytest
from app.atom import tasks
from app.celery_app import celery_app
from app.main import app
from fastapi.testclient import TestClient

LINE = [(float(x), 2.0 * x + 1) for x in range(9)]


@pytest.fixture
def eager():
    celery_app.conf.update(task_always_eager=True, task_eager_propagates=True, task_store_eager_result=True)
    yield
    celery_app.conf.update(task_always_eager=False, task_eager_propagates=False, task_store_eager_result=False)


def test_a_task_is_a_function():
    assert tasks.predict({"slope": 2.0, "intercept": 1.0}, 3) == 7.0
    assert tasks.fit_series([1, 3, 5]) == {"slope": 2.0, "intercept": 1.0}


def test_a_task_is_applied():
    assert tasks.fit_fold.apply((LINE, 0, 3)).get()["error"] == pytest.approx(0)
    assert tasks.fit_series.apply(([],)).state == "FAILURE"


def test_a_chord_runs_in_eager_mode(eager):
    trained = tasks.cross_validation(LINE, 3).delay().get()
    assert trained["model"] == pytest.approx({"slope": 2.0, "intercept": 1.0})


def test_errors_are_raised_in_eager_mode(eager):
    with pytest.raises(ValueError, match="no points"):
        tasks.fit_series.delay([])


def test_the_service_answers(eager):
    client = TestClient(app)
    task_id = client.post("/trainings", json={"points": LINE, "epochs": 2}).json()["id"]
    told = client.get(f"/results/{task_id}").json()
    assert told["state"] == "SUCCESS" and told["value"]["epochs"] == 2
    assert client.post("/models", json={"points": []}).status_code == 422
    assert client.delete(f"/results/{task_id}").status_code == 409


def test_tasks_go_to_their_queues():
    route = celery_app.amqp.router.route
    assert route({}, "app.atom.tasks.train")["queue"].name == "atom"
    assert route({}, "apps.accounts.tasks.account_report")["queue"].name == "platform"
