"""A straight line through points, by least squares."""


def fit(points):
    """The line through `points`, pairs of numbers; through one point it is level."""
    count = len(points)
    if not count:
        raise ValueError("no points to fit a line to")
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return {"slope": slope, "intercept": mean_y - slope * mean_x}


def value(model, x):
    return model["slope"] * x + model["intercept"]


def error(model, points):
    """The mean squared distance of points from the line."""
    return sum((value(model, x) - y) ** 2 for x, y in points) / len(points)
