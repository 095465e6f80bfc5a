"""Samples from Beta(alpha, alpha): a table of the inverse distribution function maps a uniform number to lambda."""

import functools
import math

import numpy as np

from keras_reg._backend import not_compiled

KNOTS = 1025  # knots per table; the relative error of lambda and 1 - lambda is about 1e-6
LEAST_ALPHA, MOST_ALPHA = 1e-10, 1e12  # in float32, lambda is 0 or 1 at and below the first, 1/2 from the second on
STRENGTH_STEPS = 97  # tables for an alpha that changes: from alpha / 64 to 4 alpha, 12 per octave


def _log_ratios(alpha):
    """Returns log g at the knots s.

    The quantile is w^(1 / alpha) g(s), with w = 2 u <= 1 and s = w^(1 / min(alpha, 4)). The lower tail of
    Beta(alpha, alpha) is proportional to u^(1 / alpha). So g is smooth and nearly constant there, while the quantile
    falls by a hundred orders of magnitude, and a table of g is accurate in the tails. At most the fourth root is taken,
    since a large alpha would otherwise move every w to the last few knots.
    """
    # Integrate z^(alpha - 1) (1 - z)^(alpha - 1) dz over log z. Below the first edge, the integral is z^alpha / alpha.
    edges = np.log(0.5) - (40 / alpha + 1) * np.linspace(1, 0, 8193) ** 2
    nodes, weights = np.polynomial.legendre.leggauss(4)
    half = np.diff(edges)[:, None] / 2
    log_z = (edges[:-1, None] + edges[1:, None]) / 2 + half * nodes
    log_density = alpha * log_z + (alpha - 1) * np.log1p(-np.exp(log_z))
    scale = log_density.max()
    pieces = (np.exp(log_density - scale) * weights * half).sum(-1)
    mass = np.maximum(np.concatenate([[np.exp(alpha * edges[0] - scale) / alpha], pieces]).cumsum(), 1e-300)
    log_w = np.log(mass / mass[-1])  # w = 2 F(z)
    log_w_at_knots = min(alpha, 4) * np.log(np.linspace(0, 1, KNOTS)[1:])
    log_g = np.interp(log_w_at_knots, log_w, edges - log_w / alpha)
    return np.concatenate([[2 * log_g[0] - log_g[1]], log_g])


@functools.lru_cache(maxsize=64)
def _table(alpha):
    return np.exp(_log_ratios(alpha)).astype("float32")[None]


@functools.lru_cache(maxsize=16)
def _tables(alpha):
    alphas = alpha * np.geomspace(1 / 64, 4, STRENGTH_STEPS)
    return np.exp(np.stack([_log_ratios(a) for a in alphas])).astype("float32")


# torch.compile would trace the integration instead of reading the cache.
@not_compiled
def _table_for(alpha, moves):
    return _tables(alpha) if moves else _table(alpha)


class BetaQuantile:
    """The inverse distribution function of Beta(alpha, alpha), for numbers in [0, 1) of any shape.

    Args:
        alpha: The largest alpha (float > 0).
        moves: Whether each call passes its own `alpha`, a scalar tensor of at most 4 times this one.
    """

    def __init__(self, alpha, moves=False):
        self.alpha, self.moves = min(max(float(alpha), LEAST_ALPHA), MOST_ALPHA), moves
        self.table = _table_for(self.alpha, moves)

    def __call__(self, u, xp, alpha=None):
        alpha = self.alpha if alpha is None else xp.minimum(xp.maximum(alpha, self.alpha / 64), 4 * self.alpha)
        lower = u < 0.5
        w = 2.0 * xp.where(lower, u, 1.0 - u)
        log_w = xp.log(xp.maximum(w, 1e-30))
        root = xp.minimum(alpha, 4.0) if self.moves else min(alpha, 4.0)
        quantile = xp.exp(log_w / alpha) * self._ratio(xp.exp(log_w / root), xp, alpha)
        quantile = xp.where(w > 0, xp.minimum(quantile, 0.5), 0.0)
        return xp.where(lower, quantile, 1.0 - quantile)

    def _ratio(self, s, xp, alpha):
        place = s * (KNOTS - 1)
        left = xp.minimum(xp.floor(place), KNOTS - 2.0)
        fraction, column = place - left, xp.cast(left, "int32")
        if not self.moves:
            return self._look_up(0, column, fraction, xp)
        row = xp.log(64.0 * alpha / self.alpha) * ((STRENGTH_STEPS - 1) / math.log(256.0))
        upper = xp.minimum(xp.floor(row), STRENGTH_STEPS - 2.0)
        start = xp.cast(upper, "int32") * KNOTS
        first = self._look_up(start, column, fraction, xp)
        return first + (row - upper) * (self._look_up(start + KNOTS, column, fraction, xp) - first)

    def _look_up(self, start, column, fraction, xp):
        flat = xp.convert_to_tensor(self.table.reshape(-1))
        below, above = xp.take(flat, start + column), xp.take(flat, start + column + 1)
        return below + fraction * (above - below)
