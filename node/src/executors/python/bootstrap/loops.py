"""Many tasks in one process: coroutines on an event loop, or functions on threads.

The main thread has the socket and hands out what comes. Endings that are ready at the same time go out together.
"""

import asyncio
import collections.abc
import concurrent.futures
import contextvars
import ctypes
import functools
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

from billiard.exceptions import SoftTimeLimitExceeded
from celery._state import _task_stack
from celery.app.trace import task_has_custom

from umbel_bootstrap import delegate, requests, wire

HURRY, TERMINATE = "hurry", "terminate"

# Coroutines that Celery's own tracer runs, each from a thread of its own. A node has fewer slots for them.
DELEGATED_MAX = 10000

here = contextvars.ContextVar("umbel_run", default=None)


def identity():
    """Whose stack of requests is meant: the coroutine's, else the thread's."""
    run = here.get()
    return threading.get_ident() if run is None else ("run", run.number)


def divide_stacks(app):
    """Celery keeps `self.request` and `current_task` per thread; many coroutines share one."""
    stacks = [_task_stack, *(task.request_stack for task in app.tasks.values())]
    for stack in stacks:
        if hasattr(type(stack), "__ident_func__"):
            stack.__ident_func__ = identity


class Driven(collections.abc.Coroutine):
    """A task's coroutine, into which a soft limit can be thrown where `asyncio` would throw `CancelledError`."""

    def __init__(self, coroutine, run):
        self.coroutine, self.run = coroutine, run
        # `ended` is by the node's order, whatever the task makes of it.
        self.begun = self.hurried = self.ended = False

    def send(self, value):
        self.begun = True
        return self.coroutine.send(value)

    def throw(self, kind, value=None, trace=None):
        if self.hurried and (kind is asyncio.CancelledError or isinstance(kind, asyncio.CancelledError)):
            self.hurried = False
            task = asyncio.current_task()
            if hasattr(task, "uncancel"):
                task.uncancel()
            return self.coroutine.throw(SoftTimeLimitExceeded())
        return self.coroutine.throw(kind) if value is None else self.coroutine.throw(kind, value, trace)

    def close(self):
        return self.coroutine.close()

    def __await__(self):
        return self.coroutine.__await__()


class Loop:
    """Coroutines, all in the main thread."""

    def __init__(self, host):
        self.host, self.channel = host, host.channel
        self.running = {}
        self.answers = {}
        self.outbox = []
        self.over = self.threads = None
        host.store = self.store

    async def serve(self):
        self.loop = asyncio.get_running_loop()
        self.over = self.loop.create_future()
        self.channel.sock.setblocking(True)
        self.loop.add_reader(self.channel.sock.fileno(), self.readable)
        await self.over
        self.loop.remove_reader(self.channel.sock.fileno())
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def readable(self):
        frames = self.channel.read_available()
        if frames is None:
            if not self.over.done():
                self.over.set_result(None)
            return
        for kind, head, payload in frames:
            if kind == wire.RUN:
                self.begin(head, payload)
            elif kind == wire.ORDER:
                self.order(head)
            elif kind == wire.STORED:
                answer = self.answers.get(head["run"])
                if answer is not None:
                    answer.set_result(head["stored"])

    def begin(self, head, payload):
        number = head["run"]
        try:
            run, call = self.host.prepare(head, payload)
        except Exception as exc:
            self.tell(number, self.host.refused(head, exc))
            return
        if not run.delegated:
            call[3]["_umbel_run"] = run
        driven = Driven(self.perform(run, call), run)
        context = contextvars.copy_context()
        context.run(here.set, run)
        self.running[number] = (context.run(self.loop.create_task, driven), driven)

    async def perform(self, run, call):
        if run.request is not None:
            requests.accepted(run)
        try:
            if run.delegated:
                ending = await self.delegated(run, call)
            else:
                ending = await self.host.tracer_of(run).call_async(*call)
        except (KeyboardInterrupt, SystemExit):
            # The event loop's own end, and so the process's.
            raise
        except BaseException as exc:
            # What the task itself has awaited may have been cancelled as well: that is its failure.
            cancelled = isinstance(exc, asyncio.CancelledError) and (self.running[run.number][1].ended or self.over.done())
            if cancelled:
                ending = None
            elif run.delegated:
                # A result backend may refuse to be called where an event loop runs, as Django's does.
                ending = await self.loop.run_in_executor(self.threads, self.host.broken, exc, run, call)
            else:
                ending = self.host.broken(exc, run, call)
        if run.request is not None and ending is not None:
            requests.ended(run, ending)
        self.running.pop(run.number, None)
        try:
            await close_connections()
        finally:
            self.tell(run.number, ending)

    async def delegated(self, run, call):
        """Runs it through Celery's own tracer, which waits in a thread for the coroutine."""
        self.threads = self.threads or ThreadPoolExecutor(DELEGATED_MAX, thread_name_prefix="umbel")
        if run.task.name not in delegate.tracers:
            self.await_in_threads(run.task)
        # Until its coroutine is here, orders are for nobody.
        self.running[run.number] = (None, Driven(None, run))
        context = contextvars.copy_context()
        return await self.loop.run_in_executor(self.threads, context.run, delegate.run, self.host, run, call)

    def await_in_threads(self, task):
        """Gives a task a function that returns what its coroutine does, where a thread calls it."""
        name = "_orig_run" if hasattr(task, "_orig_run") else "run"
        function = getattr(task, name)

        @functools.wraps(function)
        def run(*args, **kwargs):
            coroutine, own = function(*args, **kwargs), here.get()
            if own is None or not own.delegated or threading.current_thread() is threading.main_thread():
                return coroutine
            try:
                return asyncio.run_coroutine_threadsafe(self.drive(Driven(coroutine, own)), self.loop).result()
            except concurrent.futures.CancelledError:
                # That one is an `Exception`, and would be stored as the task's failure.
                raise asyncio.CancelledError from None

        setattr(task, name, run)

    async def drive(self, driven):
        task = self.loop.create_task(driven)
        self.running[driven.run.number] = (task, driven)
        return await task

    async def store(self, early):
        """Has the node store an ending; whether it has."""
        number = early.run.number
        answer = self.answers[number] = self.loop.create_future()
        self.channel.send(wire.EARLY, early.head, early.payload)
        try:
            while True:
                try:
                    return await asyncio.shield(answer)
                except SoftTimeLimitExceeded:
                    # On its way already when the task failed.
                    pass
        finally:
            del self.answers[number]

    def order(self, head):
        found = self.running.get(head["run"])
        if found is not None:
            task, driven = found
            if not driven.begun:
                # An exception before its first step, which is about to come, would leave nobody to tell its end.
                self.loop.call_later(0.01 if driven.run.delegated else 0, self.order, head)
                return
            if driven.run.failed and head["order"] == HURRY:
                return
            driven.hurried = head["order"] == HURRY
            driven.ended = driven.ended or head["order"] == TERMINATE
            if driven.hurried and driven.run.request is not None:
                requests.soft_limit(driven.run)
            task.cancel()

    def tell(self, number, ending):
        if not self.outbox:
            self.loop.call_soon(self.flush)
        self.outbox.append(self.host.pack(number, ending))

    def flush(self):
        data, self.outbox = b"".join(self.outbox), []
        self.channel.send_packed(data)


async def close_connections():
    """Django's connections that a coroutine's threads have used, closed if they are too old."""
    if Django.close is not None:
        await Django.close()


class Django:
    """Whether there is one, found out once."""

    close = None

    @classmethod
    def look(cls, app):
        if any(type(fixup).__name__ == "DjangoFixup" for fixup in app._fixups if fixup is not None):
            from asgiref.sync import sync_to_async
            from django.db import close_old_connections

            # What it makes would take the class for an argument, as a method does.
            cls.close = staticmethod(sync_to_async(close_old_connections, thread_sensitive=True))


def coroutines(head, current):
    """Many coroutines on one event loop."""
    del head
    current.get = here.get

    def pool(host):
        divide_stacks(host.app)
        host.keeps_stacks = False
        Django.look(host.app)
        asyncio.run(Loop(host).serve())

    return pool


class Threads:
    """Functions on threads. A thread cannot be ended by force: the node ends the process if it must."""

    def __init__(self, host, size):
        self.host, self.channel = host, host.channel
        self.pool = ThreadPoolExecutor(size, thread_name_prefix="umbel")
        # What no thread has begun yet, and the order that has come for it.
        self.waiting = {}
        self.running = {}
        self.answers = {}
        self.lock = threading.Lock()
        host.store = self.store
        host.beginning = self.beginning

    def serve(self):
        while True:
            frame = self.channel.receive()
            if frame is None:
                return
            kind, head, payload = frame
            if kind == wire.RUN:
                self.waiting[head["run"]] = None
                self.pool.submit(self.perform, head, payload)
            elif kind == wire.ORDER:
                self.order(head)
            elif kind == wire.STORED:
                self.answer(head["run"], head["stored"])

    def perform(self, head, payload):
        number, ending = head["run"], None
        try:
            run, call = self.host.prepare(head, payload)
        except Exception as exc:
            with self.lock:
                del self.waiting[number]
            self.tell(number, self.host.refused(head, exc))
            return
        here.set(run)
        try:
            if self.enter(run):
                ending = self.host.finish(run, call)
        except SystemExit as exit:
            # As in a process of its own, where it would be the process's end.
            os._exit(exit.code if isinstance(exit.code, int) else 1)
        except BaseException as exc:
            # A soft limit may have passed between two steps of ours. An end that is known by then stands.
            if ending is None:
                ending = self.host.broken(exc, run, call)
        while True:
            try:
                with self.lock:
                    self.running.pop(number, None)
                break
            except SoftTimeLimitExceeded:
                # The last that can come: nobody is told who does not run.
                pass
        self.host.told.discard(number)
        here.set(None)
        self.tell(number, ending)

    def enter(self, run):
        """Puts it among those that run; whether it is still to."""
        with self.lock:
            self.running[run.number] = (threading.get_ident(), run)
            order = self.waiting.pop(run.number)
        if order == HURRY:
            self.host.told.add(run.number)
        return order != TERMINATE

    def beginning(self, run):
        """Its task's function. An exception that came earlier would be raised in the middle of Celery, where it may get lost."""
        task = run.task
        function = task if task_has_custom(task, "__call__") else task.run

        def begin(*args, **kwargs):
            with self.lock:
                run.begun = True
            if run.number in self.host.told:
                self.host.hurry(run)
            return function(*args, **kwargs)

        return begin

    def store(self, early):
        """Has the node store an ending; whether it has."""
        number = early.run.number
        answer = queue.SimpleQueue()
        with self.lock:
            self.answers[number] = answer
        try:
            self.channel.send(wire.EARLY, early.head, early.payload)
            return answer.get()
        finally:
            with self.lock:
                del self.answers[number]

    def answer(self, number, stored):
        with self.lock:
            if number in self.answers:
                self.answers[number].put(stored)

    def order(self, head):
        # While the lock is held the thread cannot go on to another run.
        with self.lock:
            thread, run = self.running.get(head["run"], (None, None))
            if head["run"] in self.waiting:
                if self.waiting[head["run"]] != TERMINATE:
                    self.waiting[head["run"]] = head["order"]
            elif head["run"] in self.answers:
                # It waits and hears of no exception. One that is to end need not wait, and calls nobody.
                if head["order"] == TERMINATE:
                    self.answers[head["run"]].put(None)
            elif thread is not None and not run.begun:
                self.host.told.add(run.number)
            elif thread is not None and not (run.failed and head["order"] == HURRY):
                if run.request is not None:
                    requests.soft_limit(run)
                exception = ctypes.py_object(SoftTimeLimitExceeded)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)

    def tell(self, number, ending):
        self.channel.send_packed(self.host.pack(number, ending))


def threads(head, current):
    """Many functions on threads."""
    current.get = here.get

    def pool(host):
        Threads(host, head["size"]).serve()

    return pool
