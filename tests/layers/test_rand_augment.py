import collections

import numpy as np
import pytest
from harness import import_torchvision, only, raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment
from layers.policies import MOVING, NAMES, Outcomes, magnitude_of, photo, sequences
from scipy import stats

from keras_reg.layers import RandAugment

IMAGES = np.stack([photo(12, 9, seed=seed) for seed in range(8)])
SOME = ["rotate", "equalize", "contrast"]


class Torchvision:
    """One operation of a policy of torchvision, drawn there until both directions have come."""

    def __init__(self, **options):
        self.torch = pytest.importorskip("torch")
        self.policy = import_torchvision().transforms.v2.RandAugment(num_ops=1, **options)
        self.space = dict(self.policy._AUGMENTATION_SPACE)

    def __call__(self, name, image):
        """All results for an image (height, width, channels), uint8."""
        key = name.title().replace("_", "")
        self.policy._AUGMENTATION_SPACE = {key: self.space[key]}
        given, found = self.torch.from_numpy(image).permute(2, 0, 1), {}
        for seed in range(8):
            self.torch.manual_seed(seed)
            result = self.policy(given).permute(1, 2, 0).contiguous().numpy()
            found[result.tobytes()] = result
            if len(found) == 1 + self.space[key][1]:
                break
        return list(found.values())


@only("torch")
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_each_operation_is_that_of_torchvision(interpolation):
    """Blends and bilinear interpolation to one level, nearest but for ties, and everything else exactly."""
    image = photo(24, 31)
    names = [name for name in NAMES if name != "invert" and (interpolation == "nearest" or name in MOVING)]
    for level in (9, 30):
        mode = import_torchvision().transforms.v2.InterpolationMode(interpolation)
        theirs = Torchvision(magnitude=level, interpolation=mode)
        for name in names:
            layer = RandAugment(1, level, operations=[name], interpolation=interpolation, seed=level)
            found, seen = to_numpy(layer(np.repeat(image[None], 12, axis=0))).astype(int), set()
            possible = np.stack(theirs(name, image)).astype(int)
            for result in found:
                away = np.abs(possible - result)
                best = away.mean((1, 2, 3)).argmin()
                seen.add(best)
                if interpolation == "nearest" and name in MOVING:
                    assert (away[best].max(-1) > 0).mean() < 0.02, (name, level)
                else:
                    inexact = name in ("color", "contrast", "sharpness") or interpolation == "bilinear"
                    assert away[best].max() <= inexact, (name, level)
            assert len(seen) == len(possible)


@only("torch")
def test_chains_of_two_operations_are_those_of_torchvision():
    """In the order in which they are drawn: what comes from outside is equalized with the rest of the image."""
    image, names = photo(20, 24), ["rotate", "shear_y", "brightness", "posterize", "auto_contrast", "equalize"]
    theirs, chains = Torchvision(magnitude=19), {}
    for first in names:
        for one in theirs(first, image):
            for second in names:
                for result in theirs(second, one):
                    chains[result.tobytes()] = result, first, second
    possible, drawn = np.stack([result for result, *_ in chains.values()]).astype(int), set()
    for result in to_numpy(RandAugment(2, 19, operations=names, seed=3)(np.repeat(image[None], 100, axis=0))):
        away = np.abs(possible - result).max(-1)
        best = (away > 1).mean((1, 2)).argmin()
        pair = list(chains.values())[best][1:]
        drawn.add(pair)
        assert (away[best] > 0).mean() < 0.02, pair
    assert len(drawn) > 25


@only("torch")
def test_floats_are_those_of_torchvision():
    import torch

    between = np.random.default_rng(0).random((20, 24, 3))  # the 256 levels
    image = ((photo(20, 24) + between) / 256).astype("float32")
    given, functional = torch.from_numpy(image).permute(2, 0, 1), import_torchvision().transforms.v2.functional
    expected = {
        "solarize": functional.solarize(given, 0.3), "posterize": functional.posterize(given, 5),
        "auto_contrast": functional.autocontrast(given), "equalize": functional.equalize(given),
        "invert": functional.invert(given),
    }  # fmt: skip
    for name, result in expected.items():
        layer = RandAugment(1, 21, operations=[name], value_range=(-1, 3))
        found = (to_numpy(layer(4 * image[None] - 1))[0] + 1) / 4
        away = np.abs(found - result.permute(1, 2, 0).numpy())
        assert (away > 1e-5).mean() < 0.01, name  # at a threshold, since the range is another one


def test_floats_are_integers_to_one_level():
    found = augment(RandAugment(1, 19, seed=4), IMAGES, index=0)
    wide = augment(RandAugment(1, 19, value_range=(0, 255), seed=4), IMAGES.astype("float32"), index=0)
    assert found.dtype == "uint8" and wide.dtype == "float32"
    assert np.abs(wide - found).max() <= 2 and np.abs(wide - found).mean() < 1


@pytest.mark.parametrize(("magnitude", "channels", "count"), [(9, 3, 900), (30, 3, 900), (9, 1, 60)])
def test_each_image_draws_one_operation_of_pillow_with_equal_probabilities(magnitude, channels, count):
    """In one of two directions, with the magnitude of all images."""
    pytest.importorskip("PIL")
    image = photo(channels=channels)
    layer = RandAugment(1, magnitude, operations=NAMES, seed=1)
    possible = Outcomes(image, 31, "narrow", levels=[magnitude])
    keys = possible.keys_of(augment(layer, np.repeat(image[None], count, axis=0)))
    if channels == 3:
        assert min(possible.p_values(keys)) > LEAST_P


def test_all_pairs_of_operations_are_drawn_with_equal_probabilities():
    """Chi-square of all results of two operations in a row, of which each is exact."""
    pytest.importorskip("PIL")
    image, count = photo(), 4000
    names = ["translate_x", "translate_y", "posterize", "solarize", "equalize", "invert"]
    steps = []
    for name in names:
        magnitude = magnitude_of(name, 19 / 30, image.shape[:2])  # a threshold of 93.5, which no pixel has
        signs = (1, -1) if name in MOVING else (1,)
        steps += [(name, sign * magnitude, 1 / len(names) / len(signs)) for sign in signs]
    odds = sequences(image, steps, 2)
    assert len(odds) > 40  # of 64 pairs
    found = augment(RandAugment(2, 19, operations=names, seed=2), np.repeat(image[None], count, axis=0))
    counts = collections.Counter(result.tobytes() for result in found)
    assert not set(counts) - set(odds)
    expected = [count * share for share in odds.values()]
    assert min(expected) > 5 and stats.chisquare([counts[key] for key in odds], expected).pvalue > LEAST_P


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_masks_boxes_and_keypoints_follow_the_operations_that_move_pixels_and_only_those(layout):
    names = ["translate_x", "shear_y", "solarize", "sharpness"]
    layer = RandAugment(2, 25, operations=names, fill_value=7, mask_fill=7, data_format=layout, seed=7)
    images = np.repeat(IMAGES[..., :1], 5, axis=0)
    given = images if layout == "channels_last" else images.transpose(0, 3, 1, 2)
    boxes = {"boxes": np.tile([[[3.0, 2, 6, 8]]], (40, 1, 1)).astype("float32"), "classes": np.ones((40, 1), "int32")}
    weights, points = np.ones((40, 12, 9), "float32"), np.tile([[[4.0, 5.0]]], (40, 1, 1)).astype("float32")
    data = {
        "keypoints": points,
        "images": given,
        "segmentation_masks": images[..., 0],
        "bounding_boxes": boxes,
        "sample_weights": weights,
    }
    found = augment(layer, data, index=0)
    masks, shifted = found["segmentation_masks"], 0
    for i in range(40):
        shifts = {shift for shift in range(-9, 10) if (_shifted(images[i, ..., 0], shift) == masks[i]).all()}
        if (masks[i] == images[i, ..., 0]).all():
            assert_same_bits(found["bounding_boxes"]["boxes"][i], boxes["boxes"][i])
            assert found["sample_weights"][i].all() and (found["keypoints"][i] == points[i]).all()
        elif shifts:
            shifted, (shift,) = shifted + 1, shifts
            left, right = np.clip([3 + shift, 6 + shift], 0, 9)
            expected = [left, 2, right, 8] if right > left else [-1] * 4
            np.testing.assert_allclose(found["bounding_boxes"]["boxes"][i, 0], expected, atol=1e-4)
            place = [4 + shift, 5] if 0 <= 4 + shift < 9 else [-1, -1]
            np.testing.assert_allclose(found["keypoints"][i, 0], place, atol=1e-4)
            assert_same_bits(found["sample_weights"][i], _shifted(weights[i], shift, 0))
    assert shifted > 5


def _shifted(image, shift, fill=7):
    found = np.full_like(image, fill)
    width = image.shape[1]
    found[:, max(0, shift) : width + min(0, shift)] = image[:, max(0, -shift) : width - max(0, shift)]
    return found


def test_what_needs_a_range_or_other_channels_is_refused():
    for images in (IMAGES.astype("float32"), IMAGES.astype("int32")):
        with raises_received("value_range=None", "dtype="):
            RandAugment()(images)
    for value_range in ((0, 256), (0, 0.5)):
        with raises_received("value_range="):
            RandAugment(value_range=value_range)(IMAGES)
    with raises_received("shape=(8, 12, 9, 2)", "1 or 3 channels"):
        RandAugment()(IMAGES[..., :2])
    with raises_received("fill_value=0.5"):
        RandAugment(fill_value=0.5)(IMAGES)
    with raises_received("mask_fill=300"):
        RandAugment(mask_fill=300)({"images": IMAGES, "segmentation_masks": IMAGES[..., 0]})


def test_auto_contrast_divides_as_torchvision_on_every_backend():
    """In float32 with the decimals cut off, so that the lightest level of some ranges is 254."""
    rng = np.random.default_rng(8)
    low, span = rng.integers(0, 100, (2, 60, 1, 1, 3))
    images = (low + rng.random((60, 8, 8, 3)) * (span + 40)).astype("uint8")
    found = augment(RandAugment(1, operations=["auto_contrast"]), images)
    low, high = (extreme(axis=(1, 2), keepdims=True).astype("float32") for extreme in (images.min, images.max))
    expected = (images - low) / ((high - low) * np.float32(1 / 255))
    np.testing.assert_array_equal(found, np.minimum(expected, 255).astype("uint8"))
    assert {254, 255} <= set(found.max((1, 2)).ravel().tolist())


@only("tensorflow", why="It is about what TensorFlow makes of a division by a constant.")
def test_posterize_in_a_graph_with_a_constant_index():
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)).astype("uint8")
    layer = RandAugment(1, operations=["posterize"], seed=1)
    found = tf.function(lambda x: layer(x, index=0))(images)
    np.testing.assert_array_equal(to_numpy(found), images & 254)
