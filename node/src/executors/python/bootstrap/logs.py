"""Logs and prints, each with the task it came from.

Where the application sets up logging itself (`setup_logging`), its handlers stay as they are, and what they write to standard
output or error is passed on by the node line by line.
"""

import io
import logging
import sys
import threading

from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter, get_logger, mlevel

from umbel_bootstrap import wire


def is_heard(logger):
    """Whether handlers of the application's hear of this logger's records."""
    while logger is not None:
        for handler in logger.handlers:
            if type(handler) is not NodeHandler and type(handler) is not logging.NullHandler:
                return True
        logger = logger.parent if logger.propagate else None
    return False


class NodeHandler(logging.Handler):
    """Hands records to the node, which writes them among its own lines."""

    def __init__(self, channel, current):
        super().__init__()
        self.channel, self.current = channel, current

    def emit(self, record):
        if record.name == "celery.app.trace" and hasattr(record, "data"):
            # Celery's own line for an end, which the node tells by itself.
            return
        try:
            head = {"level": record.levelno, "logger": record.name, "text": self.format(record)}
            run = self.current()
            if run is not None:
                head["task_id"], head["task"] = run.id, run.task.name
            self.channel.send(wire.LOG, head)
        except Exception:
            self.handleError(record)


class Lines(io.TextIOBase):
    """In the place of standard output and error (`worker_redirect_stdouts`): each line printed is a record."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, logger, level):
        super().__init__()
        self.logger, self.level, self.parts = logger, level, threading.local()

    def writable(self):
        return True

    def isatty(self):
        return False

    def write(self, text):
        if not isinstance(text, str):
            text = bytes(text).decode(errors="replace")
        lines = (getattr(self.parts, "rest", "") + text).split("\n")
        self.parts.rest = lines.pop()
        for line in lines:
            self.log(line)
        return len(text)

    def flush(self):
        rest, self.parts.rest = getattr(self.parts, "rest", ""), ""
        self.log(rest)

    def log(self, line):
        # A handler that prints would come back here.
        if line.strip() and not getattr(self.parts, "logging", False):
            self.parts.logging = True
            try:
                self.logger.log(self.level, line)
            finally:
                self.parts.logging = False


def set_up(app, loglevel, channel, current):
    """Celery's own set-up with its signals; its handlers for standard error are replaced by the node's."""
    conf = app.conf
    handled = app.log.setup(loglevel, None, False, None, colorize=False)
    if handled:
        return
    if conf.worker_redirect_stdouts:
        sys.stdout = sys.stderr = Lines(get_logger("celery.redirected"), mlevel(conf.worker_redirect_stdouts_level))
    for logger in (logging.getLogger(), logging.getLogger("celery.task"), logging.getLogger("celery")):
        for index, handler in enumerate(logger.handlers):
            if type(handler) is logging.StreamHandler and handler.stream in (sys.__stderr__, sys.stderr):
                own = NodeHandler(channel, current)
                own.setLevel(handler.level)
                # What the application has put there stays (`after_setup_logger`); Celery's own format is the node's affair.
                celerys = isinstance(handler.formatter, (ColorFormatter, TaskFormatter)) or handler.formatter is None
                own.setFormatter(logging.Formatter("%(message)s") if celerys else handler.formatter)
                own.filters = handler.filters
                logger.handlers[index] = own


def hand_over(channel, current):
    """After a fork: the handlers speak for another process now."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, NodeHandler):
                handler.channel, handler.current = channel, current
