"""What the platform answers to."""

from apps.orchestration import views
from django.urls import path

urlpatterns = [
    path("task-runs", views.start),
    path("task-runs/<int:task_run_id>", views.show),
]
