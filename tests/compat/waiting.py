"""Waiting for what comes to be, for the clients of these tests."""

import time

# Far longer than any workflow here takes on a busy machine.
WAIT = 30


def soon(what, look):
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"it never came to be that {what}")
