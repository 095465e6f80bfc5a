import functools

import keras
import numpy as np
import pytest
from harness import assert_close, import_torchvision, only, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment, augmenter, coded, decoded, numbered
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import MixUp

COUNT = 4000


def photos(count, *shape, dtype="float32"):
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(dtype)


@functools.cache
def mixed(rate=1.0, mode="sample"):
    """(images, mixed images, kept, given, partner) of one call with coded labels."""
    images = photos(COUNT, 3, 2, 1)
    result, labels = augment(MixUp(1.0, rate, mode=mode, seed=1), images, coded(COUNT))
    return images, result, *decoded(labels)


def test_images_are_blended_with_the_weight_of_their_labels():
    images, result, kept, given, partner = mixed()
    kept, given = kept[:, None, None, None], given[:, None, None, None]
    expected = kept.astype("float64") * images + given.astype("float64") * images[partner]
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_no_sample_is_its_own_partner():
    """And all partners are one cyclic shift, so each sample is a partner once."""
    *_, partner = mixed()
    shift = (partner - np.arange(COUNT)) % COUNT
    assert (shift == shift[0]).all() and shift[0] != 0


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_shift_but_none_is_as_likely(count):
    """Chi-square over 200 batches; in a batch of two the other one is always the partner."""
    images, labels = numbered(count, 1, 1), coded(count)
    layer = MixUp(1.0, seed=2)
    call = augmenter(layer)
    shifts = []
    for _ in range(200):
        partner = decoded(call(images, labels)[1])[2]
        shifts.append((partner[0] - 0) % count)
        assert ((partner - np.arange(count)) % count == shifts[-1]).all()
    counts = np.bincount(shifts, minlength=count)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > LEAST_P or count == 2


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_rate_is_the_probability_of_each_image(rate):
    images, result, kept, given, _ = mixed(rate)
    chosen = given > 0
    assert stats.binomtest(int(chosen.sum()), COUNT, rate).pvalue > LEAST_P
    assert_same_bits(result[~chosen], images[~chosen])
    assert (kept[~chosen] == 1).all()
    # Whether and how much are independent: lambda of those that are mixed is uniform at alpha = 1.
    assert stats.kstest(kept[chosen], "uniform").pvalue > LEAST_P


def test_rate_zero_and_a_batch_of_one_are_the_identity():
    images, labels = photos(5, 4, 3, 2), coded(5)
    for layer, count in ((MixUp(rate=0.0, seed=3), 5), (MixUp(rate=1.0, seed=3), 1)):
        result = augment(layer, images[:count], labels[:count], np.ones(count, "float32"))
        for found, given in zip(result, (images[:count], labels[:count], np.ones(count, "float32")), strict=True):
            assert_same_bits(found, given)


def test_one_lambda_for_the_batch():
    _, _, kept, _, partner = mixed(mode="batch")
    assert np.unique(kept).size == 1 and 0 < kept[0] < 1
    assert (partner != np.arange(COUNT)).all()


def test_one_lambda_for_the_batch_still_chooses_each_image():
    images, result, kept, _, _ = mixed(rate=0.3, mode="batch")
    assert set(np.unique(kept)) == {1, kept.min()}
    assert stats.binomtest(int((kept < 1).sum()), COUNT, 0.3).pvalue > LEAST_P
    assert_same_bits(result[kept == 1], images[kept == 1])


def test_weights_zero_and_one_are_exact_and_let_nothing_through():
    """At an alpha of 1e-3 nearly every lambda is 0 or 1. Every other image is NaN and infinite."""
    images = photos(400, 3, 3, 1)
    images[::3] = np.array([np.nan, np.inf, -np.inf], "float32")[:, None]
    result, labels = augment(MixUp(1e-3, seed=4), images, coded(400))
    kept, given, partner = decoded(labels)
    for weight, expected in ((given == 0, images), (kept == 0, images[partner])):
        assert 0.3 < weight.mean() < 0.6
        np.testing.assert_array_equal(result[weight], expected[weight])  # NaN where NaN, and nowhere else


@only("torch")
def test_torchvision_blends_the_same_given_lambda():
    """A batch of two, rolled by one in both."""
    import torch

    transform = import_torchvision().transforms.v2.MixUp(num_classes=3)
    images, ids = photos(2, 5, 4, 3), np.array([2, 0])
    found, labels = augment(MixUp(1.0, num_classes=3, mode="batch", seed=8), images, ids)
    kept = labels[0, 2]
    assert 0.01 < kept < 0.99
    params = {"labels": torch.from_numpy(ids), "batch_size": 2, "lam": float(kept)}
    theirs = transform.transform(torch.from_numpy(images).permute(0, 3, 1, 2), params)
    assert_close(found, theirs.permute(0, 2, 3, 1), rtol=1e-6, atol=1e-6)
    assert_close(labels, transform.transform(params["labels"], params), rtol=1e-6, atol=1e-6)


def test_labels_of_a_strength_are_float32():
    """NumPy's float64 numbers would make them float64."""
    labels = MixUp(Strength(0.4), num_classes=3)(np.ones((3, 4, 4, 1), "float32"), np.arange(3))[1]
    assert keras.backend.standardize_dtype(labels.dtype) == "float32"


def test_class_ids_beside_targets_of_a_regression():
    targets = np.random.default_rng(0).random((6, 4), "float32")
    labels = {"kind": np.arange(6) % 3, "place": targets, "age": targets[:, :1]}
    mixed = MixUp(0.4, num_classes=3, seed=1)(np.ones((6, 8, 8, 3), "float32"), labels)[1]
    assert mixed["kind"].shape == (6, 3) and mixed["place"].shape == (6, 4)
    assert_close(mixed["age"], to_numpy(mixed["place"])[:, :1], rtol=1e-6)


def test_strengths_move_rate_and_alpha():
    layer = MixUp(Strength(1.0), Strength(0.5), seed=6)
    alpha, rate = (next(w for w in layer.non_trainable_variables if w.name == name) for name in ("alpha", "rate"))
    call, images, labels = augmenter(layer), numbered(COUNT, 1, 1), coded(COUNT)
    shares = []
    for value in (0.5, 0.0, 1.0):
        rate.assign(value)
        shares.append((decoded(call(images, labels)[1])[1] > 0).mean())
    assert abs(shares[0] - 0.5) < 0.04 and shares[1:] == [0, 1]
    spread = []
    for value in (1.0, 0.1):
        alpha.assign(value)
        kept = decoded(call(images, labels)[1])[0]
        spread.append(np.minimum(kept, 1 - kept).mean())
    # E min(l, 1 - l) is 1/4 for the uniform law, and 0.0366 for Beta(0.1, 0.1).
    np.testing.assert_allclose(spread, [0.25, _mean_of_smaller(0.1)], atol=0.01)


def _mean_of_smaller(alpha):
    return 2 * stats.beta(alpha, alpha).expect(lambda x: x, lb=0, ub=0.5)
