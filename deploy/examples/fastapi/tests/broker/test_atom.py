"""Jobs of this service."""

import pytest
from app.celery_app import celery_app

LINE = [(float(x), 2.0 * x + 1) for x in range(9)]


def test_a_model_is_cross_validated(client):
    told = client.wait(client.begin("/models", points=LINE, folds=3))
    assert told["state"] == "SUCCESS", told
    assert told["value"]["model"] == pytest.approx({"slope": 2.0, "intercept": 1.0})
    assert told["value"]["error"] == pytest.approx(0)


def test_a_fold_without_points_fails_the_model(client):
    # One of two folds holds out the only point there is, the other nothing: both fail, and the first is told.
    told = client.wait(client.begin("/models", points=[(1, 1)], folds=2))
    assert told["state"] == "FAILURE", told
    assert "ChordError" in told["error"] and "no points" in told["error"], told


def test_progress_is_told(client):
    task_id = client.begin("/trainings", points=LINE, epochs=100_000, pause=0.01)
    told = client.wait(task_id, lambda told: told["state"] == "PROGRESS" and told["value"]["done"] > 1)
    assert told["value"]["of"] == 100_000
    assert client.delete(f"/results/{task_id}").status_code == 202
    assert client.wait(task_id)["state"] == "REVOKED"


def test_a_training_ends_at_its_soft_limit(client):
    told = client.wait(client.begin("/trainings", points=LINE, epochs=100_000, pause=0.01, soft_time_limit=1))
    assert told["state"] == "SUCCESS", told
    assert 0 < told["value"]["epochs"] < 100_000


def test_both_services_work_on_one_result(client):
    """The platform reads the orders, this service learns from them."""
    account = celery_app.send_task("apps.accounts.tasks.provision_account", ("both services",)).get(timeout=60)
    told = client.wait(client.begin("/account-reports", account_ids=[account]))
    assert told["value"]["accounts"] == [{"account": account, "orders": 0, "total": 0, "median": 0}], told


def test_workers_tell_of_themselves():
    inspect = celery_app.control.inspect(timeout=5)
    queues = {queue["name"] for queues in (inspect.active_queues() or {}).values() for queue in queues}
    assert {"atom", "platform", "platform.cpu", "platform.io"} <= queues
    registered = {name for names in (inspect.registered() or {}).values() for name in names}
    assert {"app.atom.tasks.train", "apps.accounts.tasks.account_report"} <= registered
