"""Machine learning jobs, on the queue `atom`."""

import time

from app.celery_app import celery_app
from celery import chord
from celery.exceptions import SoftTimeLimitExceeded

from . import regression


@celery_app.task
def fit_series(values):
    """A line through values at 0, 1, 2, ..."""
    return regression.fit(list(enumerate(values)))


@celery_app.task
def predict(model, x):
    return regression.value(model, x)


@celery_app.task
def fit_fold(points, fold, folds):
    """Learns from all points but those of one fold, and is judged by these."""
    held_out = points[fold::folds]
    model = regression.fit([point for at, point in enumerate(points) if at % folds != fold])
    return {"model": model, "error": regression.error(model, held_out)}


@celery_app.task
def choose(candidates):
    """The body of the chord: the best of the models, and the error of them all."""
    best = min(candidates, key=lambda candidate: candidate["error"])
    return {"model": best["model"], "error": sum(candidate["error"] for candidate in candidates) / len(candidates)}


def cross_validation(points, folds):
    """The workflow: one task a fold, side by side, and then the choice."""
    return chord([fit_fold.s(points, fold, folds) for fold in range(folds)], choose.s())


@celery_app.task(bind=True)
def train(self, points, folds=3):
    """Cross-validates. The task becomes the workflow and takes its value."""
    return self.replace(cross_validation(points, folds))


@celery_app.task(bind=True)
def train_for(self, points, epochs, pause):
    """Trains step by step, tells how far it is, and hands in what it has when its time is over."""
    model = {"slope": 0.0, "intercept": 0.0}
    done = 0
    try:
        while done < epochs:
            for x, y in points:
                miss = y - regression.value(model, x)
                model = {"slope": model["slope"] + 0.01 * miss * x, "intercept": model["intercept"] + 0.01 * miss}
            done += 1
            self.update_state(state="PROGRESS", meta={"done": done, "of": epochs})
            time.sleep(pause)
    except SoftTimeLimitExceeded:
        pass
    return {"model": model, "epochs": done}
