"""The same no-op task for Dramatiq; as a program, it fills the queue."""

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BROKER"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BACKEND"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def echo(text, number):
    return number


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        echo.send("x" * 300, number)
