"""What a process is for: tasks one after the other, on threads, as coroutines on an event loop; or the tables of django-celery-beat."""

import faulthandler
import random
import socket
import sys

from umbel_bootstrap import application, host, logs, loops, tables, wire


def main(app, sock, runs, orders, start, head):
    """In a process that was just forked: gets ready, and runs tasks as the node's word for it (`processes`, ...) says."""
    channel = wire.Channel(socket.socket(fileno=sock))
    runs = wire.Runs(socket.socket(fileno=runs), channel)
    current = Current()
    faulthandler.enable(sys.__stderr__)
    random.seed()
    if head["slot"] is not None:
        host.sit(head["slot"])
    logs.hand_over(channel, lambda: current.get())
    application.after_fork(app)
    host.main(app, channel, runs, orders, start, POOLS[head["pool"]](head, current))


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
