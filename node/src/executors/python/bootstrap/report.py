"""What the application says of itself: its tasks with their options, its settings, its schedule."""

import inspect
import os
import platform
from datetime import timedelta
from functools import partial

import celery
import kombu
from celery import schedules
from celery.app.routes import MapRoute

from umbel_bootstrap import tracer

# As many arguments as one likes to give.
MANY = 1000

TASK_OPTIONS = (
    "max_retries",
    "default_retry_delay",
    "rate_limit",
    "time_limit",
    "soft_time_limit",
    "acks_late",
    "acks_on_failure_or_timeout",
    "reject_on_worker_lost",
    "ignore_result",
    "store_errors_even_if_ignored",
    "track_started",
)

SETTINGS = (
    "broker_url",
    "broker_read_url",
    "result_backend",
    "result_expires",
    "result_extended",
    "result_serializer",
    "result_compression",
    "task_default_queue",
    "task_default_priority",
    "task_inherit_parent_priority",
    "task_acks_late",
    "task_time_limit",
    "task_soft_time_limit",
    "task_routes",
    "task_queues",
    "task_queue_max_priority",
    "task_send_sent_event",
    "worker_concurrency",
    "worker_prefetch_multiplier",
    "worker_send_task_events",
    "worker_soft_shutdown_timeout",
    "worker_max_tasks_per_child",
    "worker_max_memory_per_child",
    "timezone",
    "enable_utc",
    "broker_transport_options",
    "result_backend_transport_options",
    "accept_content",
    "beat_max_loop_interval",
    "beat_cron_starting_deadline",
    "beat_scheduler",
)


# What an address may say as well.
TLS = ("broker_use_ssl", "redis_backend_use_ssl")


def report(app):
    """Everything, as plain data."""
    conf = app.conf
    return {
        "main": app.main,
        "python": platform.python_version(),
        "celery": celery.__version__,
        "kombu": kombu.__version__,
        "tasks": [describe(app, task) for name, task in sorted(app.tasks.items())],
        "settings": {**{name: plain(conf.get(name)) for name in SETTINGS}, **{name: tls(conf.get(name)) for name in TLS}},
        "configured": sorted(name for name in SETTINGS if is_configured(app, name)),
        "conf": configuration(conf),
        "routes": [rule for router in app.amqp.router.routes or () for rule in rules(router)],
        "schedule": [entry(name, spec) for name, spec in conf.beat_schedule.items()],
    }


def tls(setting):
    """What is asked of a connection's certificates; passwords of keys stay here."""
    if not isinstance(setting, dict):
        return bool(setting)
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else plain(value) for name, value in setting.items() if "pass" not in name}


def configuration(conf):
    """What `celery inspect conf` shows. Celery looks into addresses to hide their passwords, and may not know what it finds there."""
    try:
        return {name: plain(value) for name, value in conf.table(with_defaults=False, censored=True).items()}
    except Exception:
        return {}


def is_configured(app, name):
    """Whether somebody said something, so that a built-in default of Celery's does not pass for a wish."""
    from celery.app.defaults import DEFAULTS

    return app.conf.get(name) != DEFAULTS.get(name)


def describe(app, task):
    """One task's options, after annotations."""
    options = {name: plain(getattr(task, name, None)) for name in TASK_OPTIONS}
    header = getattr(task, "__header__", None)
    if app.conf.worker_disable_rate_limits:
        options["rate_limit"] = None
    return {
        "name": task.name,
        "queue": route(app, task),
        "priority": plain(getattr(task, "priority", None)),
        "expires": seconds(getattr(task, "expires", None)),
        "coroutine": tracer.is_coroutine(task),
        "errback": arguments(header),
        **options,
    }


def seconds(value):
    """A distance in seconds. A point in time is no task's option that a worker could pass on for ever."""
    return float(value) if isinstance(value, (int, float)) else None


def arguments(header):
    """How many arguments an errback takes; `None` of one that is always called with the failed id alone, as methods are."""
    if header is None or isinstance(header, partial):
        return None
    spec = inspect.getfullargspec(header)
    return MANY if spec.varargs else len(spec.args)


def route(app, task):
    """The queue that calls of a task go to; `None` when only a call can tell."""
    try:
        found = app.amqp.router.route(dict(task._get_exec_options()), task.name, (), {})
    except Exception:
        return None
    queue = found.get("queue")
    return getattr(queue, "name", queue)


def rules(router):
    """The patterns of `task_routes` and where they lead. What a router of the application's own would say of tasks that it does not
    have is not known here."""
    if not isinstance(router, MapRoute):
        return
    for name, target in router.map.items():
        yield name, destination(target)
    for pattern, target in router.patterns.items():
        yield f"/{pattern.pattern}/", destination(target)


def destination(target):
    """A queue alone may stand for all of it."""
    if not isinstance(target, dict):
        target = {"queue": target}
    queue = target.get("queue")
    options = {name: target.get(name) for name in ("exchange", "routing_key", "priority")}
    return plain({"queue": getattr(queue, "name", queue), **options})


def entry(name, spec):
    """One entry of the schedule."""
    schedule = spec.get("schedule")
    return {
        "name": name,
        "task": spec.get("task"),
        "schedule": timing(schedule),
        "args": plain(spec.get("args") or ()),
        "kwargs": plain(spec.get("kwargs") or {}),
        "options": plain(spec.get("options") or {}),
        "relative": bool(spec.get("relative")),
    }


def timing(schedule):
    """When an entry is due."""
    schedule = schedules.maybe_schedule(schedule) if not isinstance(schedule, schedules.BaseSchedule) else schedule
    if isinstance(schedule, schedules.crontab):
        fields = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
        return {"kind": "crontab", **{field: str(getattr(schedule, "_orig_" + field)) for field in fields}}
    if isinstance(schedule, schedules.solar):
        return {"kind": "solar", "event": schedule.event, "lat": schedule.lat, "lon": schedule.lon}
    if isinstance(schedule, schedules.schedule):
        return {"kind": "every", "seconds": schedule.run_every.total_seconds(), "relative": bool(schedule.relative)}
    return {"kind": "other", "repr": repr(schedule)}


def plain(value):
    """A value that JSON has a form for; what it has none for as its `repr`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, kombu.Queue):
        return {
            "name": value.name,
            "exchange": getattr(value.exchange, "name", ""),
            "exchange_type": getattr(value.exchange, "type", "direct"),
            "routing_key": value.routing_key,
        }
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return repr(value)
