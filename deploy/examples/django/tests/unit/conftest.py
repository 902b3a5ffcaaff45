"""Tests without a broker: everything stays in this process, on Django's test database."""

import os

os.environ["CELERY_BROKER_URL"] = "memory://"
os.environ["CELERY_RESULT_BACKEND"] = "cache+memory://"

pytest_plugins = ["celery.contrib.pytest"]
