"""Compares what Celery says of a task with what its TaskRun says."""

from apps.orchestration.models import TaskRun
from celery.result import AsyncResult
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Tells the status of a task, by Celery and by the database."

    def add_arguments(self, parser):
        parser.add_argument("--task-id", required=True, help="Celery's id of the task")

    def handle(self, *args, task_id, **options):
        try:
            run = TaskRun.objects.get(task_id=task_id)
        except TaskRun.DoesNotExist as error:
            raise CommandError(f"no TaskRun has the task {task_id}") from error
        self.stdout.write(f"task {task_id}: celery {AsyncResult(task_id).state}, TaskRun {run.pk} {run.status}")
