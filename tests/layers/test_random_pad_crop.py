import numpy as np
import pytest
from harness import import_torchvision, only, raises_received
from hypothesis import given
from hypothesis import strategies as st
from layers.batches import LEAST_P, assert_same_bits, augment, properties
from scipy import stats

from keras_reg.layers import RandomPadCrop


def addressed(count, height, width, dtype="float32"):
    """Images whose pixels hold their own address, counted from 1, so that 0 is padding."""
    one = np.arange(1, height * width + 1).reshape(1, height, width, 1)
    return np.repeat(one, count, axis=0).astype(dtype)


def offsets_of(images, width):
    """(down, across), each (count,): how far the crop lies from the image, read off one pixel that is inside."""
    height = images.shape[1]
    row, column = height // 2, width // 2
    source = images[:, row, column, 0].astype(int) - 1
    return source // width - row, source % width - column


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_it_is_a_crop_of_what_numpy_pads(mode, dtype):
    images = addressed(60, 12, 9, dtype)
    result = augment(RandomPadCrop((3, 2), fill_mode=mode, seed=1), images)
    assert result.dtype == dtype
    options = {"constant_values": 0} if mode == "constant" else {}
    padded = np.pad(images, ((0, 0), (3, 3), (2, 2), (0, 0)), mode, **options)
    for image, found, down, across in zip(padded, result, *offsets_of(result, 9), strict=True):
        assert_same_bits(found, image[3 + down : 15 + down, 2 + across : 11 + across])


def test_both_offsets_are_uniform_and_independent():
    """Chi-square over all 7 x 5 pairs."""
    result = augment(RandomPadCrop((3, 2), seed=2), addressed(7000, 8, 6, "uint8"))
    down, across = offsets_of(result, 6)
    counts = np.bincount((down + 3) * 5 + across + 2, minlength=35)
    assert len(counts) == 35
    assert stats.chisquare(counts).pvalue > LEAST_P


def test_rate_is_the_probability_of_each_image_and_the_others_stay():
    images = addressed(6000, 5, 4)
    result = augment(RandomPadCrop(1, rate=0.4, seed=3), images)
    moved = (result != images).any(axis=(1, 2, 3))
    # One of nine pairs of offsets is (0, 0).
    assert stats.binomtest(int(moved.sum()), 6000, 0.4 * 8 / 9).pvalue > LEAST_P
    assert_same_bits(result[~moved], images[~moved])


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_masks_and_label_maps_move_along(shape):
    images = addressed(30, 8, 6)
    maps = np.broadcast_to(images.reshape(30, 8, 6, *[1] * len(shape)), (30, 8, 6, *shape)).astype("int32")
    layer = RandomPadCrop(3, fill_value=0, mask_fill=-7, seed=4)
    result = augment(layer, {"images": images, "labels": maps.copy(), "segmentation_masks": maps.copy()})
    expected = np.where(result["images"] == 0, -7, result["images"]).astype("int32")
    expected = np.broadcast_to(expected.reshape(30, 8, 6, *[1] * len(shape)), maps.shape)
    np.testing.assert_array_equal(result["labels"], expected)
    np.testing.assert_array_equal(result["segmentation_masks"], expected)
    assert result["labels"].dtype == "int32"


def test_class_labels_stay():
    images, labels = addressed(6, 8, 6), np.eye(6, dtype="float32")
    np.testing.assert_array_equal(augment(RandomPadCrop(2, seed=5), images, labels)[1], labels)


@properties
@given(
    size=st.sampled_from([(1, 1), (1, 7), (6, 2), (9, 9)]),
    padding=st.sampled_from([0, 1, 5, (0, 3), (4, 0), (12, 15)]),
    seed=st.integers(0, 2**31),
)
def test_every_pixel_is_one_of_the_image_or_padding(size, padding, seed):
    images = addressed(6, *size, "int32")
    result = augment(RandomPadCrop(padding, fill_value=-1, seed=seed), images)
    flat = result.reshape(6, -1)
    for image in flat:
        inside = image[image > 0]
        assert len(np.unique(inside)) == len(inside)  # no pixel twice
    assert ((flat == -1) | ((flat >= 1) & (flat <= size[0] * size[1]))).all()
    if padding == 0:
        assert_same_bits(result, images)


@only("torch")
def test_torchvision_pads_and_crops_the_same():
    import torch

    functional = import_torchvision().transforms.v2.functional
    images = addressed(40, 10, 7)
    result = augment(RandomPadCrop(3, fill_mode="reflect", seed=6), images)
    for image, found, down, across in zip(images, result, *offsets_of(result, 7), strict=True):
        padded = functional.pad(torch.from_numpy(image).permute(2, 0, 1), [3, 3], padding_mode="reflect")
        expected = functional.crop(padded, int(down) + 3, int(across) + 3, 10, 7)
        assert_same_bits(found, expected.permute(1, 2, 0).numpy())


def test_reflection_needs_an_image_larger_than_the_padding():
    with raises_received("padding"):
        RandomPadCrop(4, fill_mode="reflect")(np.ones((2, 4, 8, 3), "float32"))


@pytest.mark.parametrize("value", [0.5, 300, -1])
def test_whole_numbers_refuse_a_fill_that_they_cannot_hold(value):
    with raises_received("fill_value"):
        RandomPadCrop(1, fill_value=value)(np.ones((2, 4, 4, 3), "uint8"))
