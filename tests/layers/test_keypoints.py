"""Points that follow their images: (x, y), with the centers of pixels at whole numbers."""

import keras
import numpy as np
import pytest
from harness import map_in_tf_data, raises_received, to_numpy
from layers.batches import MIXERS, assert_same_bits, augment

from keras_reg.layers import (
    BatchAugmentation,
    LabelNoise,
    Pipeline,
    RandomAffine,
    RandomApply,
    RandomErasing,
    RandomFlip,
    RandomPadCrop,
    RandomResizedCrop,
)

HEIGHT, WIDTH = 30, 40


def marked(count, points):
    """Images with a number on each of the points (x, y)."""
    images = np.zeros((count, HEIGHT, WIDTH, 1), "float32")
    for number, (x, y) in enumerate(points, 1):
        images[:, y, x] = number
    return images


def keypoints(count, points, dtype="float32"):
    return np.tile(np.array(points, dtype), (count, 1, 1))


EXACT = {
    "flips": lambda: RandomFlip("horizontal_and_vertical", seed=1),
    "shifts": lambda: RandomPadCrop(14, seed=1),
    "translations": lambda: RandomAffine(translation=0.4, seed=1),
    "half turns": lambda: RandomAffine(rotation=(180, 180), rate=0.5, seed=1),
    "a pipeline": lambda: Pipeline([RandomFlip(), RandomPadCrop(9), RandomFlip("vertical")], seed=1),
    "some": lambda: RandomApply(RandomPadCrop(14), 0.5, seed=1),
}


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("name", EXACT)
def test_exact_moves_keep_a_point_on_its_pixel(name, dtype):
    count, points = 30, [(3, 2), (20, 11), (39, 29), (0, 17)]
    data = {"images": marked(count, points), "keypoints": keypoints(count, [*points, (-1, -1)], dtype)}
    found = augment(EXACT[name](), data, index=0)
    expected = np.full((count, 5, 2), -1, dtype)
    for image, row in zip(found["images"][..., 0], expected, strict=True):
        for y, x in np.argwhere(image):
            row[int(image[y, x]) - 1] = x, y
    np.testing.assert_array_equal(found["keypoints"], expected)
    assert found["keypoints"].dtype == dtype
    assert (expected[:, :4] == -1).any() == (name not in ("flips", "half turns"))


def test_a_resized_crop_moves_a_point_to_the_pixels_that_show_it():
    """Images whose pixels are their own positions, read between pixels where the points have gone."""
    count, rng = 20, np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    images = np.tile(np.stack([columns, rows], -1).astype("float32"), (count, 1, 1, 1))
    points = (rng.random((count, 8, 2)) * [WIDTH - 1, HEIGHT - 1]).astype("float32")
    layer = RandomResizedCrop((60, 80), (0.3, 0.8), seed=2)
    found = augment(layer, {"images": images, "keypoints": points}, index=0)
    seen = 0
    for image, old, new in zip(found["images"], points, found["keypoints"], strict=True):
        for (x, y), before in zip(new, old, strict=True):
            if not (4 < x < 75 and 4 < y < 55):
                continue  # near its border, an enlarged crop repeats pixels
            (left, top), (across, down) = (int(x), int(y)), (x % 1, y % 1)
            above, below = (image[r, left] * (1 - across) + image[r, left + 1] * across for r in (top, top + 1))
            np.testing.assert_allclose(above * (1 - down) + below * down, before, atol=0.01)
            seen += 1
    gone = (found["keypoints"] == -1).all(-1)
    assert seen > 30 and gone.any() and not (found["keypoints"][~gone] < -0.5).any()
    resized = to_numpy(layer({"images": images, "keypoints": points}, training=False))["keypoints"]
    np.testing.assert_allclose(resized, points * 2 + 0.5, atol=1e-4)


def test_the_edges_of_the_picture_and_points_that_are_absent():
    """A point on the outer edge of a pixel is in the picture. One beside it is absent once the image moves."""
    images, points = np.zeros((1, 4, 6, 1), "float32"), [(-0.5, 3.5), (-0.6, 1), (5.5, -0.5), (2, 3.6), (-1, -1)]
    layer = RandomFlip(rate=1.0)
    found = augment(layer, {"images": images, "keypoints": keypoints(1, points)})["keypoints"]
    assert found.tolist() == [[[5.5, 3.5], [-1, -1], [-0.5, -0.5], [-1, -1], [-1, -1]]]
    still = RandomPadCrop(0)
    assert_same_bits(augment(still, {"images": images, "keypoints": found - 3})["keypoints"], found - 3)


def test_one_image_videos_and_further_axes():
    images, points = marked(2, [(3, 2), (20, 11)]), keypoints(2, [(3, 2), (20, 11)])
    expected, layer = points * np.float32([-1, 1]) + np.float32([WIDTH - 1, 0]), RandomFlip(rate=1.0)
    assert_same_bits(augment(layer, {"images": images[0], "keypoints": points[0]})["keypoints"], expected[0])
    videos, both = np.stack([images] * 3, 1), np.stack([points] * 3, 1)
    found = augment(layer, {"images": videos, "keypoints": both})["keypoints"]
    assert_same_bits(found, np.stack([expected] * 3, 1))
    (mapped,) = map_in_tf_data(Pipeline([layer, layer]), {"images": images, "keypoints": points}, batch_size=2)
    assert_same_bits(mapped["keypoints"], points)
    inputs = {"images": keras.Input((HEIGHT, WIDTH, 1)), "keypoints": keras.Input((5, 2))}
    assert layer(inputs)["keypoints"].shape == (None, 5, 2)


@pytest.mark.parametrize(
    "make",
    [lambda: RandomErasing(1.0), lambda: LabelNoise(1.0, 4), lambda: Pipeline([keras.layers.RandomBrightness(0.1)])],
)
def test_layers_that_move_nothing_leave_them(make):
    points = keypoints(4, [(3, 2), (-7, 50)])
    data = {"images": marked(4, [(3, 2)]), "labels": np.arange(4, dtype="int32"), "keypoints": points}
    assert_same_bits(augment(make(), data)["keypoints"], points)


@pytest.mark.parametrize("shape", [(4, 2), (4, 5, 3)])
def test_bad_keypoints_are_refused(shape):
    with raises_received("keypoints", str(shape)):
        RandomFlip()({"images": marked(4, []), "keypoints": np.ones(shape, "float32")})
    with raises_received("keypoints", "uint8"):
        RandomFlip()({"images": marked(4, []), "keypoints": np.ones((4, 5, 2), "uint8")})
    with raises_received("keypoints", "signal"):
        RandomFlip(kind="signal")({"images": np.ones((4, 9, 2)), "keypoints": np.ones((4, 5, 2), "float32")})
    with raises_received("keypoints", "(3, 5, 2)"):
        RandomFlip()({"images": marked(4, []), "keypoints": np.ones((3, 5, 2), "float32")})


@pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)
def test_mixers_refuse_them(make):
    data = {"images": marked(4, []), "labels": np.eye(4, dtype="float32"), "keypoints": np.ones((4, 5, 2), "float32")}
    with raises_received("keypoints", "(4, 5, 2)"):
        make()(data)


class Mirrors(BatchAugmentation):
    """A layer of one's own that moves points."""

    def transform_images(self, images, transformation, batch):
        return batch.ops.flip(images, self.spatial_axes(images)[1])

    def transform_keypoints(self, keypoints, transformation, batch):
        width = batch.images.shape[self.spatial_axes(batch.images)[1]]
        return batch.ops.stack([width - 1 - keypoints[..., 0], keypoints[..., 1]], axis=-1)


def test_a_layer_of_ones_own_moves_points_with_its_hook():
    data = {"images": marked(40, [(3, 2)]), "keypoints": keypoints(40, [(3, 2)])}
    found = augment(Mirrors(rate=0.5, seed=1), data)
    places = [np.unravel_index(image.argmax(), image.shape) for image in found["images"]]
    expected = np.array([[(x, y)] for y, x, _ in places], "float32")
    assert_same_bits(found["keypoints"], expected)
    assert set(expected[:, 0, 0]) == {3, WIDTH - 4}
