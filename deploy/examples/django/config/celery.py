"""Celery's application of the platform: `celery -A config.celery worker`, `node -A config.celery`."""

import os

from celery import Celery
from celery_settings import PLATFORM, configure_celery_app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("shop")
# What Django's settings say with the prefix CELERY_; what both services share comes after it.
app.config_from_object("django.conf:settings", namespace="CELERY")
configure_celery_app(app, default_queue=PLATFORM)
app.autodiscover_tasks()
