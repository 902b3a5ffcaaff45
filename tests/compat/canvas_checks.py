"""What the canvas cases look with: how a workflow is sent, what came of it, and whether that is right."""

import uuid

from celery.result import GroupResult

from canvas_tasks import app, echo, fail, notes
from waiting import soon, WAIT

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def fresh():
    """A key for the notes of one workflow."""
    return uuid.uuid4().hex


def sent(workflow):
    return workflow.apply_async()


def value(workflow, args=(), kwargs=None):
    return workflow.apply_async(args, kwargs or {}).get(timeout=WAIT)


def leaves(result):
    """Every task that makes a result up."""
    if isinstance(result, GroupResult):
        return [leaf for member in result.results for leaf in leaves(member)]
    return [result]


def endings(result):
    """The state and the exception of every task that makes the result up. Nothing is asked of their parents."""
    told = []
    for leaf in leaves(result):
        bare = app.AsyncResult(leaf.id)
        soon(f"{leaf.id} ends, which is {bare.state}", bare.ready)
        told.append((bare.state, type(bare.result).__name__ if bare.state != "SUCCESS" else bare.result, str(bare.result)))
    return told


def fails(workflow, kind=None):
    """Everything that makes the workflow's result up fails, with an exception of a kind."""
    result = sent(workflow)
    for state, name, text in endings(result):
        assert state == "FAILURE" and kind in (None, name), f"{workflow}: {state} {name} {text}"
    return result


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def noted(key, count):
    """What was noted, once there is so much; more would come together with it or never."""
    soon(f"{count} notes are made, there are {notes(key)}", lambda: len(notes(key)) >= count)
    return notes(key)


def settled():
    """Returns when what was sent before has been taken: tasks are taken in their order."""
    for result in [echo.delay(n) for n in range(20)]:
        result.get(timeout=WAIT)


F = fail.s
E = echo.s
