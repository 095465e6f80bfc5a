"""Samples from symmetric Dirichlet distributions: a table of the inverse distribution function of log Gamma(alpha)."""

import functools
import math

import numpy as np

from keras_reg._backend import not_compiled
from keras_reg.layers._pixels._extremes import largest

KNOTS = 1025  # knots per table
MOST_ODDS = 18.0  # of the uniform numbers, as a logarithm: float32 numbers in [0, 1) do not come closer to 0 and 1


# torch.compile would trace the integration instead of reading the cache.
@not_compiled
@functools.lru_cache(maxsize=64)
def _table(alpha):
    """Returns the quantiles of log Gamma(alpha) at equally distant logarithms of odds, log(u / (1 - u))."""
    # The tails: the density of y = log x is proportional to exp(alpha * y - exp(y)).
    low = (math.lgamma(alpha + 1) - MOST_ODDS - 2) / alpha
    high = math.log(alpha + 10 * math.sqrt(alpha) + 40)
    y = np.linspace(min(low, math.log(alpha) - 1), high, 2**16 + 1)
    density = np.exp(alpha * y - np.exp(y) - math.lgamma(alpha))
    pieces = (density[1:] + density[:-1]) / 2 * np.diff(y)
    below = density[0] / alpha + np.concatenate([[0], pieces]).cumsum()
    above = np.concatenate([[0], pieces[::-1]]).cumsum()[::-1] + density[-1] / math.exp(high)
    odds = np.log(np.maximum(below, 1e-300)) - np.log(np.maximum(above, 1e-300))  # a large alpha underflows
    return np.interp(np.linspace(-MOST_ODDS, MOST_ODDS, KNOTS), odds, y).astype("float32")


def dirichlet(u, alpha, ops):
    """Returns samples (batch, n) from Dirichlet(alpha, ..., alpha) for uniform numbers (batch, n) in [0, 1)."""
    inner = ops.minimum(ops.maximum(u, 2.0**-25), 1 - 2.0**-24)
    place = (ops.log(inner) - ops.log(1.0 - inner) + MOST_ODDS) * ((KNOTS - 1) / (2 * MOST_ODDS))
    left = ops.minimum(ops.floor(place), KNOTS - 2.0)
    table, column = ops.convert_to_tensor(_table(float(alpha))), ops.cast(left, "int32")
    first, second = ops.take(table, column, axis=0), ops.take(table, column + 1, axis=0)
    logs = first + (place - left) * (second - first)
    shares = ops.exp(logs - largest(logs, -1, ops))
    return shares / ops.sum(shares, axis=-1, keepdims=True)
