import collections

import numpy as np
import pytest
from harness import import_torchvision, only, raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment
from layers.policies import INEXACT, NAMES, Outcomes, magnitude_of, photo, sequences
from scipy import stats

from keras_reg.layers import AugMix

FLAT = {"value_range": (0, 1), "operations": ["invert"]}


def inverted_share(count=4000, **options):
    """The weight of the inverted image in mixtures of white and black, (count,)."""
    found = augment(AugMix(**options), np.zeros((count, 1, 1, 1), "float32"))
    return found[:, 0, 0, 0].astype("float64")


@pytest.mark.parametrize("alpha", [0.2, 1.0, 6.0])
def test_the_weight_of_the_image_is_beta_and_those_of_the_chains_are_dirichlet(alpha):
    share = inverted_share(depth=1, alpha=alpha, seed=1, **FLAT)  # of the image and of three equal chains
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > LEAST_P
    # Each of two chains is inverted with probability 1/2, so that their weights are seen.
    share = inverted_share(depth=1, width=2, alpha=alpha, seed=2, value_range=(0, 1), operations=["invert", "identity"])
    rng = np.random.default_rng(3)
    chains = rng.beta(alpha, alpha, (4000, 1)) * rng.dirichlet([alpha] * 2, 4000)
    assert stats.ks_2samp(share, (chains * rng.integers(0, 2, (4000, 2))).sum(1)).pvalue > LEAST_P


def test_the_depth_is_drawn_from_1_to_3():
    """Two inversions are none."""
    share = inverted_share(width=1, seed=4, **FLAT)
    assert stats.binomtest(int((share > 0).sum()), 4000, 2 / 3).pvalue > LEAST_P
    assert (inverted_share(width=2, depth=2, seed=5, **FLAT) == 0).all()
    assert (inverted_share(width=2, depth=3, seed=5, **FLAT) > 0).mean() > 0.99


def test_each_chain_draws_its_own_depth():
    """Chi-square of the number of inverted chains of three, of which each has a weight of about 1/6."""
    inverted = np.round(6 * inverted_share(alpha=1000, seed=11, **FLAT)).astype(int)
    expected = 4000 * stats.binom(3, 2 / 3).pmf(range(4))
    assert stats.chisquare(np.bincount(inverted, minlength=4), expected).pvalue > LEAST_P


@pytest.mark.parametrize(("channels", "count"), [(3, 1600), (1, 100)])
def test_each_image_draws_one_operation_of_pillow_with_equal_probabilities(channels, count):
    """At one of ten levels, in one of two directions."""
    pytest.importorskip("PIL")
    image = photo(10, 13, channels)
    layer = AugMix(10, 1, 1, alpha=1000, operations=NAMES, interpolation="nearest", seed=9)
    possible = Outcomes(image, 10, "mixed")
    found, away = ends_of_chains(layer, count, image, possible.images, possible.clear[..., None])
    for index, distance in zip(found, away, strict=True):
        key = possible.keys[index]
        assert distance <= 1.25 + 0.5 * (key[0] in INEXACT), key  # rounding also shifts the weight a little
    if channels == 3:
        assert min(possible.p_values([possible.keys[index] for index in found])) > LEAST_P


def test_a_chain_draws_one_two_or_three_operations_with_equal_probabilities():
    """Chi-square of all images to which chains of three operations lead. At the lowest level, all of them are exact."""
    pytest.importorskip("PIL")
    image, names, count, odds = photo(), ["posterize", "equalize", "invert"], 4000, collections.Counter()
    steps = [(name, magnitude_of(name, 0, image.shape[:2], "mixed"), 1 / len(names)) for name in names]
    for depth in (1, 2, 3):
        for result, share in sequences(image, steps, depth).items():
            odds[result] += share / 3
    results = np.stack([np.frombuffer(result, "uint8").reshape(image.shape) for result in odds])
    found, away = ends_of_chains(AugMix(1, 1, alpha=1000, operations=names, seed=10), count, image, results)
    assert len(odds) > 5 and away.max() < 1
    counts = np.bincount(found, minlength=len(odds))
    assert stats.chisquare(counts, count * np.array(list(odds.values()))).pvalue > LEAST_P


def ends_of_chains(layer, count, image, results, clear=True):
    """For `count` mixtures the index of the result that it contains, and the largest difference of clear pixels.

    By a large `alpha`, the image and the result weigh about 1/2 each. The exact weight is fitted.
    """
    changes = (augment(layer, np.repeat(image[None], count, axis=0)) - image.astype(float)).reshape(count, -1)
    clear = np.broadcast_to(clear, results.shape).reshape(len(results), -1).astype(float)
    ways = (results - image.astype(float)).reshape(len(results), -1) * clear
    products, squares = changes @ ways.T, (ways**2).sum(axis=1)
    weights = np.clip(products / np.maximum(squares, 1), 0.45, 0.55)
    found = (changes**2 @ clear.T - 2 * weights * products + weights**2 * squares).argmin(axis=1)
    away = np.abs(changes - weights[np.arange(count), found, None] * ways[found]) * clear[found]
    return found, away.max(axis=1)


@only("torch")
def test_the_operations_are_those_of_torchvision(monkeypatch):
    """Each result lies on the line from the image to one operation, of the levels that `severity` allows."""
    import torch

    image, severity = photo(20, 24), 4
    theirs = import_torchvision().transforms.v2.AugMix(severity, 1, 1)
    # All of the weight for the chain, so that the operation alone is seen.
    monkeypatch.setattr(
        theirs, "_sample_dirichlet", lambda params: (torch.arange(params.shape[1]) + 1 == params.shape[1]).float()[None]
    )
    space, given = theirs._AUGMENTATION_SPACE, torch.from_numpy(image).permute(2, 0, 1)
    torch.manual_seed(0)
    for name, key, count in (("rotate", "Rotate", 7), ("posterize", "Posterize", 2), ("brightness", "Brightness", 7)):
        monkeypatch.setattr(theirs, "_AUGMENTATION_SPACE", {key: space[key]})
        possible = {}
        while len(possible) < count:
            result = theirs(given).permute(1, 2, 0).contiguous().numpy()
            possible[result.tobytes()] = result.astype("float64")
        layer = AugMix(severity, 1, 1, operations=[name], seed=6)
        for result in to_numpy(layer(np.repeat(image[None], 30, axis=0))):
            assert min(_distance_to_line(result, image, other) for other in possible.values()) <= 1.01, name


def _distance_to_line(result, start, end):
    result, start = result.astype("float64"), start.astype("float64")
    way = end - start
    share = np.clip((way * (result - start)).sum() / max((way**2).sum(), 1), 0, 1)
    return np.abs(result - start - share * way).max()


def test_the_result_of_an_image_does_not_depend_on_the_other_images_but_on_the_seed():
    """Keras draws one mixture per batch, and ignores the seed."""
    images = np.stack([photo(6, 5, seed=seed) for seed in range(4)])
    layer, others = AugMix(operations=["rotate", "contrast", "equalize"], seed=7), 255 - images
    others[0] = images[0]
    found = augment(layer, images, index=0)
    assert_same_bits(augment(layer, others, index=0)[0], found[0])
    assert found.dtype == "uint8" and (found != images).any((1, 2, 3)).sum() > 2
    same = augment(layer, np.repeat(images[:1], 4, axis=0), index=0)
    assert len({image.tobytes() for image in same}) == 4
    assert (augment(AugMix(operations=["rotate", "contrast", "equalize"], seed=8), images, index=0) != found).any()


def test_what_has_a_place_in_the_image_is_refused():
    images = np.ones((2, 6, 5, 3), "uint8")
    for key, value in {
        "segmentation_masks": images[..., 0], "labels": images, "keypoints": np.ones((2, 3, 2), "float32"),
        "bounding_boxes": {"boxes": np.ones((2, 1, 4), "float32"), "classes": np.ones((2, 1))},
    }.items():  # fmt: skip
        with raises_received("`AugMix` cannot move", "Use `RandAugment`, or `operations` that leave"):
            AugMix()({"images": images, key: value})
        AugMix(operations=["solarize", "equalize"])({"images": images, key: value})


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_chains_of_a_large_alpha_weigh_the_same():
    """Densities underflow in the tables of the distribution."""
    images = np.zeros((2, 4, 4, 3), "uint8")
    layer = AugMix(width=2, depth=1, alpha=1e4, operations=["invert"], seed=0)
    np.testing.assert_allclose(augment(layer, images), 127, atol=6)
