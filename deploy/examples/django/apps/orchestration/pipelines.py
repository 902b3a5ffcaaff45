"""What a TaskRun can ask for, by name."""


class TryLater(Exception):
    """Somebody else is not ready yet."""


def add_up(payload, attempt):
    """The sum of numbers."""
    return sum(payload["numbers"])


def unreliable(payload, attempt):
    """Succeeds at an attempt of the caller's choice, as a service does that is restarted meanwhile."""
    if attempt < payload["succeeds_at"]:
        raise TryLater(f"attempt {attempt}")
    return attempt


def broken(payload, attempt):
    """Never succeeds."""
    raise ValueError(payload["reason"])


PIPELINES = {"add_up": add_up, "unreliable": unreliable, "broken": broken}
