"""What a process is for: tasks one after the other, on threads, as coroutines on an event loop; or the tables of django-celery-beat."""

import faulthandler
import multiprocessing.process
import random
import socket
import sys

import billiard.process

from umbel_bootstrap import application, host, logs, loops, tables, wire


def main(app, sock, runs, orders, start, head, index):
    """In a process that was just forked: gets ready, and runs tasks as the node's word for it (`processes`, ...) says."""
    channel = wire.Channel(socket.socket(fileno=sock))
    runs = wire.Runs(socket.socket(fileno=runs), channel)
    current = Current()
    faulthandler.enable(sys.__stderr__)
    random.seed()
    if index is not None:
        name(index)
    logs.hand_over(channel, lambda: current.get())
    application.after_fork(app)
    host.main(app, channel, runs, orders, start, POOLS[head["pool"]](head, current))


def name(index):
    """What a task finds by `current_process()`, of billiard and multiprocessing: by its `index` some choose a device, a port or a file."""
    for module in (billiard.process, multiprocessing.process):
        process = module.current_process()
        process.name, process.index = "ForkPoolWorker-%d" % (index + 1), index


class Current:
    """The run that the calling thread or coroutine belongs to, for log lines."""

    def __init__(self):
        self.get = lambda: None


def processes(head, current):
    """One task at a time, in the main thread."""
    del head

    def pool(host_):
        current.get = lambda: host_.current
        host.serve(host_)

    return pool


POOLS = {"processes": processes, "coroutines": loops.coroutines, "threads": loops.threads, "tables": tables.tables}
