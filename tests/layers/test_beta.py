"""Beta(alpha, alpha), as the mixers draw it: read from the labels of 20,000 one-pixel images."""

import functools

import numpy as np
import pytest
from harness import only
from layers.batches import LEAST_P, augmenter, coded, decoded, numbered
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import CutMix, MixUp

COUNT = 20_000
ALPHAS = (0.1, 0.2, 0.4, 1.0, 2.0, 8.0)


@functools.cache
def batch():
    return numbered(COUNT, 1, 1), coded(COUNT)


def assert_beta(kept, given, alpha):
    """The smaller of lambda and 1 - lambda has the law of Beta below one half, each for itself.

    Lambda is exact in float32 down to 1e-30, 1 - lambda is a multiple of 6e-8: from where they are, Kolmogorov-Smirnov,
    and how many are smaller, binomial.
    """
    law = stats.beta(alpha, alpha)
    lower = kept < 0.5
    assert stats.binomtest(int(lower.sum()), len(lower)).pvalue > LEAST_P
    for smaller, exact_from in ((kept[lower], 1e-30), (given[~lower], 1e-6)):
        floor = 2 * law.cdf(exact_from)
        exact = smaller[smaller > exact_from]
        assert stats.binomtest(len(exact), len(smaller), 1 - floor).pvalue > LEAST_P
        assert stats.kstest(exact, lambda x, floor=floor: (2 * law.cdf(x) - floor) / (1 - floor)).pvalue > LEAST_P


@pytest.mark.parametrize("alpha", ALPHAS)
def test_lambda_is_beta(alpha):
    kept, given, _ = decoded(augmenter(MixUp(alpha, seed=1))(*batch())[1])
    assert_beta(kept, given, alpha)
    np.testing.assert_allclose(kept + given, 1, atol=1e-6)


def test_lambda_is_beta_for_an_alpha_that_moves():
    """From a 20th of the strength to four times it; at 0 it stays finite."""
    layer = MixUp(Strength(2.0), seed=2)
    call = augmenter(layer)
    for alpha in (2.0, 0.1, 0.5, 1.0, 8.0):
        layer.non_trainable_variables[0].assign(alpha)
        kept, given, _ = decoded(call(*batch())[1])
        assert_beta(kept, given, alpha)
    layer.non_trainable_variables[0].assign(0.0)
    assert np.isfinite(decoded(call(*batch())[1])[0]).all()


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_the_sides_of_cuts_have_exactly_the_law_of_rounded_roots(alpha):
    """On 31 x 31 pixels the side is round(31 sqrt(1 - lambda)): chi-square against SciPy's probabilities."""
    side, count = 31, 3000
    images, labels = np.zeros((count, side, side, 1), "uint8"), coded(count)
    _, given, _ = decoded(augmenter(CutMix(alpha, seed=3))(images, labels)[1])
    edges = np.clip((np.arange(side + 2) - 0.5) / side, 0, 1) ** 2  # of 1 - lambda, between two roundings
    expected = np.diff(stats.beta(alpha, alpha).cdf(edges)) * count
    widths = np.sqrt(given.astype("float64")) * side
    np.testing.assert_allclose(widths, np.round(widths), atol=1e-4)
    found = np.bincount(np.round(widths).astype(int), minlength=side + 1)
    enough = expected > 5
    observed = np.append(found[enough], found[~enough].sum())
    wanted = np.append(expected[enough], expected[~enough].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    assert stats.chisquare(observed, wanted).pvalue > LEAST_P


@only("torch")
def test_torch_draws_the_same_law():
    """Two samples from two libraries."""
    import torch

    torch.manual_seed(0)
    theirs = torch.distributions.Beta(0.4, 0.4).sample((COUNT,)).numpy()
    kept, _, _ = decoded(augmenter(MixUp(0.4, seed=4))(*batch())[1])
    assert stats.ks_2samp(kept, theirs).pvalue > LEAST_P
