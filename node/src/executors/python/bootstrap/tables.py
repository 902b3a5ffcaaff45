"""The tables of django-celery-beat, read and written through the application's own Django.

A process of its own does so, forked when its node begins to lead. Each question of the node's says what was sent since the last one,
which is written into the rows; the answer is all rows, if any has changed. What is due, and what that means, is the node's to
decide; the rows mean what `django_celery_beat/schedulers.py` takes them for.
"""

import json
import sys
from datetime import datetime, timedelta, timezone

from celery import schedules

from umbel_bootstrap import wire

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def installed():
    """Whether the application has the tables among its Django apps."""
    module = sys.modules.get("django.apps")
    return module is not None and module.apps.apps_ready and module.apps.is_installed("django_celery_beat")


def tables(head, current):
    """The way of this process, beside those of running tasks (`pools.py`)."""
    del head, current

    def pool(host):
        while True:
            frame = host.channel.receive()
            if frame is None:
                return
            kind, question, _ = frame
            if kind == wire.LOOK:
                host.channel.send(wire.LOOKED, *answer(host.app, question))

    return pool


def answer(app, question):
    """The head and the payload of an answer. What is wrong with the database is the answer, too: the next question may find it well."""
    from django.db import Error, close_old_connections

    try:
        close_old_connections()
        if question["install"]:
            install(app)
        write(question["ran"])
        # Before the rows: what changes meanwhile is found by the next question.
        change = stamp()
        if question["known"] == change:
            return {"change": change, "wrong": []}, b""
        end_expired()
        rows, wrong = read(app)
        return {"change": change, "wrong": wrong}, json.dumps(rows).encode()
    except (Error, OSError, ValueError) as error:
        absent = "no such table" in str(error) or "exist" in str(error)
        advice = "; run manage.py migrate django_celery_beat" if absent else ""
        return {"error": "%s: %s%s" % (type(error).__name__, error, advice)}, b""


def stamp():
    """What changes with every change of the rows that Django hears of."""
    from django_celery_beat.models import PeriodicTasks

    last = PeriodicTasks.last_change()
    return "" if last is None else last.isoformat()


def install(app):
    """Puts the application's `beat_schedule` and Celery's own entry into the tables, as their own scheduler does when it starts."""
    from django.db import Error
    from django_celery_beat.schedulers import ModelEntry

    entries = dict(app.conf.beat_schedule)
    if app.conf.result_expires:
        nightly = {"task": "celery.backend_cleanup", "schedule": schedules.crontab("0", "4", "*"), "options": {"expire_seconds": 12 * 3600}}
        entries.setdefault("celery.backend_cleanup", nightly)
    for name, fields in entries.items():
        try:
            ModelEntry.from_entry(name, app=app, **fields)
        except Error:
            raise
        except Exception as error:
            app.log.get_default_logger().error("The entry %r of beat_schedule has no form in the tables: %r", name, error)


def write(ran):
    """Writes down what was sent, of rows that are still on, and never an older time over a newer one.

    Only what was counted is touched, so that nothing that somebody changes meanwhile is undone. Rows that were to be sent once and
    have been are turned off as Celery does it: they can be turned on again.
    """
    if not ran:
        return
    from django.db import transaction
    from django.db.models import Q
    from django_celery_beat.models import PeriodicTask, PeriodicTasks

    rows = PeriodicTask._default_manager.filter(enabled=True)
    over = [sent["name"] for sent in ran if sent["over"]]
    with transaction.atomic(using=rows.db):
        for sent in ran:
            at = time_of(sent["at"])
            older = rows.filter(Q(last_run_at__isnull=True) | Q(last_run_at__lt=at), name=sent["name"])
            older.update(last_run_at=at, total_run_count=sent["runs"])
        if over and rows.filter(name__in=over, one_off=True).update(enabled=False, last_run_at=None, total_run_count=0):
            PeriodicTasks.update_changed()


def end_expired():
    """Turns off rows whose time is over, as Celery does."""
    from django_celery_beat.models import PeriodicTask

    now = time_of((datetime.now(timezone.utc) - EPOCH) / timedelta(milliseconds=1))
    PeriodicTask._default_manager.filter(enabled=True, expires__lte=now).update(enabled=False, last_run_at=None)


def read(app):
    """All rows that are on, and what is wrong with those that say nothing."""
    from django_celery_beat.models import PeriodicTask

    rows, wrong = [], []
    found = PeriodicTask._default_manager.filter(enabled=True).select_related("interval", "crontab", "solar", "clocked")
    for row in found.order_by("name"):
        try:
            rows.append(describe(app, row))
        except (ValueError, TypeError, OverflowError) as error:
            wrong.append("the periodic task %r is left out: %s" % (row.name, error))
    return rows, wrong


def describe(app, row):
    """One row, as plain data; the times in milliseconds."""
    when, zone = timing(app, row)
    return {
        "name": row.name,
        "task": row.task,
        "schedule": when,
        "timezone": zone,
        "args": parsed(row, "args", "[]", list),
        "kwargs": parsed(row, "kwargs", "{}", dict),
        "options": options(row),
        "relative": False,
        "one_off": row.one_off,
        "starts": millis(row.start_time),
        "ends": millis(row.expires),
        "last": millis(row.last_run_at),
        "runs": row.total_run_count,
        "changed": millis(row.date_changed),
    }


def parsed(row, field, default, kind):
    """A column of JSON. kombu's own forms in it (dates, UUIDs) stay as they are written: they go to the worker like that."""
    try:
        value = json.loads(getattr(row, field) or default)
    except ValueError as error:
        raise ValueError("its %s are no JSON: %s" % (field, error)) from None
    if not isinstance(value, kind):
        raise ValueError("its %s are no %s" % (field, "list" if kind is list else "mapping"))
    return value


def options(row):
    """What `apply_async` is given."""
    given = {name: getattr(row, name) for name in ("queue", "exchange", "routing_key", "priority")}
    given = {name: value for name, value in given.items() if value is not None and value != ""}
    if row.expires is not None:
        given["expires"] = aware(row.expires).isoformat()
    elif row.expire_seconds:
        given["expires"] = row.expire_seconds
    given["headers"] = {**parsed(row, "headers", "{}", dict), "periodic_task_name": row.name}
    return given


def timing(app, row):
    """When it is due, and by the wall clock of which zone; none is that of the settings."""
    from django.conf import settings

    if row.interval is not None:
        length = timedelta(**{row.interval.period: row.interval.every})
        return {"kind": "every", "seconds": length.total_seconds(), "relative": False}, None
    if row.crontab is not None:
        fields = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
        when = {"kind": "crontab", **{field: str(getattr(row.crontab, field)).replace(" ", "") for field in fields}}
        own = getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True)
        return when, str(row.crontab.timezone) if own else str(app.timezone)
    if row.solar is not None:
        return {"kind": "solar", "event": row.solar.event, "lat": float(row.solar.latitude), "lon": float(row.solar.longitude)}, None
    if row.clocked is not None:
        return {"kind": "clocked", "at": millis(row.clocked.clocked_time)}, None
    raise ValueError("it has no schedule: set one of interval, crontab, solar and clocked")


def aware(value):
    """A time that says its zone. Where Django keeps none (`USE_TZ = False`), django-celery-beat's times are UTC."""
    return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


def millis(value):
    """A time as milliseconds since 1970."""
    return None if value is None else (aware(value) - EPOCH) // timedelta(milliseconds=1)


def time_of(millis):
    """Milliseconds since 1970 as a time that the database takes."""
    from django.conf import settings

    value = EPOCH + timedelta(milliseconds=millis)
    return value if settings.USE_TZ else value.replace(tzinfo=None)
