"""Sends a task: argument [name, args]; prints its id."""

import json
import sys

from config.celery import app

name, args = json.loads(sys.argv[1])
print(json.dumps(app.send_task(name, args).id))
