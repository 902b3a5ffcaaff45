"""A Celery application that Sentry and OpenTelemetry watch through their integrations for Celery; as a program, a client of it.

Settings come from the environment: BROKER, BACKEND, and SEEN, the file that each process writes what the integrations would have
sent into. The client sends one task of each kind and prints what was seen, without what differs from run to run, and without what is
told of messages that follow from a task (retries, the next step of a chain): a Celery worker sends them from the task's process.
"""

import json
import os
import sys
import time

import sentry_sdk
from celery import Celery, chain, signals
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

app = Celery("watched", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.broker_connection_retry_on_startup = True
seen = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(kind, content):
    """One line with one system call, so that processes do not mix."""
    os.write(seen, (json.dumps({"kind": kind, "pid": os.getpid(), **content}) + "\n").encode())


class Kept(Transport):
    """Sentry's way out."""

    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type == "event":
                write("event", event(item.payload.json))
            elif item.type == "transaction":
                write("transaction", transaction(item.payload.json))


class Exporter(SpanExporter):
    """OpenTelemetry's way out."""

    def export(self, spans):
        for span in spans:
            write("span", of_span(span))
        return SpanExportResult.SUCCESS


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1", transport=Kept, traces_sample_rate=1.0, integrations=[CeleryIntegration()], default_integrations=False
)


@signals.worker_process_init.connect
def instrument(**_):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Exporter()))
    CeleryInstrumentor().instrument(tracer_provider=provider)


def event(payload):
    """An error, as far as it is the same each time."""
    thrown = payload["exception"]["values"]
    return {
        "trace": payload["contexts"]["trace"]["trace_id"],
        "transaction": payload.get("transaction"),
        "exceptions": [[each["type"], each["value"], each["mechanism"]["type"], each["mechanism"]["handled"]] for each in thrown],
        "functions": [frame["function"] for frame in thrown[-1]["stacktrace"]["frames"] if frame["in_app"]],
        "tags": sorted(payload.get("tags", {})),
        "job": payload["extra"]["celery-job"],
        "op": payload["contexts"]["trace"]["op"],
        "fingerprint": payload.get("fingerprint"),
    }


def transaction(payload):
    """A run, likewise."""
    trace = payload["contexts"]["trace"]
    return {
        "trace": trace["trace_id"],
        "parent": bool(trace.get("parent_span_id")),
        "transaction": payload["transaction"],
        "what": [trace["op"], trace.get("status"), trace["origin"], payload["transaction_info"]["source"]],
        "job": payload["extra"]["celery-job"],
        "tags": sorted(payload.get("tags", {})),
        "spans": [span_of(span) for span in payload["spans"] if payload["transaction"] == "sends" or span["op"] == "queue.process"],
    }


def span_of(span):
    # How long a message was under way is known of those that a client has sent.
    data = sorted(set(span["data"]) - {"messaging.message.receive.latency"})
    return [span["op"], span["description"], span["origin"], data]


def of_span(span):
    # Ids, ports and names of machines differ.
    differ = ("celery.hostname", "celery.reply_to")
    attributes = {name: value for name, value in span.attributes.items() if name.startswith("celery.") and name not in differ}
    return {
        "trace": format(span.context.trace_id, "032x"),
        "parent": span.parent is not None,
        "name": span.name,
        "what": [span.kind.name, span.status.status_code.name, span.status.description],
        "events": [[each.name, each.attributes.get("exception.type"), each.attributes.get("exception.message")] for each in span.events],
        "attributes": attributes,
        "names": sorted(span.attributes),
    }


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="fail")
def fail(key):
    raise LookupError(f"no {key}")


@app.task(name="expected", throws=(LookupError,))
def expected():
    raise LookupError("as it happens")


@app.task(name="again", bind=True, max_retries=2)
def again(self):
    if self.request.retries == 0:
        raise self.retry(exc=OSError("later"), countdown=0)
    return self.request.retries


@app.task(name="sends")
def sends():
    return add.delay(20, 22).id


# Runs, and those of them that fail as nobody expects.
RUNS, ERRORS = 9, 1


def lines():
    with open(os.environ["SEEN"], encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def main():
    instrument()
    with sentry_sdk.start_transaction(name="client") as own:
        sent = [
            add.delay(1, 2),
            fail.delay("key"),
            expected.delay(),
            again.delay(),
            sends.delay(),
            chain(add.s(1, 2), add.s(3)).apply_async(),
        ]
        for result in sent:
            result.get(timeout=60, propagate=False)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        # What comes after the result is stored is waited for.
        found = [line for line in lines() if line["pid"] != os.getpid()]
        count = {kind: sum(line["kind"] == kind for line in found) for kind in ("event", "transaction")}
        ran = sum(line["kind"] == "span" and line["name"].startswith("run/") for line in found)
        if count["event"] >= ERRORS and count["transaction"] >= RUNS and ran >= RUNS:
            break
        time.sleep(0.05)
    for line in found:
        del line["pid"]
        # OpenTelemetry numbers traces of its own.
        line["trace"] = line["trace"] == own.trace_id if line["kind"] != "span" else line["parent"]
    told = {json.dumps(line, sort_keys=True) for line in found if line.get("name") != "apply_async/again"}
    print(json.dumps({**count, "ran": ran, "told": sorted(told)}))


if __name__ == "__main__":
    sys.exit(main())
