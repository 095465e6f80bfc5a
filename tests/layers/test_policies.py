"""What holds for all policies and all of their operations."""

import numpy as np
import pytest
from layers.batches import LEAST_P, assert_same_bits, augment, augmenter
from layers.policies import NAMES, Outcomes, magnitude_of, matrix_of, photo
from scipy import stats

from keras_reg.layers import AugMix, AutoAugment, RandAugment, TrivialAugmentWide

POLICIES = {
    "RandAugment": lambda names, **k: RandAugment(2, 20, operations=names, **k),
    "AutoAugment": lambda names, **k: AutoAugment([[(name, 1.0, 7)] for name in names], **k),
    "TrivialAugmentWide": lambda names, **k: TrivialAugmentWide(operations=names, **k),
    "AugMix": lambda names, **k: AugMix(10, 2, 2, operations=names, **k),
}
TURNS = ["shear_x", "shear_y", "rotate"]
TURNING = {  # layers of one operation, the number of their magnitudes, their space, and the magnitudes that they use
    "RandAugment": (lambda: RandAugment(1, 19, operations=TURNS, seed=4), 31, "narrow", [19]),
    "TrivialAugmentWide": (lambda: TrivialAugmentWide(8, TURNS, seed=4), 8, "wide", range(8)),
}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", POLICIES)
def test_the_result_of_an_image_does_not_depend_on_its_neighbors(name, dtype):
    """Keras draws one sequence per batch, and has one histogram for the whole batch."""
    count = 90  # six images for each of the operations
    images = np.stack([photo(9, 8, seed=seed) for seed in range(count)]).astype(dtype)
    call = augmenter(POLICIES[name](NAMES, value_range=(0, 255), seed=1), index=0)
    found, order, odd = call(images), np.arange(count), np.arange(count) % 2 == 1
    order[odd] = np.roll(order[odd], 7)
    permuted = call(images[order])
    assert_same_bits(permuted[~odd], found[~odd])
    assert (permuted[odd] != found[order][odd]).any()  # the numbers belong to the place in the batch
    for value in (0, 255) if dtype == "uint8" else (-1e6, 1e6, np.nan):
        replaced = images.copy()
        replaced[odd] = value
        assert_same_bits(call(replaced)[~odd], found[~odd])
    same = call(np.repeat(images[:1], count, axis=0))
    assert_same_bits(same[0], found[0])
    assert len({image.tobytes() for image in same}) > 12


@pytest.mark.parametrize("name", POLICIES)
def test_the_rate_is_exact_and_images_that_are_not_chosen_keep_their_bits(name):
    images = np.random.default_rng(2).random((1500, 4, 3, 3), "float32")
    images[::7, 1, 1] = np.nan
    layer = POLICIES[name](["posterize"], rate=0.3, value_range=(0, 1), seed=3)
    kept = [one.tobytes() == other.tobytes() for one, other in zip(augment(layer, images), images, strict=True)]
    assert stats.binomtest(sum(kept), 1500, 0.7).pvalue > LEAST_P


@pytest.mark.parametrize("name", TURNING)
def test_boxes_and_keypoints_turn_and_shear_with_the_pixels(name):
    """A box becomes the hull of its moved corners, by the matrix that gives the pixels, and is clipped."""
    make, bins, space, levels = TURNING[name]
    size, count, seen, removed = (21, 26), 60, set(), 0
    height, width = size
    starts = np.stack(np.meshgrid([0.3, 9.7, 21.4], [0.2, 8.6, 17.1]), -1).reshape(-1, 2)
    boxes, classes = np.concatenate([starts, starts + np.array([4.2, 3.6])], axis=1), np.arange(9)
    boxes[4], classes[4] = -1, -1  # a row without a box
    points = np.stack(np.meshgrid([0.1, 12.3, 24.6], [0.7, 10.2, 19.4]), -1).reshape(-1, 2)
    image = photo(*size)
    boxes_of_all, classes_of_all, points_of_all, images = (
        np.repeat(array[None], count, axis=0) for array in (boxes, classes, points, image)
    )
    data = {
        "images": images,
        "bounding_boxes": {"boxes": boxes_of_all.astype("float32"), "classes": classes_of_all.astype("int32")},
        "keypoints": points_of_all.astype("float32"),
    }
    possible = Outcomes(image, bins, space, TURNS, levels)
    found = augment(make(), data)
    for i, result in enumerate(found["images"]):
        key, away = possible.of(result)
        operation, level, sign = key
        assert away == 0, key
        matrix, shift = matrix_of(operation, sign * magnitude_of(operation, level / (bins - 1), size, space), *size)
        hulls = hulls_of(boxes, matrix, shift)
        left = np.clip(hulls, 0, [width, height, width, height])
        gone = (left[:, 2:] <= left[:, :2]).any(1) | (classes == -1)
        expected = np.where(gone[:, None], -1, left)
        np.testing.assert_allclose(found["bounding_boxes"]["boxes"][i], expected, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(found["bounding_boxes"]["classes"][i], np.where(gone, -1, classes))
        moved = forward(points + 0.5, matrix, shift) - 0.5  # the centers of pixels are whole numbers
        outside = ((moved < -0.5) | (moved > [width - 0.5, height - 0.5])).any(1)
        expected = np.where(outside[:, None], -1, moved)
        np.testing.assert_allclose(found["keypoints"][i], expected, rtol=0, atol=1e-4)
        removed += gone.sum() - 1
        seen.add(key)
    assert len(seen) > 0.6 * len(possible.keys) and removed > 10


def forward(places, matrix, shift):
    """Where places (n, 2) go, of a matrix and a shift from places to their sources."""
    return (places - shift) @ np.linalg.inv(matrix).T


def hulls_of(boxes, matrix, shift):
    """The upright boxes (n, 4) around the places to which the corners of boxes go."""
    corners = [forward(boxes[:, pair], matrix, shift) for pair in ([0, 1], [2, 1], [2, 3], [0, 3])]
    return np.concatenate([np.min(corners, axis=0), np.max(corners, axis=0)], axis=1)


@pytest.mark.parametrize("dtype, top", [("uint8", 100), ("uint16", 4095), ("int16", 4095)])
def test_pixels_above_the_range_do_not_wrap(dtype, top):
    """As in the other operations, the result is in the range."""
    images = np.array([top // 2, top + 50, top], dtype).reshape(1, 1, 3, 1)
    layer = TrivialAugmentWide(operations=["invert"], value_range=(0, top), seed=3)
    found = augment(layer, images).ravel()
    assert abs(int(found[0]) - (top - top // 2)) <= 1 and found[1] == found[2] == 0
