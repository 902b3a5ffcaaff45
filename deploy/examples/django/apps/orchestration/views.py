"""Asks for pipelines over HTTP and tells what came of them."""

import json

from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from .models import TaskRun
from .tasks import execute_task


@require_POST
def start(request):
    """Keeps what is asked for, and sends the task when the row can be seen by everybody."""
    asked = json.loads(request.body)
    with transaction.atomic():
        run = TaskRun.objects.create(pipeline=asked["pipeline"], payload=asked.get("payload", {}))
        transaction.on_commit(lambda: execute_task.delay(run.pk, run.schema))
    return JsonResponse({"id": run.pk}, status=202)


@require_GET
def show(request, task_run_id):
    """What came of it so far."""
    run = get_object_or_404(TaskRun, pk=task_run_id)
    return JsonResponse({"status": run.status, "attempts": run.attempts, "result": run.result, "error": run.error})
