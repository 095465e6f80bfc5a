import functools

import numpy as np
import pytest
from harness import assert_close, import_torchvision, only
from hypothesis import given
from hypothesis import strategies as st
from layers.batches import (
    LEAST_P,
    assert_same_bits,
    augment,
    augmenter,
    boxes_of,
    coded,
    decoded,
    numbered,
    properties,
)
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import CutMix

COUNT, HEIGHT, WIDTH = 12_000, 8, 6


@functools.cache
def mixed(rate=1.0, mode="sample"):
    """(images, cut images, labels) of one call: images hold their number, labels its digits."""
    images = numbered(COUNT, HEIGHT, WIDTH)
    return images, *augment(CutMix(1.0, rate, mode=mode, seed=1), images, coded(COUNT))


def test_pixels_come_from_one_box_of_the_partner():
    images, result, labels = mixed()
    _, given, partner = decoded(labels)
    taken = result != images
    boxes_of(taken[..., 0])
    np.testing.assert_array_equal(result, np.where(taken, images[partner], images))
    assert ((partner != np.arange(COUNT)) == (given > 0)).all()
    shift = (partner - np.arange(COUNT))[given > 0] % COUNT
    assert (shift == shift[0]).all()


def test_label_weight_is_exactly_the_share_of_pixels():
    """The float32 quotient to its last bit (XLA may divide by way of a reciprocal), and what is given is the rest."""
    images, result, labels = mixed()
    kept, given, _ = decoded(labels)
    same = (result == images).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(kept, same / (HEIGHT * WIDTH), rtol=1.2e-7)
    np.testing.assert_allclose(given, 1 - kept, atol=6e-8)


def test_the_box_has_the_shape_of_the_image_in_whole_pixels():
    images, result, _ = mixed()
    _, _, tall, wide = boxes_of((result != images)[..., 0])
    some = tall > 0
    # One side s in [0, 1] rounds to both: the intervals of s that the two leave must meet.
    low = np.maximum((tall - 0.5) / HEIGHT, (wide - 0.5) / WIDTH)[some]
    high = np.minimum((tall + 0.5) / HEIGHT, (wide + 0.5) / WIDTH)[some]
    assert (low <= high + 1e-6).all()
    assert len(set(zip(tall[some], wide[some], strict=True))) > 8


def test_the_corner_is_uniform_over_every_valid_place_edges_included():
    """For every size of box that occurs often: chi-square over all its places."""
    images, result, _ = mixed()
    top, left, tall, wide = boxes_of((result != images)[..., 0])
    sizes, counts = np.unique(np.stack([tall, wide])[:, tall > 0], axis=1, return_counts=True)
    tried = 0
    for (height, width), count in zip(sizes.T, counts, strict=True):
        down, across = HEIGHT - height + 1, WIDTH - width + 1
        if down * across == 1 or count < 8 * down * across:
            continue
        here = (tall == height) & (wide == width)
        places = np.bincount(top[here] * across + left[here], minlength=down * across)
        assert len(places) == down * across
        assert stats.chisquare(places).pvalue > LEAST_P, (height, width)
        tried += 1
    assert tried >= 8


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_rate_is_the_probability_of_each_image(rate):
    """Of those that are chosen some get a box without pixels: as many as in a call with rate 1."""
    images, result, _ = mixed(rate)
    cut = (result != images).any(axis=(1, 2, 3))
    # No pixel is taken where a side rounds to nothing: 1 - lambda, which is uniform, under (0.5 / 6)^2.
    nothing = max(0.5 / HEIGHT, 0.5 / WIDTH) ** 2
    assert stats.binomtest(int(cut.sum()), COUNT, rate * (1 - nothing)).pvalue > LEAST_P
    assert_same_bits(result[~cut], images[~cut])


def test_one_lambda_for_the_batch_but_a_place_for_each_image():
    images, result, labels = mixed(mode="batch")
    top, left, tall, wide = boxes_of((result != images)[..., 0])
    assert np.unique(decoded(labels)[0]).size == 1
    assert len(set(tall)) == len(set(wide)) == 1
    assert len(set(top)) == HEIGHT - tall[0] + 1 and len(set(left)) == WIDTH - wide[0] + 1


def test_rate_zero_and_a_batch_of_one_are_the_identity():
    images, labels, weights = numbered(5), coded(5), np.ones(5, "float32")
    for layer, count in ((CutMix(rate=0.0, seed=3), 5), (CutMix(rate=1.0, seed=3), 1)):
        data = (images[:count], labels[:count], weights[:count])
        for found, expected in zip(augment(layer, *data), data, strict=True):
            assert_same_bits(found, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_integer_images_stay_integer(dtype):
    images = numbered(60, 8, 6, 3, dtype)
    result, labels = augment(CutMix(seed=4), images, coded(60))
    assert result.dtype == dtype
    partner = decoded(labels)[2]
    taken = result != images
    np.testing.assert_array_equal(result, np.where(taken, images[partner], images))


def test_a_nan_of_the_partner_enters_by_the_box_alone():
    images = numbered(300, 6, 6)
    images[::2] = np.nan
    result, labels = augment(CutMix(seed=5), images, np.eye(2, dtype="float32")[np.arange(300) % 2])
    assert np.isfinite(labels).all()
    kept = np.where(np.arange(300) % 2, labels[:, 1], labels[:, 0])
    share_of_nan = np.isnan(result).mean(axis=(1, 2, 3))
    shift_is_odd = (labels.min(axis=1) > 0).any()
    expected = np.where(np.arange(300) % 2, 1 - kept, kept) if shift_is_odd else 1.0 - np.arange(300) % 2
    np.testing.assert_allclose(share_of_nan, expected, atol=1e-6)


@properties
@given(
    size=st.sampled_from([(1, 1), (1, 7), (9, 2), (5, 5), (16, 11)]),
    count=st.sampled_from([2, 3, 8]),
    alpha=st.floats(0.05, 10),
    rate=st.floats(0, 1),
    dtype=st.sampled_from(["uint8", "float32"]),
    seed=st.integers(0, 2**31),
)
def test_share_partner_and_box_hold_for_any_size(size, count, alpha, rate, dtype, seed):
    images = numbered(count, *size, dtype=dtype)
    result, labels = augment(CutMix(alpha, rate, seed=seed), images, coded(count))
    kept, given_share, partner = decoded(labels)
    taken = result != images
    boxes_of(taken[..., 0])
    np.testing.assert_array_equal(result, np.where(taken, images[partner], images))
    expected = (~taken).sum(axis=(1, 2, 3)).astype("float32") / np.float32(size[0] * size[1])
    np.testing.assert_array_equal(kept, expected)
    assert ((partner == np.arange(count)) == (given_share == 0)).all()


@only("torch")
def test_torchvision_cuts_the_same_given_the_box():
    import torch

    transform = import_torchvision().transforms.v2.CutMix(num_classes=3)
    images, ids = np.random.default_rng(1).random((2, 12, 9, 3), "float32"), np.array([2, 0])
    for seed in range(6, 12):
        found, labels = augment(CutMix(1.0, num_classes=3, mode="batch", seed=seed), images, ids)
        taken = (found != images).any(axis=-1)
        top, left, tall, wide = (int(x[0]) for x in boxes_of(taken))
        # Their box is one for the batch, so one image at a time is compared.
        params = {
            "labels": torch.from_numpy(ids),
            "batch_size": 2,
            "box": (left, top, left + wide, top + tall),
            "lam_adjusted": 1 - tall * wide / (12 * 9),
        }
        theirs = transform.transform(torch.from_numpy(images).permute(0, 3, 1, 2), params).permute(0, 2, 3, 1)
        assert_same_bits(found[0], theirs[0].numpy())
        assert_close(labels, transform.transform(params["labels"], params), rtol=1e-6, atol=1e-6)


def test_strengths_move_rate_and_alpha():
    layer = CutMix(Strength(1.0), Strength(0.5), seed=6)
    alpha, rate = (next(w for w in layer.non_trainable_variables if w.name == name) for name in ("alpha", "rate"))
    call, images, labels = augmenter(layer), numbered(2000, 32, 32), coded(2000)
    rate.assign(0.0)
    assert_same_bits(call(images, labels)[0], images)
    rate.assign(1.0)
    spread = []
    for value in (1.0, 0.1):
        alpha.assign(value)
        kept = decoded(call(images, labels)[1])[0]
        spread.append(np.minimum(kept, 1 - kept).mean())
    assert abs(spread[0] - 0.25) < 0.02 and abs(spread[1] - 0.0584) < 0.01  # the means of Beta
