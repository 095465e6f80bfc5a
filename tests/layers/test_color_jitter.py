import colorsys

import numpy as np
import pytest
from harness import import_torchvision, only, raises_received
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import stats

from keras_reg.layers import ColorJitter

COLORS = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3)).astype("uint8")
FLOATS = (COLORS / np.float32(255)).astype("float32")
LAYOUTS = {"channels_last": (0, 1, 2, 3), "channels_first": (0, 3, 1, 2)}
ALL = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


def exactly(**changes):
    """The ranges that hold only these changes."""
    return {name: (change, change) for name, change in changes.items()}


@only("torch")
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_change_is_that_of_torchvision(name):
    """On floats to its weights of the channels, which sum to 0.9999; on uint8 within one level, since it truncates."""
    import torch

    adjust = getattr(import_torchvision().transforms.v2.functional, f"adjust_{name}")
    for change in (-0.45, -0.1, 0.2, 0.5):
        factor = change if name == "hue" else 1 + change
        for images, tolerance in ((FLOATS, 1e-3), (COLORS, 1)):
            layer = ColorJitter(**exactly(**{name: change}), value_range=None if images is COLORS else (0, 1))
            found = augment(layer, images)
            expected = adjust(torch.from_numpy(images).permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1).numpy()
            assert found.dtype == images.dtype and (found != images).any()
            np.testing.assert_allclose(found.astype("float64"), expected.astype("float64"), atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_four_in_order_are_the_definition(layout):
    changes = {"brightness": 0.3, "contrast": -0.4, "saturation": 0.6, "hue": 0.2}
    expected = np.clip(1.3 * FLOATS.astype("float64"), 0, 1)
    weights = np.array([0.299, 0.587, 0.114])
    mean = (expected @ weights).mean((1, 2))[:, None, None, None]
    expected = np.clip(0.6 * expected + 0.4 * mean, 0, 1)
    expected = np.clip(1.6 * expected - 0.6 * (expected @ weights)[..., None], 0, 1)
    turned = [colorsys.rgb_to_hsv(*pixel) for pixel in expected.reshape(-1, 3)]
    expected = np.array([colorsys.hsv_to_rgb((h + 0.2) % 1, s, v) for h, s, v in turned]).reshape(FLOATS.shape)
    # A range that does not begin at 0: (-1, 3).
    layer = ColorJitter(**exactly(**changes), value_range=(-1, 3), data_format=layout)
    found = augment(layer, (4 * FLOATS - 1).transpose(LAYOUTS[layout]))
    np.testing.assert_allclose(found, (4 * expected - 1).transpose(LAYOUTS[layout]), atol=2e-5)


def test_integers_are_rounded_and_colors_of_two_equal_channels_turn():
    found = augment(ColorJitter(brightness=(0.3, 0.3)), COLORS)
    exact = np.minimum(1.3 * COLORS, 255)
    clear = abs(exact - np.floor(exact) - 0.5) > 1e-3  # no tie
    np.testing.assert_array_equal(found[clear], np.round(exact[clear]))
    colors = np.array([[[[200, 200, 0], [0, 200, 200], [200, 0, 200], [90, 90, 90]]]], "uint8")
    found = augment(ColorJitter(hue=(1 / 3, 1 / 3)), colors)[0, 0].tolist()
    assert found == [[0, 200, 200], [200, 0, 200], [200, 200, 0], [90, 90, 90]]


def test_without_color_and_without_change():
    grays = np.repeat(FLOATS[..., :1], 3, axis=-1)
    np.testing.assert_allclose(augment(ColorJitter(hue=0.5, value_range=(0, 1), seed=1), grays), grays, atol=1e-6)
    found = augment(ColorJitter(saturation=(-1, -1)), COLORS)
    assert (found == found[..., :1]).all()
    assert not augment(ColorJitter(brightness=(-1, -1)), COLORS).any()
    flat = augment(ColorJitter(contrast=(-1, -1)), COLORS)
    assert (flat == flat[:, :1, :1, :1]).all()
    np.testing.assert_array_equal(augment(ColorJitter(), COLORS), COLORS)
    assert (augment(ColorJitter(brightness=(0, 0.5), seed=1), COLORS) > COLORS).any()  # a range that begins at 0


def test_numbers_are_uniform_and_independent_and_the_rate_is_exact():
    images = np.full((2000, 1, 1, 3), 0.25, "float32")
    images[..., 0] = 0.5
    options = {"value_range": (0, 1), "seed": 2}
    bright = augment(ColorJitter(brightness=(-0.2, 0.6), **options), images)[:, 0, 0, 0] / 0.5
    assert stats.kstest(bright, stats.uniform(0.8, 0.8).cdf).pvalue > LEAST_P
    found = augment(ColorJitter(brightness=0.3, saturation=0.3, **options), images)[:, 0, 0]
    colorful = (found[:, 0] - found[:, 1]) / (found @ [0.299, 0.587, 0.114])
    assert abs(stats.spearmanr(colorful, found @ [0.299, 0.587, 0.114]).statistic) < 4 / np.sqrt(2000)
    found = augment(ColorJitter(**ALL, rate=0.3, **options), images)
    changed = (found != images).any((1, 2, 3))
    assert stats.binomtest(int(changed.sum()), 2000, 0.3).pvalue > LEAST_P
    assert_same_bits(found[~changed], images[~changed])


def test_the_result_of_an_image_does_not_depend_on_the_other_images():
    layer, others = ColorJitter(**ALL, seed=3), COLORS.copy()
    others[1:] = 7
    assert_same_bits(augment(layer, others, index=0)[0], augment(layer, COLORS, index=0)[0])


def test_all_frames_of_a_video_change_alike():
    videos = np.repeat(FLOATS[:, None], 3, axis=1)
    found = augment(ColorJitter(**ALL, value_range=(0, 1), seed=4), videos)
    assert (found != videos).any()
    np.testing.assert_allclose(found, np.repeat(found[:, :1], 3, axis=1), atol=1e-6)
    grays = augment(ColorJitter(contrast=(-1, -1)), np.stack([COLORS, 255 - COLORS], axis=1))
    assert (grays == grays[:, :1, :1, :1, :1]).all()  # the mean of all frames


def test_what_needs_a_range_or_three_channels_is_refused():
    for images in (FLOATS, COLORS.astype("int32")):
        with raises_received("value_range=None", "dtype="):
            ColorJitter(0.4)(images)
    for value_range in ((0, 256), (-1, 255), (0, 0.5)):
        with raises_received("value_range="):
            ColorJitter(0.4, value_range=value_range)(COLORS)
    with raises_received("3 channels"):
        ColorJitter(0.4)(COLORS[..., :2])
