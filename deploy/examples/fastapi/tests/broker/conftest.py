"""Tests with a broker and whatever workers take from it, Celery's or nodes: they cannot tell, which is the point.

They need the variables of ../envs/dev.env, a worker of this service, and one of the platform.
"""

import os
import time

import pytest
from app.main import app
from fastapi.testclient import TestClient

if not os.environ.get("CELERY_BROKER_URL"):
    pytest.exit("CELERY_BROKER_URL is not set; try: set -a; . ../envs/dev.env", returncode=2)


class Client(TestClient):
    def begin(self, path, **asked):
        answer = self.post(path, json=asked)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def wait(self, task_id, until=lambda told: told["state"] in ("SUCCESS", "FAILURE", "REVOKED")):
        """What is told of a job, once it is as it should be."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            told = self.get(f"/results/{task_id}").json()
            if until(told):
                return told
            time.sleep(0.02)
        raise AssertionError(f"{task_id} is still {told}")


@pytest.fixture
def client():
    return Client(app)
