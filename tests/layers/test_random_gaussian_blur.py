import numpy as np
import pytest
from harness import import_torchvision, jit, only, raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import ndimage, stats

from keras_reg.layers import RandomGaussianBlur

COLORS = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3)).astype("uint8")
FLOATS = (COLORS / np.float32(255)).astype("float32")
LAYOUTS = {"channels_last": (0, 1, 2, 3), "channels_first": (0, 3, 1, 2)}


def blurred(images, sigma, radius):
    """Channels-last images, by SciPy, whose "mirror" does not repeat the border."""
    return ndimage.gaussian_filter(images.astype("float64"), (0, sigma, sigma, 0), radius=radius, mode="mirror")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("sigma", "size"), [(0.6, 3), (1.0, None), (3.0, None)])
def test_it_is_a_convolution_along_both_axes_of_the_mirrored_image(layout, sigma, size):
    """A sigma of 3 has a kernel of 19 pixels: the image is mirrored more than once."""
    layer = RandomGaussianBlur(sigma, size, rate=1.0, data_format=layout)
    radius = int(np.ceil(3 * sigma)) if size is None else size // 2
    exact = blurred(FLOATS, sigma, radius).transpose(LAYOUTS[layout])
    np.testing.assert_allclose(augment(layer, FLOATS.transpose(LAYOUTS[layout])), exact, atol=1e-6)
    exact = blurred(COLORS, sigma, radius).transpose(LAYOUTS[layout])
    found = augment(layer, COLORS.transpose(LAYOUTS[layout]))
    clear = abs(exact - np.floor(exact) - 0.5) > 1e-3  # no tie
    assert found.dtype == "uint8"
    np.testing.assert_array_equal(found[clear], np.round(exact[clear]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("radius", [1, 2, 4, 9])
def test_compiled_with_kernels_shorter_and_longer_than_the_image(layout, radius):
    """A compiler sums the ends of an axis apart where it has more than four times the radius: both, one or no axis."""
    layer = RandomGaussianBlur(2.0, 2 * radius + 1, rate=1.0, data_format=layout)
    images = FLOATS.transpose(LAYOUTS[layout])
    found = jit(lambda x: layer(x, training=True), xla=True)(images)
    exact = blurred(FLOATS, 2.0, radius).transpose(LAYOUTS[layout])
    np.testing.assert_allclose(to_numpy(found), exact, atol=1e-6)


@only("jax", why="XLA tells there how much memory it sets aside")
@pytest.mark.parametrize("size", [7, 23])
def test_no_copy_of_all_images_with_their_border(size):
    """Beside the result, the first pass is held, and a border for each axis."""
    import jax

    layer, images = RandomGaussianBlur(2.0, size, rate=1.0), np.zeros((4, 100, 90, 3), "float32")
    compiled = jax.jit(lambda x: layer(x, training=True, index=0)).lower(images).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2 * images.nbytes


@only("torch")
def test_it_is_that_of_torchvision():
    import torch

    blur = import_torchvision().transforms.v2.functional.gaussian_blur
    for images, tolerance in ((FLOATS, 1e-6), (COLORS, 0)):
        expected = blur(torch.from_numpy(images).permute(0, 3, 1, 2), [5, 5], [1.3, 1.3]).permute(0, 2, 3, 1)
        found = augment(RandomGaussianBlur(1.3, 5, rate=1.0), images)
        np.testing.assert_allclose(found, expected.numpy(), atol=tolerance)


def test_each_image_has_its_own_sigma_and_the_rate_is_exact():
    images = np.zeros((2000, 3, 3, 1), "float32")
    images[:, 1] = 1  # a row, of which the center keeps a share that tells sigma
    images[::9, 1, 1] = np.nan
    found = augment(RandomGaussianBlur((0.3, 0.9), 3, rate=0.4, seed=1), images)
    usual = np.arange(2000) % 9 != 0
    kept = found[usual, 1, 1, 0].astype("float64")
    assert stats.binomtest(int((kept != 1).sum()), int(usual.sum()), 0.4).pvalue > LEAST_P
    sigmas = np.sqrt(-0.5 / np.log((1 / kept[kept != 1] - 1) / 2))
    assert stats.kstest(sigmas, stats.uniform(0.3, 0.6).cdf).pvalue > LEAST_P
    assert_same_bits(found[usual][kept == 1], images[usual][kept == 1])


def test_the_result_of_an_image_does_not_depend_on_the_other_images():
    layer, others = RandomGaussianBlur(rate=1.0, seed=3), COLORS.copy()
    others[1:] = 7
    found = augment(layer, COLORS, index=0)
    assert (found[0] != COLORS[0]).any()
    assert_same_bits(augment(layer, others, index=0)[0], found[0])


def test_a_sigma_of_zero_and_a_single_pixel_stay():
    images = FLOATS.copy()
    images[0, 0, 0] = np.nan
    assert_same_bits(augment(RandomGaussianBlur(0, rate=1.0), images), images)
    pixels = COLORS[:, :1, :1]
    assert_same_bits(augment(RandomGaussianBlur(2.0, rate=1.0), pixels), pixels)


def test_a_constant_image_stays_up_to_its_border():
    """Keras: 90 at the border of an image of 100, for a sigma of 1 and a kernel of 3."""
    images = np.full((2, 6, 5, 1), 100, "uint8")
    np.testing.assert_array_equal(augment(RandomGaussianBlur((0.5, 3), rate=1.0, seed=2), images), images)


def test_all_frames_of_a_video_are_blurred_alike():
    videos = np.repeat(FLOATS[:, None], 3, axis=1)
    found = augment(RandomGaussianBlur(rate=0.7, seed=3), videos)
    assert (found != videos).any()
    assert_same_bits(found, np.repeat(found[:, :1], 3, axis=1))


def test_even_kernels_are_refused():
    with raises_received("kernel_size=4", "odd"):
        RandomGaussianBlur(kernel_size=4)
