"""Hands messages to a real Celery worker and tells what its tasks saw.

Standard input: one message a line, as kombu's Redis transport keeps them. They are put into the queue of an in-memory
transport as they are, behind everything kombu does when it sends, and a worker in this process takes them from there.
Standard output: one line for each run of a task, in the order of the ids on the command line, which are the runs that are
waited for.
"""

import json
import queue
import sys

import celery
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu.transport import memory

app = Celery("compat", broker="memory://", backend="cache+memory://")
app.conf.update(accept_content=["json", "msgpack"], worker_hijack_root_logger=False, worker_log_color=False)

runs = queue.Queue()


@app.task(name="seen", bind=True, shared=False)
def seen(self, *args, **kwargs):
    """Tells everything about its call and returns its arguments."""
    request = self.request
    runs.put({
        "id": request.id,
        "args": args,
        "kwargs": kwargs,
        "retries": request.retries,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group": request.group,
        "group_index": request.group_index,
        "timelimit": request.timelimit,
        "priority": (request.delivery_info or {}).get("priority"),
        "stamps": request.stamps,
        "headers": {name: value for name, value in (request.headers or {}).items() if name.startswith("x-")},
    })
    if kwargs.get("fail"):
        raise ValueError("as told")
    return list(args)


def written(value):
    """Values JSON has no form for."""
    return {"bytes": list(value)} if isinstance(value, (bytes, memoryview)) else repr(value)


def main():
    expected = sys.argv[1:]
    with app.connection() as connection:
        channel = connection.default_channel
        # Declares the queue as a worker would.
        app.amqp.queues["celery"].bind(channel).declare()
        for line in sys.stdin:
            channel._put("celery", json.loads(line))
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        told = {}
        while not all(id in told for id in expected):
            run = runs.get(timeout=30)
            assert run["id"] not in told, f"{run['id']} ran twice"
            told[run["id"]] = run
    print(json.dumps({"celery": celery.__version__, "transport": memory.__name__}))
    for id in expected:
        print(json.dumps(told[id], default=written))


if __name__ == "__main__":
    main()
