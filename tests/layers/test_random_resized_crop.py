from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from harness import assert_close, import_torchvision, jit, only, to_numpy
from layers.batches import LEAST_P, augment
from scipy import stats

from keras_reg.layers import PCAColorJitter, RandomGaussianNoise, RandomResizedCrop

SIZE = 64  # of the results: larger than any crop, so that nothing is averaged


def slopes(count, height, width):
    """Images with two channels: the row and the column of each pixel."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.repeat(np.stack([rows, columns], -1)[None], count, axis=0).astype("float32")


def crops_of(result):
    """(top, left, height, width) of the crops of `slopes`: a slope resized is a line of the same kind.

    Two points near the middle give the line; a pixel's value sits in its centre.
    """

    def line(values):
        a, b = values[:, SIZE // 4], values[:, 3 * SIZE // 4]
        step = (b - a) / (SIZE / 2)
        start = a + 0.5 - (SIZE // 4 + 0.5) * step
        return start, step * SIZE

    top, tall = line(result[:, :, SIZE // 2, 0])
    left, wide = line(result[:, SIZE // 2, :, 1])
    return top, left, tall, wide


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [(30, 30, (0.2, 0.6), (3 / 4, 4 / 3)), (24, 48, (0.1, 1.0), (0.5, 2.0))],
)
def test_area_is_uniform_and_aspect_log_uniform_in_what_fits(height, width, scale, ratio):
    """Kolmogorov-Smirnov on 1,500 crops against the truncated law; aspect is width / height here, as elsewhere."""
    result = augment(RandomResizedCrop(SIZE, scale, ratio, seed=1), slopes(1500, height, width))
    top, left, tall, wide = crops_of(result)
    area = tall * wide / (height * width)
    largest = min(scale[1], ratio[1] * height / width, width / height / ratio[0])
    assert stats.kstest(area, stats.uniform(scale[0], largest - scale[0]).cdf).pvalue > LEAST_P
    pixels = area * height * width
    low, high = np.maximum(ratio[0], pixels / height**2), np.minimum(ratio[1], width**2 / pixels)
    free = high > low * 1.05
    place = np.log(wide / tall / low)[free] / np.log(high / low)[free]
    assert free.mean() > 0.8 and stats.kstest(place, "uniform").pvalue > LEAST_P
    for start, length, size in ((top, tall, height), (left, wide, width)):
        assert (start > -1e-2).all() and (start + length < size + 1e-2).all()
        room = size - length > 1
        assert stats.kstest((start / (size - length))[room], "uniform").pvalue > LEAST_P


@pytest.mark.parametrize(("size", "new"), [((9, 14), (5, 6)), ((9, 14), (20, 31)), ((12, 8), (12, 8))])
def test_the_whole_image_is_resized_as_keras_resizes(size, new):
    """Scale 1 and the image's own aspect leave one crop: bilinear with antialiasing is the oracle."""
    images = np.random.default_rng(0).random((3, *size, 2), "float32")
    aspect = size[1] / size[0]
    layer = RandomResizedCrop(new, scale=(1, 1), ratio=(aspect, aspect), seed=2)
    expected = keras.ops.image.resize(images, new, antialias=True, data_format="channels_last")
    assert_close(augment(layer, images), expected, rtol=1e-4, atol=1e-4)
    assert_close(augment(layer, images, training=False), expected, rtol=1e-4, atol=1e-4)


def test_nothing_beyond_the_crop_leaks_in():
    """The same crops of the same images, in which all pixels that a crop does not touch are a million."""
    images = slopes(20, 16, 12)
    crops = crops_of(augment(RandomResizedCrop(SIZE, (0.2, 0.5), seed=3), images))
    top, left, tall, wide = (x[:, None] for x in crops)
    rows, columns = np.arange(16), np.arange(12)
    touched = ((rows + 1.01 > top) & (rows - 0.01 < top + tall))[:, :, None]
    touched = touched & ((columns + 1.01 > left) & (columns - 0.01 < left + wide))[:, None, :]
    assert touched.mean() < 0.8
    spoilt = np.where(touched[..., None], images, 1e6).astype("float32")
    for size in (SIZE, 3):  # enlarged and shrunk
        results = [augment(RandomResizedCrop(size, (0.2, 0.5), seed=3), x) for x in (images, spoilt)]
        assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


def test_pixels_that_the_edge_of_the_crop_cuts_are_interpolated():
    """A slope stays a line up to the last pixel of the crop, if both neighbors of that pixel overlap the crop."""
    result = augment(RandomResizedCrop(SIZE, (0.2, 0.6), seed=1), slopes(40, 30, 30))
    top, left, tall, wide = crops_of(result)
    for found, start, length in ((result[:, :, 9, 0], top, tall), (result[:, 9, :, 1], left, wide)):
        first, last = start + length / SIZE / 2 - 0.5, start + length - length / SIZE / 2 - 0.5
        begins, ends = np.floor(first) + 1 > start + 1e-2, np.floor(last) + 1 < start + length - 1e-2
        assert begins.sum() > 9 and ends.sum() > 9
        np.testing.assert_allclose(found[begins, 0], first[begins], atol=1e-3)
        np.testing.assert_allclose(found[ends, -1], last[ends], atol=1e-3)


def test_a_constant_stays():
    images = np.full((50, 11, 7, 3), 0.3, "float32")
    np.testing.assert_allclose(augment(RandomResizedCrop((6, 9), seed=4), images), 0.3, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_masks_and_label_maps_take_the_nearest_pixel_of_the_same_crop(shape):
    images = slopes(20, 16, 12)
    addresses = (images[..., 0] * 12 + images[..., 1]).astype("int32").reshape(20, 16, 12, *shape)
    layer = RandomResizedCrop(SIZE, scale=(0.3, 0.9), seed=5)
    result = augment(layer, {"images": images, "labels": addresses, "segmentation_masks": addresses})
    np.testing.assert_array_equal(result["labels"], result["segmentation_masks"])
    assert result["labels"].dtype == "int32" and result["labels"].shape == (20, SIZE, SIZE, *shape)
    top, left, tall, wide = (x[:, None] for x in crops_of(result["images"]))
    centres = (np.arange(SIZE) + 0.5) / SIZE
    found = result["labels"].reshape(20, SIZE, SIZE)
    # Within a hundredth of a pixel of a border either neighbour is right.
    for index, exact in ((found[:, :, 0] // 12, top + centres * tall), (found[:, 0] % 12, left + centres * wide)):
        assert ((index - 0.01 <= exact) & (exact <= index + 1.01)).all()


def test_integer_images_become_floats_and_other_labels_stay():
    images, labels = np.full((4, 8, 8, 3), 200, "uint8"), np.arange(4)
    result = augment(RandomResizedCrop(4, seed=6), images, labels)
    assert result[0].dtype == "float32" and result[0].shape == (4, 4, 4, 3)
    np.testing.assert_allclose(result[0], 200, rtol=1e-5)
    np.testing.assert_array_equal(result[1], labels)


@pytest.mark.once  # NumPy does all of it
@pytest.mark.parametrize("size", [(4, 5), (1, 5), (4, 1)])
def test_workers_crop_in_bfloat16(size):
    """NumPy itself does not know this dtype."""
    images = np.random.default_rng(0).random((3, 6, 7, 2)).astype("float32")
    with ThreadPoolExecutor(1) as pool:
        layers = [RandomResizedCrop(size, seed=1, dtype=dtype) for dtype in ("bfloat16", "float32")]
        short, wide = (pool.submit(layer, images, index=0).result() for layer in layers)
    assert short.dtype == "bfloat16"
    np.testing.assert_allclose(to_numpy(short), wide, atol=0.02)


@only("torch")
def test_torchvision_draws_the_same_law_where_everything_fits():
    """Two samples: where nothing has to be drawn again the laws are one, but for its whole pixels."""
    import torch

    transform = import_torchvision().transforms.RandomResizedCrop
    torch.manual_seed(0)
    image, scale, ratio = torch.zeros(1, 90, 120), (0.05, 0.3), (3 / 4, 4 / 3)
    theirs = np.array([transform.get_params(image, list(scale), list(ratio)) for _ in range(1500)], "float64").T
    u = np.random.default_rng(1).random((1500, 4), "float32")
    ours = np.stack(crops_of(augment(RandomResizedCrop(SIZE, scale, ratio, seed=7), slopes(1500, 90, 120))))
    jitter = u.T - 0.5  # their numbers are rounded
    for i in range(4):
        assert stats.ks_2samp(ours[i], theirs[i] + (jitter[i] if i > 1 else u[:, i])).pvalue > LEAST_P


@only("torch")
def test_torchvision_resizes_a_crop_the_same():
    """Crops of whole pixels: torch cuts first and resizes then."""
    import torch

    functional = import_torchvision().transforms.v2.functional
    images = np.random.default_rng(2).random((6, 10, 10, 3), "float32")
    layer = RandomResizedCrop((7, 4), scale=(1, 1), ratio=(1, 1), seed=8)
    expected = functional.resize(torch.from_numpy(images).permute(0, 3, 1, 2), [7, 4], antialias=True)
    assert_close(augment(layer, images), expected.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 13), (40, 30)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_pixels_that_are_not_finite_only_spoil_the_new_pixels_that_see_them(size, dtype, compiled):
    """Those that would differ if the pixel had another value, and none of a crop that leaves it out."""
    random = np.random.default_rng(0)
    images = random.random((24, 20, 17, 3)).astype(dtype)
    rows, columns = random.integers(20, size=24), random.integers(17, size=24)
    layer = RandomResizedCrop(size, scale=(0.2, 1), seed=3)

    def call(images):
        return layer(images, index=2)

    call = jit(call, layer) if compiled else call

    def crops(value):
        changed = images.copy()
        changed[np.arange(24), rows, columns] = value
        return to_numpy(call(keras.ops.convert_to_tensor(changed)))

    zero, large, spoiled = crops(0), crops(6e4), crops([np.nan, np.inf, -np.inf])
    seen = zero != large  # even where the pixel has a small weight, however the processor rounds
    assert 0 < seen.any(axis=(1, 2, 3)).mean() < 1
    np.testing.assert_array_equal(np.isnan(spoiled), seen)
    assert_close(spoiled[~seen], zero[~seen], rtol=1e-6, atol=1e-6)


@only("torch")
@pytest.mark.parametrize("in_reach", [True, False])
def test_autocast_changes_no_pixels(in_reach):
    """As on a GPU if NumPy cannot reach the images, such as those that need gradients."""
    import torch

    images = (torch.rand(2, 64, 64, 3) * 255).requires_grad_(not in_reach)
    layer = RandomResizedCrop(64, seed=1)
    expected = layer(images, index=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(images, index=0)
    assert found.dtype == torch.float32
    assert_close(to_numpy(found), to_numpy(expected), atol=1e-4)


@pytest.mark.parametrize("inner", [RandomResizedCrop(6), PCAColorJitter(0.1), RandomGaussianNoise(0.1)])
def test_in_a_layer_whose_output_keras_infers(inner):
    """PyTorch computes shapes on a device without memory, and JAX with symbols for unknown sizes."""

    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, images):
            return self.inner(images, training=True)

    images = keras.Input((8, 8, 3))
    model = keras.Model(images, Outer()(images))
    assert model(np.ones((2, 8, 8, 3), "float32")).shape == (2, *model.output_shape[1:])
