"""An application whose own beat is on, beside a node's."""

import os

from celery import Celery

app = Celery("beats", broker=os.environ["BROKER"])
app.conf.update(
    beat_schedule={"tick": {"task": "add", "schedule": 0.3, "args": [1, 1]}},
    beat_schedule_filename=os.environ["SCHEDULE"],
)
