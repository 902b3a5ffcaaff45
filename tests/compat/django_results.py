"""Settings of a Django whose database keeps results (`django-db`). DATABASE is its file."""

import os

SECRET_KEY = "of no use"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_results"]
# Whoever is about to write waits for others, and is not refused for having read before.
OPTIONS = {"timeout": 30, "transaction_mode": "IMMEDIATE"}
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"], "OPTIONS": OPTIONS},
}
