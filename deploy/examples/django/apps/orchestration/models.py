"""What was asked for and what came of it, kept longer than Celery keeps results."""

from django.db import models


class TaskRun(models.Model):
    class Status(models.TextChoices):
        PENDING = "PENDING"
        RUNNING = "RUNNING"
        RETRYING = "RETRYING"
        SUCCESS = "SUCCESS"
        FAILURE = "FAILURE"

    pipeline = models.CharField(max_length=100)
    payload = models.JSONField(default=dict)
    schema = models.CharField(max_length=63, default="public")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    task_id = models.CharField(max_length=64, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    result = models.JSONField(null=True)
    error = models.TextField(blank=True)
    updated = models.DateTimeField(auto_now=True)
