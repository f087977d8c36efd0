"""What has no closed form, in plain Python: a root, a minimum, the spread of a fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a monotone function of a positive number changes sign, by halving logarithms.

    Parameters
    ----------
    function : callable
        Monotone on the interval.
    low, high : float
        Ends, above 0. [-]

    Returns
    -------
    float
        The root, to the last digits of a float; an end where there is none between. [-]

    Examples
    --------
    >>> round(root(lambda x: x * x - 2, 1e-3, 1e3), 12)
    1.414213562373
    """
    left, right = math.log(low), math.log(high)
    rises = function(high) > function(low)
    for _ in range(200):
        middle = (left + right) / 2
        if middle in (left, right):
            break
        if (function(math.exp(middle)) > 0) == rises:
            right = middle
        else:
            left = middle
    return math.exp((left + right) / 2)


def minimum(function: Callable[[float], float], low: float, high: float, grid: int = 400) -> float:
    """Where a function of a positive number is least: a grid of logarithms, then golden sections.

    Examples
    --------
    >>> round(minimum(lambda x: x + 4 / x, 1e-3, 1e3), 6)
    2.0
    """
    left, right = math.log(low), math.log(high)
    step = (right - left) / grid
    best = min(range(grid + 1), key=lambda place: function(math.exp(left + place * step)))
    start, end = left + max(best - 1, 0) * step, left + min(best + 1, grid) * step
    golden = (math.sqrt(5) - 1) / 2
    first, second = end - golden * (end - start), start + golden * (end - start)
    low_value, high_value = function(math.exp(first)), function(math.exp(second))
    for _ in range(80):
        if low_value <= high_value:
            end, second, high_value = second, first, low_value
            first = end - golden * (end - start)
            low_value = function(math.exp(first))
        else:
            start, first, low_value = first, second, high_value
            second = start + golden * (end - start)
            high_value = function(math.exp(second))
    return math.exp((start + end) / 2)


def spread(
    function: Callable[[Sequence[float]], float], at: Sequence[float], covariance: Sequence[Sequence[float]]
) -> float:
    """Standard deviation of a function of fitted values, by their covariance (the delta method).

    Parameters
    ----------
    function : callable
        Of the values.
    at : sequence of float
        The values.
    covariance : sequence of sequence of float
        Of the values.

    Returns
    -------
    float
        The standard deviation. [as the function]

    Examples
    --------
    >>> round(spread(lambda v: v[0] - v[1], [1.0, 1.0], [[4.0, 4.0], [4.0, 5.0]]), 6)
    1.0
    """
    slopes = []
    for place, value in enumerate(at):
        step = 1e-5 * max(abs(value), 1e-2)
        up, down = list(at), list(at)
        up[place], down[place] = value + step, value - step
        slopes.append((function(up) - function(down)) / (2 * step))
    variance = sum(slopes[i] * slopes[j] * covariance[i][j] for i in range(len(at)) for j in range(len(at)))
    return math.sqrt(max(variance, 0.0))
