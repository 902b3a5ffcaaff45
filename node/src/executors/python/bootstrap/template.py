"""The process that all others are forked from: it has the application loaded, and runs no task itself.

It owns its children: it starts one when the node asks for it, tells how each ended, and ends them all, with whatever they have
started, when the node is gone. For that it leads a session of its own and is a subreaper: a process whose parent has died
becomes its child. Its children are killed by the kernel should it die first.
"""

import gc
import os
import select
import signal
import sys
import threading
import time
import traceback

from celery import signals

from umbel_bootstrap import takeover, tracer

takeover.install(tracer.build_tracer)

from umbel_bootstrap import application, delegate, host, logs, pools, report, tables, wire  # noqa: E402

# What is not for these processes to answer.
DEAF = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# How long processes may take to end when the node ends in peace; they are idle by then.
STOP_WITHIN = 5.0


def prctl(option, value):
    """`prctl(2)`, where there is one."""
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def main(sock, start):
    """The life of the template."""
    own_session()
    channel = wire.Channel(sock)
    # What applications look at to find out whether they are in a worker.
    sys.argv = [os.path.join(sys.prefix, "bin", "celery"), "-A", start["app"], "worker"]
    try:
        app = application.find(start)
        worker = application.load(app, start, lambda: logs.set_up(app, start["loglevel"], channel, lambda: None))
        app.backend.thread_safe  # noqa: B018  loads the backend, so that every child has it
        if not start["keeps_states"]:
            application.declare(app, worker.own_queues)
        told = report.report(app)
        told["knows_backend"] = delegate.knows_backend(app, start["schemes"])
        told["ends_everything"] = delegate.ends_everything(app, start["schemes"])
        told["own_backends"] = [name for name, task in app.tasks.items() if delegate.has_own_backend(task)]
        told["own_queues"] = worker.own_queues
        told["pool"] = application.pool(app)
        told["prepares"] = application.prepares()
        told["hears_heartbeats"] = bool(signals.heartbeat_sent.receivers)
        told["hears_revoked"] = bool(signals.task_revoked.receivers)
        told["tables"] = tables.installed()
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code == 0:
            raise
        channel.send(wire.FAILED, {"error": "%s: %s" % (type(error).__name__, error), "traceback": traceback.format_exc()})
        sys.exit(1)
    start["delegates"] = delegate.rule(told["ends_everything"])
    # What is loaded by now is shared with every child for as long as none touches it: not by the collector, then.
    gc.collect()
    gc.freeze()
    channel.send(wire.LOADED, told)
    Template(app, channel, start, worker).serve()


def own_session():
    """Beyond the reach of what is sent to the node's group; signals to everybody in a container are the node's to answer."""
    try:
        os.setsid()
    except OSError:
        pass
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Functions rather than SIG_IGN, which programs that tasks start would inherit.
    for number in DEAF:
        signal.signal(number, pass_over)


def pass_over(signum, frame):
    """Nothing: the node says when it is time to go."""


class Forks:
    """Where a task forks, signals mean to its new process what they mean to any program, unless the application has said otherwise.
    They wait until that is so: to one of our handlers a signal would be lost."""

    numbers = {*DEAF, signal.SIGUSR1}

    def __init__(self):
        self.kept = threading.local()
        os.register_at_fork(before=self.block, after_in_parent=self.unblock, after_in_child=self.begin)

    def block(self):
        self.kept.mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.numbers)

    def unblock(self):
        signal.pthread_sigmask(signal.SIG_SETMASK, self.kept.mask)

    def begin(self):
        try:
            for number in self.numbers:
                handler = signal.getsignal(number)
                if handler is pass_over or getattr(handler, "__func__", None) is host.Host.ordered:
                    signal.signal(number, signal.SIG_DFL)
        finally:
            self.unblock()


class Template:
    """Starts processes, and tells how they ended."""

    def __init__(self, app, channel, start, worker):
        self.app, self.channel, self.start, self.worker = app, channel, start, worker
        self.children = set()
        self.wake_reader, self.wake_writer = os.pipe()
        os.set_blocking(self.wake_writer, False)
        os.set_blocking(self.wake_reader, False)

    def serve(self):
        """Until the node is gone."""
        signal.signal(signal.SIGCHLD, pass_over)
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.channel.sock, select.POLLIN)
        poll.register(self.wake_reader, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self.wake_reader in ready:
                try:
                    os.read(self.wake_reader, 4096)
                except BlockingIOError:
                    pass
                self.reap()
            if self.channel.sock.fileno() in ready and not self.obey():
                self.end_all()
                os._exit(0)

    def obey(self):
        """Does what the node asks for; `False` when it is gone."""
        frame = self.channel.receive_with_descriptors()
        while frame is not None:
            kind, head, _ = frame
            if kind == wire.FORK:
                self.fork(head)
            elif kind == wire.STOP:
                self.stop()
            elif kind == wire.SERVING:
                signals.worker_ready.send(sender=self.worker)
            elif kind == wire.HEARTBEAT:
                signals.heartbeat_sent.send(sender=self.worker)
            frame = self.channel.parse()
            if frame is None:
                return True
        return False

    def fork(self, head):
        """One more process. Four descriptors have come along: its socket, what its runs come over, its orders, its output."""
        ends = self.channel.descriptors[:4]
        del self.channel.descriptors[:4]
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            try:
                self.become(head, *ends)
            finally:
                os._exit(70)
        for descriptor in ends:
            os.close(descriptor)
        try:
            os.setpgid(pid, pid)
        except OSError:
            pass
        self.children.add(pid)
        self.channel.send(wire.FORKED, {"child": head["child"], "pid": pid})

    def become(self, head, sock, runs, orders, output):
        """In the new process."""
        template = os.getppid()
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != template:
            os._exit(0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        Forks()
        for descriptor in (self.wake_reader, self.wake_writer, self.channel.sock.detach()):
            os.close(descriptor)
        # Before anything of the application runs here: the device of its slot.
        os.environ.update(head["env"])
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        pools.main(self.app, sock, runs, orders, self.start, head)

    def reap(self):
        """Tells of children that have ended. The group of one that was killed is killed with it, while its number is still its own."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid in self.children and ended.si_code != os.CLD_EXITED:
                kill_group(pid)
            os.waitpid(pid, 0)
            if pid in self.children:
                self.children.discard(pid)
                code = {"code": ended.si_status} if ended.si_code == os.CLD_EXITED else {"signal": ended.si_status}
                self.channel.send(wire.EXITED, {"pid": pid, **code})

    def stop(self):
        """The node ends in peace: processes end by themselves, as their sockets close."""
        signals.worker_shutting_down.send(sender=self.start["hostname"], sig="SIGTERM", how="Warm", exitcode=0)
        until = time.monotonic() + STOP_WITHIN
        while self.children and time.monotonic() < until:
            select.select([self.wake_reader], [], [], 0.2)
            self.reap()
        signals.worker_shutdown.send(sender=self.worker)
        self.end_all()
        os._exit(0)

    def end_all(self):
        """Nothing that came from here outlives the node."""
        for pid in self.children:
            kill_group(pid)
        while True:
            for pid in offspring():
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def kill_group(pid):
    """SIGKILL to a process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass


def offspring():
    """The children of this process, those that have become its own included."""
    try:
        with open("/proc/self/task/%d/children" % os.getpid()) as listed:
            return [int(pid) for pid in listed.read().split()]
    except OSError:
        return []

