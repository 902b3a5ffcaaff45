"""Asks workers with Celery's own control API. Argument: a list of [method, arguments, {destination, pattern, matcher, ...}];
standard output: for each, what each worker said."""

import json
import sys

from config.celery import app

answers = []
for method, arguments, *how in json.loads(sys.argv[1]):
    options = {"reply": True, "timeout": 2.0, **(how[0] if how else {})}
    said = {}
    for reply in app.control.broadcast(method, arguments=arguments, **options) or []:
        said.update(reply)
    answers.append(said)
print(json.dumps(answers))
