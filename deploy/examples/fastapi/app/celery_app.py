"""Celery's application of the machine learning service: `celery -A app.celery_app worker`, `node -A app.celery_app`."""

from celery import Celery
from celery_settings import ATOM, configure_celery_app

celery_app = configure_celery_app(Celery("shop"), default_queue=ATOM)
celery_app.autodiscover_tasks(["app.atom"])
