"""The one task that runs every pipeline, and the row that says what came of it."""

from datetime import timedelta

from celery import Task, shared_task
from django.db.models import F
from django.utils import timezone

from .models import TaskRun
from .pipelines import PIPELINES, TryLater


class RecordedTask(Task):
    """A task whose first argument is the id of a TaskRun, which it keeps up to date."""

    def before_start(self, task_id, args, kwargs):
        self.record(args, task_id=task_id, status=TaskRun.Status.RUNNING, attempts=F("attempts") + 1)

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        self.record(args, status=TaskRun.Status.RETRYING, error=repr(exc))

    def on_success(self, retval, task_id, args, kwargs):
        self.record(args, status=TaskRun.Status.SUCCESS, result=retval, error="")

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self.record(args, status=TaskRun.Status.FAILURE, error=repr(exc))

    @staticmethod
    def record(args, **fields):
        TaskRun.objects.filter(pk=args[0]).update(updated=timezone.now(), **fields)


@shared_task(
    bind=True,
    base=RecordedTask,
    autoretry_for=(TryLater,),
    max_retries=3,
    retry_backoff=True,
    retry_backoff_max=1,
    retry_jitter=False,
)
def execute_task(self, task_run_id, schema="public"):
    """Runs the pipeline of a TaskRun."""
    run = TaskRun.objects.get(pk=task_run_id, schema=schema)
    return PIPELINES[run.pipeline](run.payload, self.request.retries + 1)


@shared_task
def purge_task_runs(days=30):
    """Started by the clock: forgets what has ended long ago."""
    ended = [TaskRun.Status.SUCCESS, TaskRun.Status.FAILURE]
    old = TaskRun.objects.filter(status__in=ended, updated__lt=timezone.now() - timedelta(days=days))
    return old.delete()[0]
