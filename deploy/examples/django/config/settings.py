"""Django's settings."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# An example's key. A real one comes from the environment.
SECRET_KEY = os.environ.get("SECRET_KEY") or "an example"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "testserver"]
ROOT_URLCONF = "config.urls"
USE_TZ = True

INSTALLED_APPS = [
    "apps.accounts",
    "apps.orchestration",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE") or BASE_DIR / "shop.sqlite3",
        # Several processes write to the one file: they wait for each other, and take the lock when they begin.
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
