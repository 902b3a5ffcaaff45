"""Celery's own pytest support: a worker in a thread of the test, on a broker in memory."""

import pytest
from app.atom import tasks
from app.celery_app import celery_app
from celery.contrib.testing.worker import start_worker


@pytest.fixture(scope="module")
def worker():
    with start_worker(celery_app, perform_ping_check=False) as running:
        yield running


def test_a_task_runs_in_the_worker(worker):
    assert tasks.predict.delay({"slope": 2, "intercept": 1}, 3).get(timeout=30) == 7


def test_a_task_becomes_a_chord(worker):
    points = [(float(x), 2.0 * x + 1) for x in range(9)]
    assert tasks.train.delay(points).get(timeout=30)["error"] == pytest.approx(0)


def test_a_failure_is_told(worker):
    with pytest.raises(ValueError, match="no points"):
        tasks.fit_series.delay([]).get(timeout=30)
