"""Tasks that work with the device of their process, which no two processes may have at a time."""

import fcntl
import os
import time

from celery import Celery, signals

app = Celery("devices", broker="memory://", set_as_current=True)

# As a model that is loaded before the first task: what is had at that time must be the device of the slot already.
held = {}


@signals.worker_process_init.connect
def load(**_):
    device = os.environ["CUDA_VISIBLE_DEVICES"]
    held["device"] = device
    held["lock"] = open(os.path.join(os.environ["LOCKS"], device), "w")
    try:
        fcntl.flock(held["lock"], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(os.path.join(os.environ["LOCKS"], "met"), "a") as met:
            met.write("%s\n" % device)


@signals.worker_process_shutdown.connect
def unload(**_):
    # What has a device takes a moment to leave it.
    time.sleep(0.3)


@app.task(name="devices.which", bind=True)
def which(self):
    return [held["device"], os.environ["CUDA_VISIBLE_DEVICES"], os.environ["UMBEL_DEVICE"], os.getpid()]


@app.task(name="devices.deaf", bind=True)
def deaf(self):
    self.update_state(state="WAITING")
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
