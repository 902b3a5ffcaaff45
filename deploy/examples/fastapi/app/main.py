"""The machine learning service over HTTP."""

from celery import states
from celery.result import AsyncResult
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from app.atom import tasks
from app.celery_app import celery_app

app = FastAPI(title="atom")


class Points(BaseModel):
    points: list[tuple[float, float]] = Field(min_length=1)
    folds: int = Field(default=3, ge=2, le=20)


class Training(BaseModel):
    points: list[tuple[float, float]] = Field(min_length=1)
    epochs: int = Field(ge=1, le=1_000_000)
    pause: float = Field(default=0, ge=0)
    soft_time_limit: float | None = Field(default=None, gt=0)


class Accounts(BaseModel):
    account_ids: list[int] = Field(min_length=1)


@app.post("/models", status_code=202)
def train(asked: Points):
    """Cross-validates a model."""
    return {"id": tasks.train.delay(asked.points, asked.folds).id}


@app.post("/trainings", status_code=202)
def train_for(asked: Training):
    """Trains in steps, for as long as there is time."""
    options = {"soft_time_limit": asked.soft_time_limit} if asked.soft_time_limit else {}
    return {"id": tasks.train_for.apply_async((asked.points, asked.epochs, asked.pause), **options).id}


@app.post("/account-reports", status_code=202)
def report(asked: Accounts):
    """Asks the platform, whose tasks are known here by name and by the shared routes only."""
    return {"id": celery_app.send_task("apps.accounts.tasks.account_report", (asked.account_ids,)).id}


@app.get("/results/{task_id}")
def result(task_id: str):
    """How far a job is, and what came of it."""
    found = AsyncResult(task_id, app=celery_app)
    state = found.state
    if state in states.EXCEPTION_STATES:
        return {"state": state, "error": repr(found.result)}
    return {"state": state, "value": found.result}


@app.delete("/results/{task_id}", status_code=202)
def revoke(task_id: str):
    """Stops a job, also when it has begun."""
    found = AsyncResult(task_id, app=celery_app)
    if found.ready():
        raise HTTPException(409, f"it has ended already: {found.state}")
    found.revoke(terminate=True)
    return {"id": task_id}
