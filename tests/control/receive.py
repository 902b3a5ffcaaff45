"""Celery's own event receiver: writes every event as a line of JSON to the file named by the argument."""

import json
import sys

from config.celery import app

with open(sys.argv[1], "a", buffering=1) as out, app.connection_for_read() as connection:

    def on_event(event):
        out.write(json.dumps(event) + "\n")

    receiver = app.events.Receiver(connection, handlers={"*": on_event})
    with receiver.consumer_context(wakeup=False):
        for _ in receiver.itercapture(limit=None, timeout=None, wakeup=False):
            pass
