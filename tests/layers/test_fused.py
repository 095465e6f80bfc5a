"""Neighboring layers that move pixels, as one map for each image, beside the same layers one after another."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from harness import map_in_tf_data, raises_received, to_numpy
from layers.batches import assert_same_bits, augment, box_formats

from keras_reg.layers import (
    MixUp,
    Pipeline,
    RandomAffine,
    RandomErasing,
    RandomFlip,
    RandomPadCrop,
    RandomResizedCrop,
)
from keras_reg.training import RegularizedModel

COUNT = 12


def example(height=9, width=7, dtype="float32"):
    """Every part of a batch, with a pixel of NaN, a "void" class, and points beside the image."""
    rng = np.random.default_rng(0)
    images = np.round(rng.random((COUNT, height, width, 3)) * 200).astype(dtype)
    if dtype == "float32":
        images[0, 4, 4] = np.nan
    masks = rng.integers(1, 9, (COUNT, height, width)).astype("int32")
    masks[:, 3, 3:5] = 255
    corners = np.sort(rng.random((COUNT, 4, 2, 2)) * [width, height], axis=2).reshape(COUNT, 4, 4)
    return {
        "images": images,
        "labels": masks[..., None],
        "sample_weights": masks.astype("float32"),
        "segmentation_masks": masks,
        "bounding_boxes": {"boxes": corners.astype("float32"), "classes": np.tile(np.arange(4), (COUNT, 1))},
        "keypoints": (rng.random((COUNT, 5, 2)) * [width + 2, height + 2] - 1.5).astype("float32"),
    }


def both_ways(layers, data, **options):
    """The result of layers that are fused, and of those that follow one another."""
    return [augment(Pipeline(layers(), seed=3, fuse=fuse, **options), data, index=1) for fuse in (True, False)]


def turn(quarters, **options):
    return RandomAffine(rotation=(90 * quarters, 90 * quarters), rate=0.7, fill_value=7, mask_fill=3, **options)


def shift(padding, **options):
    return RandomPadCrop(padding, fill_value=7, mask_fill=3, **options)


EXACT = {
    "shifts and flips": lambda: [
        RandomFlip(), shift(3), RandomFlip("horizontal_and_vertical"), shift(4), RandomFlip("vertical"), shift((0, 2)),
        shift((5, 0), rate=0.5),
    ],
    "reflection and flips": lambda: [
        RandomFlip("horizontal_and_vertical"), RandomPadCrop(3, fill_mode="reflect"), RandomFlip("vertical"),
    ],
    "quarter turns": lambda: [
        shift(2), RandomFlip("vertical"), turn(1), shift((1, 3)), RandomFlip(), turn(2),
    ],
    "translations": lambda: [
        RandomAffine(translation=0.4, fill_value=7, mask_fill=3), RandomFlip(),
        RandomAffine(translation=0.4, fill_value=7, mask_fill=3, rate=0.6),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), list(zip(EXACT, ["int32", "float32", "uint8", "int32"], strict=True)))
def test_exact_steps_keep_their_bits(name, dtype):
    data = example(9, 9 if name == "quarter turns" else 7, dtype)
    if dtype == "int32":
        data["images"] += 2**30  # which float32 does not hold
    found, expected = both_ways(EXACT[name], data)
    assert (found["segmentation_masks"] != data["segmentation_masks"]).any()
    assert_same_bits(found["images"], expected["images"])
    for part in ("labels", "sample_weights", "segmentation_masks", "keypoints"):
        assert_same_bits(found[part], expected[part])
    for part in ("boxes", "classes"):
        assert_same_bits(found["bounding_boxes"][part], expected["bounding_boxes"][part])


def warp(**options):
    return RandomAffine(25, 0.2, 0.3, 0.2, fill_value=7, mask_fill=3, **options)


ONE_WARP = {
    "warp last": lambda: [shift(3), RandomFlip("horizontal_and_vertical"), shift(2), warp()],
    "warp between": lambda: [RandomFlip(), shift((3, 1)), warp(rate=0.6), RandomFlip("vertical"), shift(2)],
    "shifts behind a warp": lambda: [warp(), shift(5), shift(6), RandomFlip(), shift(3)],
    "shifts between": lambda: [warp(), shift(6), shift(5), turn(2)],
    "resized crop": lambda: [
        RandomFlip("horizontal_and_vertical"),
        RandomResizedCrop((24, 18)),
        RandomFlip(),
        shift(3),
    ],
    "mirrored border": lambda: [RandomFlip("vertical"), RandomAffine(40, 0.4, fill_mode="reflect"), RandomFlip()],
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_WARP)
def test_around_one_resampling_the_pixels_agree_within_rounding(name):
    data = example(20, 16)
    data["images"][0, 4, 4] = 0
    found, expected = both_ways(ONE_WARP[name], data)
    assert_allclose = np.testing.assert_allclose
    assert_allclose(found["images"], expected["images"], atol=0.02)
    for part in ("labels", "sample_weights", "segmentation_masks"):
        assert (found[part] == expected[part]).mean() > 0.998
    assert_allclose(found["keypoints"], expected["keypoints"], atol=1e-4)
    assert_allclose(found["bounding_boxes"]["boxes"], expected["bounding_boxes"]["boxes"], atol=1e-4)
    if name != "resized crop":
        assert (found["images"] != data["images"]).any((1, 2, 3)).all()


def test_several_warps_are_one_and_do_not_blur():
    """There and back, the middle is what it was, and what the first warp cut off stays away."""
    images = example(21, 15)["images"][1:]
    there, back = ({"rotation": (a, a), "zoom": (z, z), "fill_value": 7} for a, z in ((50, 1), (-50, -0.5)))
    found, expected = both_ways(lambda: [RandomAffine(**there), RandomAffine(**back)], images)
    middle = (slice(None), slice(8, 13), slice(5, 10))
    np.testing.assert_allclose(found[middle], images[middle], atol=0.02)
    assert np.abs(expected[middle] - images[middle]).mean() > 5
    assert (found[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 7).all()
    masks = np.ones((11, 21, 15), "int32")
    masks = both_ways(
        lambda: [RandomAffine(**there), RandomAffine(**back)], {"images": images, "segmentation_masks": masks}
    )
    assert (masks[0]["segmentation_masks"] == masks[1]["segmentation_masks"]).mean() > 0.95


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_each_channel_has_its_fill_in_videos_too(layout):
    """Whatever moves the pixels: slices, a gather, a warp, or a resized crop."""
    fill, videos = (1, 2, 3), np.full((4, 2, 6, 5, 3), 9, "uint8")
    given = videos if layout == "channels_last" else np.moveaxis(videos, -1, 1)
    options = {"fill_value": fill, "data_format": layout}
    flip, crop = RandomFlip(data_format=layout), RandomResizedCrop((6, 5), data_format=layout)
    for layers in (
        [RandomPadCrop(3, **options)],
        [RandomAffine(translation=(0.4, 0.4), **options), RandomPadCrop(2, **options)],
        [RandomAffine(45, interpolation="nearest", **options), RandomPadCrop(2, **options), flip],
        [RandomAffine(translation=(0.4, 0.4), **options), RandomAffine(zoom=(-0.5, -0.5), **options)],
        [crop, RandomPadCrop(3, **options)],
    ):
        found = augment(Pipeline(layers, seed=1), given, index=0)
        found = found if layout == "channels_last" else np.moveaxis(found, 1, -1)
        outside = np.abs(found - np.float32(fill)).max(-1) < 1e-3
        assert outside.any() and (~outside).any()
        if layers[0] is not crop and getattr(layers[-1], "zoom", 0) == 0:
            assert (outside | (found == 9).all(-1)).all()
    for make in (RandomPadCrop, RandomAffine):
        with raises_received("fill_value=(1, 2)"):
            make(2, fill_value=(1, 2))(np.ones((2, 6, 5, 3)))
        with raises_received("fill_value=('a', 2)"):
            make(2, fill_value=("a", 2))


def test_a_shift_and_back_leaves_its_band():
    there, back = (RandomAffine(translation=(share, share), fill_value=7) for share in (1 / 3, -1 / 3))
    images = example(9, 6)["images"]
    found = augment(Pipeline([there, back]), images)
    assert (found[:, -3:] == 7).all() and (found[:, :, -2:] == 7).all()
    assert_same_bits(found[:, :-3, :-2], images[:, :-3, :-2])


class Darkens(RandomFlip):
    """A layer that does more than its geometry says."""

    def transform_images(self, images, geometry, batch):
        return super().transform_images(images, geometry, batch) / 2


SEPARATE = {
    "other fill": lambda: [RandomPadCrop(3, fill_value=1), warp()],
    "other mask fill": lambda: [RandomPadCrop(3, fill_value=7), warp()],
    "reflection": lambda: [RandomPadCrop(3, fill_mode="reflect"), warp(), RandomPadCrop(2, fill_mode="reflect")],
    "other interpolation": lambda: [warp(interpolation="nearest"), warp()],
    "other boxes": lambda: [RandomFlip(bounding_box_format="rel_xyxy"), warp()],
    "own hooks": lambda: [Darkens(), warp()],
    "crops": lambda: [shift(2), RandomResizedCrop((16, 12)), warp(), RandomResizedCrop((16, 12))],
    "between": lambda: [RandomFlip(), RandomErasing(1.0), warp()],
}


@pytest.mark.once  # no backend decides it
@pytest.mark.parametrize("name", SEPARATE)
def test_what_would_differ_is_not_fused(name):
    images = example(16, 12)["images"][1:]
    assert_same_bits(*both_ways(SEPARATE[name], images))


def test_the_layers_behind_draw_the_same_noise():
    erase = RandomErasing(1.0, fill="pixel_noise", scale=(0.9, 1.0), ratio=(0.1, 9.0), value_range=(0, 200))
    layers = [RandomFlip(), RandomFlip("vertical"), erase]
    assert_same_bits(*both_ways(lambda: layers, example()["images"]))


def test_the_same_pictures_in_a_step_in_tf_data_and_symbolically():
    layers, images = ONE_WARP["warp between"](), example(20, 16)["images"][1:]
    pipeline = Pipeline(layers, seed=1)
    expected = augment(Pipeline(layers, seed=1), images)
    network = keras.Sequential([keras.Input((20, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    in_step = RegularizedModel(network, pipeline).augment(images, np.zeros(11, "int32"))[0]
    np.testing.assert_allclose(to_numpy(in_step), expected, atol=0.02)
    assert pipeline(keras.Input((20, 16, 3))).shape == (None, 20, 16, 3)
    mapped = np.concatenate(map_in_tf_data(Pipeline(layers, seed=1), images, batch_size=11))
    assert mapped.shape == images.shape and (mapped != images).any()


def test_a_pipeline_stores_whether_it_fuses():
    for fuse in (True, False):
        config = Pipeline([RandomFlip(), warp()], fuse=fuse).get_config()
        assert config["fuse"] is fuse and Pipeline.from_config(config).fuse is fuse
    with raises_received("fuse="):
        Pipeline([RandomFlip()], fuse="yes")


# An independent reference, in float64.


def source_of(height, width, rotation, shift, zoom, shear):
    """The 3 x 3 matrix from the pixels of the result to positions in the image, as the arguments of a layer say."""
    angle, down, right = np.radians(rotation), round(shift * height), round(shift * width)
    linear = (1 + zoom) * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = linear @ [[1, 0], [shear, 1]] @ [[1, shear], [0, 1]]
    center = np.array([width - 1, height - 1]) / 2
    there = np.eye(3)
    there[:2, :2], there[:2, 2] = linear, center - linear @ center + [right, down]
    return np.linalg.inv(there)


def test_masks_nearest_pixels_and_points_are_those_of_numpy():
    """Exactly, wherever a position is more than 1e-3 of a pixel from a tie. Points to 1e-3 of a pixel."""
    height, width, rng = 23, 17, np.random.default_rng(0)
    ranges = np.array([60, 0.2, 0.3, 0.3])
    draws = rng.uniform(-ranges, ranges, (2, 4)).tolist()
    options = {"interpolation": "nearest", "fill_value": 7, "mask_fill": 3}
    layers = [RandomAffine(*((x, x) for x in numbers), **options) for numbers in draws]
    data = example(height, width)
    data["images"][0, 4, 4] = 0
    found = augment(Pipeline([RandomFlip(rate=1.0), *layers]), data)
    first, second = (source_of(height, width, *numbers) for numbers in draws)
    pixels = np.stack(np.meshgrid(range(width), range(height)), -1).astype("float64")
    between = placed(pixels, second)  # in the result of the first warp
    before = placed(between, first)
    inside = is_inside(np.rint(between), height, width) & is_inside(np.rint(before), height, width)
    clear = (np.abs([p - np.floor(p) - 0.5 for p in (between, before)]) > 1e-3).all((0, -1))
    assert clear.mean() > 0.98 and 0.1 < inside.mean() < 0.9
    x, y = (np.clip(np.rint(before[..., i]).astype(int), 0, n - 1) for i, n in enumerate((width, height)))
    for part, fill in (("images", 7), ("segmentation_masks", 3), ("labels", 3), ("sample_weights", 0)):
        moved = data[part][:, :, ::-1][:, y, x]
        expected = np.where(inside.reshape(inside.shape + (1,) * (moved.ndim - 3)), moved, fill)
        np.testing.assert_array_equal(found[part][:, clear], expected[:, clear])
    points, flip = data["keypoints"], np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    kept = is_inside(points, height, width)
    for there in (flip, np.linalg.inv(first), np.linalg.inv(second)):
        points = placed(points, there)
        kept &= is_inside(points, height, width)
    assert 0.05 < kept.mean() < 0.95
    np.testing.assert_allclose(found["keypoints"], np.where(kept[..., None], points, -1), atol=1e-3)


FORMATS = box_formats(23, 17)


@pytest.mark.parametrize("box_format", FORMATS)
def test_boxes_are_those_of_numpy(box_format):
    """To 1e-3 of a pixel: after each map, the clipped upright hull of the moved corners, which are edges of pixels."""
    height, width, rng, write = 23, 17, np.random.default_rng(1), FORMATS[box_format]
    ranges = np.array([60, 0.3, 0.3, 0.3])
    draws = rng.uniform(-ranges, ranges, (2, 4)).tolist()
    layers = [RandomAffine(*((x, x) for x in numbers), bounding_box_format=box_format) for numbers in draws]
    corners = np.sort(rng.random((COUNT, 8, 2, 2)) * [width, height], axis=2)
    boxes = np.stack(write(*np.moveaxis(corners.reshape(COUNT, 8, 4), -1, 0)), -1).astype("float32")
    data = {"images": example(height, width)["images"], "bounding_boxes": {"boxes": boxes}}
    data["bounding_boxes"]["classes"] = np.tile(np.arange(8), (COUNT, 1))
    found = augment(Pipeline([RandomFlip(rate=1.0, bounding_box_format=box_format), *layers]), data)["bounding_boxes"]
    corners = (corners * [-1, 1] + [width, 0])[:, :, ::-1]
    left = np.ones((COUNT, 8), bool)
    for numbers in draws:
        x, y = corners[..., 0], corners[..., 1]
        four = np.stack([x[..., [0, 0, 1, 1]], y[..., [0, 1, 0, 1]]], -1)
        moved = placed(four - 0.5, np.linalg.inv(source_of(height, width, *numbers))) + 0.5
        corners = np.clip(np.stack([moved.min(2), moved.max(2)], 2), 0, [width, height])
        left &= (corners[:, :, 1] - corners[:, :, 0] > 1e-3).all(-1)
    assert 0.3 < left.mean() < 1
    np.testing.assert_array_equal(found["classes"], np.where(left, np.arange(8), -1))
    x1, y1, x2, y2 = np.moveaxis(corners.reshape(COUNT, 8, 4), -1, 0)
    expected = np.where(left[..., None], np.stack(write(x1, y1, x2, y2), -1), -1)
    limit = 1e-3 / 17 if box_format.startswith("rel_") else 1e-3
    np.testing.assert_allclose(found["boxes"], expected, atol=limit)


def placed(points, matrix):
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def is_inside(points, height, width):
    return ((points >= -0.5) & (points <= [width - 0.5, height - 0.5])).all(-1)


def test_a_mixer_after_fused_movers_in_a_thread():
    """The crop of a large image is a view with its axes in another order, into which nothing can be mixed in place."""
    images, labels = np.random.default_rng(0).random((4, 96, 96, 3), dtype="float32"), np.eye(4, dtype="float32")
    crop = RandomResizedCrop(96, scale=(1, 1), ratio=(1, 1))
    found = []
    for fuse in (True, False):
        layer = Pipeline([crop, RandomFlip(rate=1e-9), MixUp(alpha=1e6)], fuse=fuse, seed=1)
        with ThreadPoolExecutor(1) as thread:  # NumPy computes in a thread other than the main one
            found.append(thread.submit(layer, images, labels).result())
    (mixed, mixed_labels), (expected, expected_labels) = found
    assert_same_bits(np.asarray(mixed_labels), np.asarray(expected_labels))
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    np.testing.assert_allclose(mixed, np.einsum("ij,jhwc->ihwc", mixed_labels, images), atol=1e-5)
