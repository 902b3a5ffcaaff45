"""Accounts and what they have ordered."""

from django.db import models


class Account(models.Model):
    name = models.CharField(max_length=100, unique=True)


class Order(models.Model):
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="orders")
    cents = models.PositiveIntegerField()


class Report(models.Model):
    """What was told of several accounts at one time. The task that makes it may run twice; the report is one."""

    task_id = models.CharField(max_length=64, unique=True)
    totals = models.JSONField()
