"""The application of a Django project whose periodic tasks are in the tables of django-celery-beat."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tables_settings")

app = Celery("tables_app")
app.config_from_object("django.conf:settings", namespace="CELERY")
