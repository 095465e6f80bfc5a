import numpy as np
import pytest
from harness import import_torchvision, only, raises_received
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import ndimage, stats

from keras_reg.layers import RandomSharpness

COLORS = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3)).astype("uint8")
FLOATS = (COLORS / np.float32(255)).astype("float32")
LAYOUTS = {"channels_last": (0, 1, 2, 3), "channels_first": (0, 3, 1, 2)}
KERNEL = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
CHANGES = (-1, -0.45, 0.9, 3)


def sharpened(images, change):
    """Channels-last images of whole numbers, blended by SciPy, before the last rounding."""
    smooth = np.round(ndimage.convolve(images.astype("float64"), KERNEL[None, :, :, None]))
    found = np.clip(images + change * (images - smooth), 0, 255)
    inner = np.zeros(images.shape, bool)
    inner[:, 1:-1, 1:-1] = True
    return np.where(inner, found, images)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_are_blended_with_the_rounded_mean_and_rounded_down(layout):
    for change in CHANGES:
        layer = RandomSharpness((change, change), data_format=layout)
        found, exact = augment(layer, COLORS.transpose(LAYOUTS[layout])), sharpened(COLORS, change)
        exact = exact.transpose(LAYOUTS[layout])
        clear = abs(exact - np.round(exact)) > 1e-3  # a whole number may be computed as a little less
        assert found.dtype == "uint8" and (found != COLORS.transpose(LAYOUTS[layout])).any()
        np.testing.assert_array_equal(found[clear], np.floor(exact[clear]))
        np.testing.assert_allclose(found, np.round(exact), atol=1)


@only("torch")
def test_uint8_is_that_of_torchvision_and_floats_too():
    import torch

    adjust = import_torchvision().transforms.v2.functional.adjust_sharpness
    for change in CHANGES:
        for images, tolerance in ((COLORS, 0), (FLOATS, 1e-6)):
            layer = RandomSharpness((change, change), value_range=None if images is COLORS else (0, 1))
            expected = adjust(torch.from_numpy(images).permute(0, 3, 1, 2), 1 + change).permute(0, 2, 3, 1)
            np.testing.assert_allclose(augment(layer, images), expected.numpy(), atol=tolerance)


def test_floats_are_blended_within_their_range():
    """A range that does not begin at 0: (-1, 3)."""
    layer = RandomSharpness((0.7, 0.7), value_range=(-1, 3))
    smooth = ndimage.convolve(4 * FLOATS.astype("float64") - 1, KERNEL[None, :, :, None])
    expected = np.clip(1.7 * (4 * FLOATS - 1) - 0.7 * smooth, -1, 3)
    found = augment(layer, 4 * FLOATS - 1)
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=2e-6)
    assert_same_bits(found[:, [0, -1]], (4 * FLOATS - 1)[:, [0, -1]])
    assert_same_bits(found[:, :, [0, -1]], (4 * FLOATS - 1)[:, :, [0, -1]])


def test_a_constant_image_stays_up_to_its_border():
    """Keras: 61.5 in the corners of an image of 100 that is smoothed."""
    images = np.full((2, 6, 5, 1), 100, "uint8")
    np.testing.assert_array_equal(augment(RandomSharpness((-1, 3), seed=2), images), images)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 4), (6, 2)])
def test_images_without_inner_pixels_stay(size):
    images = COLORS[:, : size[0], : size[1]]
    assert_same_bits(augment(RandomSharpness((-1, -1)), images), images)


def test_numbers_are_uniform_and_the_rate_is_exact_per_image():
    images = np.zeros((2000, 3, 3, 1), "float32")
    images[:, 1, 1] = 13
    images[::9, 1, 1] = np.nan
    found = augment(RandomSharpness((-0.5, 1.5), 0.3, value_range=(-100, 100), seed=1), images)
    usual = np.arange(2000) % 9 != 0
    changed = found[usual, 1, 1, 0] != 13
    assert stats.binomtest(int(changed.sum()), int(usual.sum()), 0.3).pvalue > LEAST_P
    changes = (found[usual, 1, 1, 0][changed] - 13) / 8  # the smoothed pixel is 5
    assert stats.kstest(changes, stats.uniform(-0.5, 2).cdf).pvalue > LEAST_P


def test_the_result_of_an_image_does_not_depend_on_the_other_images():
    layer, others = RandomSharpness(0.9, 0.7, seed=3), COLORS.copy()
    others[1:] = 7
    found = augment(layer, COLORS, index=0)
    assert_same_bits(augment(layer, others, index=0)[0], found[0])
    many = np.repeat(COLORS[:1], 30, axis=0)
    changed = (augment(layer, many, index=0) != many).any((1, 2, 3))
    assert 0 < changed.sum() < 30


def test_all_frames_of_a_video_change_alike():
    videos = np.repeat(FLOATS[:, None], 3, axis=1)
    found = augment(RandomSharpness(0.9, value_range=(0, 1), seed=4), videos)
    assert (found != videos).any()
    assert_same_bits(found, np.repeat(found[:, :1], 3, axis=1))


def test_what_needs_a_range_is_refused():
    for images in (FLOATS, COLORS.astype("int32")):
        with raises_received("value_range=None", "dtype="):
            RandomSharpness(0.4)(images)
    with raises_received("value_range="):
        RandomSharpness(0.4, value_range=(0, 256))(COLORS)
