"""Coroutines that end together."""

import asyncio

from celery import Celery

app = Celery("python_crowd_tasks", broker="memory://", set_as_current=True)

crowd = []


@app.task(name="crowd.answer")
async def answer(text, size):
    """Gives its text back when `size` of them have come."""
    if not crowd:
        crowd.append(asyncio.Event())
    gate = crowd[0]
    crowd.append(None)
    if len(crowd) > size:
        crowd.clear()
        gate.set()
    await gate.wait()
    return text
