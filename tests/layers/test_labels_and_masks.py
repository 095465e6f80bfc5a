"""What belongs to a sample is mixed with it: every kind of label, weights, masks, maps, and bounding boxes."""

import functools

import keras
import numpy as np
import pytest
from harness import BACKEND, dtype_of, raises_received, to_numpy
from layers import batches
from layers.batches import assert_same_bits, augment, box_formats, boxes_of, coded, decoded, numbered

from keras_reg.layers import CutMix, MixUp, RandomChoice, RandomErasing, RandomFlip, RandomPadCrop, RandomResizedCrop

COUNT, CLASSES = 40, 5
MIXERS = {name: functools.partial(make, seed=1) for name, make in batches.MIXERS.items()}
each_mixer = pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)
IMAGES = numbered(COUNT, 8, 6)


def plan_of(make, **options):
    """(kept, given, partner) of the call that `make` makes: the seed is fixed."""
    return decoded(augment(make(**options), IMAGES, coded(COUNT))[1])


def mixed(values, kept, given, partner):
    shape = [-1] + [1] * (values.ndim - 1)
    return kept.reshape(shape) * values + given.reshape(shape) * values[partner]


@each_mixer
@pytest.mark.parametrize("shape", [(COUNT,), (COUNT, 1)])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_integer_ids_come_back_one_hot(make, shape, dtype):
    ids = (np.arange(COUNT) * 7 % CLASSES).astype(dtype)
    labels = augment(make(num_classes=CLASSES), IMAGES, ids.reshape(shape))[1]
    assert labels.dtype == "float32"
    hot = np.eye(CLASSES, dtype="float32")[ids]
    np.testing.assert_allclose(labels, mixed(hot, *plan_of(make)), atol=1e-6)


def test_ids_of_one_byte_know_more_classes_than_a_byte_holds():
    labels = to_numpy(MixUp(num_classes=1000, seed=1)(IMAGES, np.full(COUNT, 200, "uint8"))[1])
    np.testing.assert_allclose(labels[:, 200], 1, rtol=1e-6)


@each_mixer
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_float_labels_keep_their_dtype_and_are_mixed_in_float32(make, dtype):
    """Soft, multi-label and regression targets; the result is the float32 mixture rounded once."""
    values = np.random.default_rng(0).standard_normal((COUNT, 3))
    targets = keras.ops.cast(values, dtype) if dtype == "bfloat16" else values.astype(dtype)
    found = make()(IMAGES, targets)[1]
    assert dtype_of(found) == ("float32" if dtype == "float64" and BACKEND == "jax" else dtype)
    exact = mixed(to_numpy(targets).astype("float64"), *plan_of(make))
    half_ulp = {"float32": 2e-7, "float16": 5e-4, "bfloat16": 4e-3, "float64": 2e-7}[dtype]
    np.testing.assert_allclose(to_numpy(found), exact, rtol=half_ulp, atol=2e-6 if dtype == "float16" else 1e-6)


@each_mixer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_of_samples_that_are_not_mixed_stay_to_the_bit(make, dtype):
    values = np.random.default_rng(1).standard_normal((COUNT, 2)).astype(dtype)
    mixer = RandomChoice([MixUp(rate=0.0), CutMix(rate=0.0)], mode="sample") if make is MIXERS["RandomChoice"] else None
    layer = mixer or (MixUp(rate=0.0) if make is MIXERS["MixUp"] else CutMix(rate=0.0))
    found = to_numpy(layer(IMAGES, values, values[:, 0])[1:])
    if BACKEND == "jax":
        values = values.astype("float32")
    assert_same_bits(found[0], values)
    assert_same_bits(found[1], values[:, 0])


@each_mixer
def test_multi_hot_booleans_become_floats(make):
    labels = np.random.default_rng(2).random((COUNT, 4)) < 0.5
    found = augment(make(), IMAGES, labels)[1]
    np.testing.assert_allclose(found, mixed(labels.astype("float32"), *plan_of(make)), atol=1e-6)


@pytest.mark.parametrize("where", ["segmentation_masks", "labels"])
def test_boolean_maps_are_ids_where_they_are_blended(where):
    maps = np.random.default_rng(2).random((COUNT, *IMAGES.shape[1:3])) < 0.5
    layer = MixUp(1.0, num_classes=2, seed=1)
    found, expected = (
        to_numpy(layer({"images": IMAGES, where: m}, index=0))[where] for m in (maps, maps.astype("int32"))
    )
    assert_same_bits(found, expected)


@each_mixer
def test_sample_weights_mix_like_labels(make):
    weights = np.arange(COUNT, dtype="float32")
    found = augment(make(), IMAGES, coded(COUNT), weights)[2]
    np.testing.assert_allclose(found, mixed(weights, *plan_of(make)), rtol=1e-5, atol=1e-5)


@each_mixer
def test_integer_weights_become_floats(make):
    weights = np.arange(COUNT)
    found = augment(make(), IMAGES, coded(COUNT), weights)[2]
    np.testing.assert_allclose(found, mixed(weights.astype("float32"), *plan_of(make)), rtol=1e-5, atol=1e-5)


# Masks and dense maps.


def class_map(*shape):
    """Each sample's map holds one class, and no sample that of its neighbours at any distance below 5."""
    ids = np.arange(COUNT) % CLASSES
    return np.broadcast_to(ids.reshape(-1, *[1] * len(shape)), (COUNT, *shape)).astype("int32").copy()


@pytest.mark.parametrize("key", ["labels", "segmentation_masks"])
@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1)])
def test_integer_maps_are_cut_with_their_image(key, shape):
    data = {"images": IMAGES, key: class_map(*shape)}
    result = augment(MIXERS["CutMix"](), data)
    partner_of_pixel = result["images"][..., 0].astype(int) - 1
    expected = (partner_of_pixel % CLASSES).reshape(COUNT, *shape)
    np.testing.assert_array_equal(result[key], expected)
    assert result[key].dtype == "int32"


@pytest.mark.parametrize("key", ["labels", "segmentation_masks"])
@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1)])
def test_integer_maps_become_soft_under_mixup(key, shape):
    data = {"images": IMAGES, key: class_map(*shape)}
    result = augment(MIXERS["MixUp"](num_classes=CLASSES), data)
    assert result[key].shape == (COUNT, 8, 6, CLASSES) and result[key].dtype == "float32"
    hot = np.eye(CLASSES, dtype="float32")[class_map(8, 6)]
    np.testing.assert_allclose(result[key], mixed(hot, *plan_of(MIXERS["MixUp"])), atol=1e-6)


def test_void_pixels_belong_to_no_class_under_mixup():
    masks = class_map(8, 6)
    masks[:, 0] = 255
    result = augment(MIXERS["MixUp"](num_classes=CLASSES), {"images": IMAGES, "segmentation_masks": masks})
    assert not result["segmentation_masks"][:, 0].any()
    np.testing.assert_allclose(result["segmentation_masks"][:, 1:].sum(-1), 1, rtol=1e-5)


@each_mixer
def test_soft_maps_are_mixed_pixel_by_pixel(make):
    maps = np.random.default_rng(3).random((COUNT, 8, 6, 3), "float32")
    data = {"images": np.concatenate([maps, IMAGES], -1), "labels": maps, "segmentation_masks": maps}
    result = augment(make(), data)
    np.testing.assert_allclose(result["labels"], result["images"][..., :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result["segmentation_masks"], result["labels"])


def test_maps_in_channels_first_are_cut_alike():
    maps = np.random.default_rng(4).random((COUNT, 8, 6, 2), "float32")
    last = augment(CutMix(seed=2, data_format="channels_last"), {"images": IMAGES, "labels": maps})
    moved = {"images": IMAGES.transpose(0, 3, 1, 2), "labels": maps.transpose(0, 3, 1, 2)}
    first = augment(CutMix(seed=2, data_format="channels_first"), moved)
    assert_same_bits(first["labels"].transpose(0, 2, 3, 1), last["labels"])


# Bounding boxes.


def boxed(count=COUNT, box=(1.0, 2.0, 4.0, 6.0)):
    """One box an image, and one row of padding."""
    boxes = np.tile(np.array([box, (-1, -1, -1, -1)], "float32"), (count, 1, 1))
    classes = np.stack([np.arange(count, dtype="float32") % CLASSES, -np.ones(count, "float32")], axis=1)
    return {"boxes": boxes, "classes": classes}


def test_mixup_keeps_the_boxes_of_both_images():
    boxes = boxed()
    boxes["boxes"][:, 0, 0] = np.arange(COUNT) / COUNT  # a box tells whose it is
    layer = MixUp(1.0, rate=0.6, seed=1)
    data = {"images": IMAGES, "labels": coded(COUNT), "bounding_boxes": boxes}
    result = augment(layer, data)
    _, given, partner = decoded(result["labels"])
    found = result["bounding_boxes"]
    assert found["boxes"].shape == (COUNT, 4, 4) and found["classes"].shape == (COUNT, 4)
    np.testing.assert_array_equal(found["boxes"][:, 0], boxes["boxes"][:, 0])
    mixes = given > 0
    assert 0 < mixes.sum() < COUNT
    np.testing.assert_array_equal(found["boxes"][mixes, 2], boxes["boxes"][partner[mixes], 0])
    np.testing.assert_array_equal(found["classes"][mixes, 2], boxes["classes"][partner[mixes], 0])
    assert (found["classes"][~mixes, 2] == -1).all() and (found["boxes"][~mixes, 2] == -1).all()
    assert (found["classes"][:, [1, 3]] == -1).all()


FORMATS = box_formats(8, 6)


@pytest.mark.parametrize("box_format", FORMATS)
def test_boxes_follow_a_shift_and_are_clipped(box_format):
    """A bright box in the image is the oracle: where its pixels go, its box goes."""
    images = np.zeros((200, 8, 6, 1), "float32")
    images[:, 2:6, 1:4] = 1
    data = {"images": images, "bounding_boxes": boxed(200, FORMATS[box_format](1.0, 2.0, 4.0, 6.0))}
    result = augment(RandomPadCrop(5, bounding_box_format=box_format, seed=3), data)
    top, left, tall, wide = boxes_of(result["images"][..., 0] > 0)
    seen = tall > 0
    assert 0.5 < seen.mean() < 0.99
    expected = np.stack(FORMATS[box_format](*(x.astype(float) for x in (left, top, left + wide, top + tall))), axis=-1)
    found = result["bounding_boxes"]
    np.testing.assert_allclose(found["boxes"][seen, 0], expected[seen], atol=1e-5)
    np.testing.assert_array_equal(found["classes"][:, 0], np.where(seen, np.arange(200) % CLASSES, -1))
    assert (found["boxes"][~seen, 0] == -1).all() and (found["classes"][:, 1] == -1).all()


@pytest.mark.parametrize("box_format", FORMATS)
def test_boxes_of_images_that_are_not_shifted_stay_to_the_bit(box_format):
    boxes = boxed(50, (0.1, 0.7, 0.30000001, 0.9))
    images = np.zeros((50, 8, 6, 1), "float32")
    layer = RandomPadCrop(2, rate=0.0, bounding_box_format=box_format)
    found = augment(layer, {"images": images, "bounding_boxes": boxes})["bounding_boxes"]
    assert_same_bits(found["boxes"], boxes["boxes"])
    assert_same_bits(found["classes"], boxes["classes"])


@pytest.mark.parametrize("box_format", FORMATS)
def test_boxes_follow_a_flip(box_format):
    images = np.zeros((40, 8, 6, 1), "float32")
    images[:, 1:6, :2] = 1
    boxes = boxed(40, FORMATS[box_format](0.0, 1.0, 2.0, 6.0))
    layer = RandomFlip("horizontal_and_vertical", 0.5, bounding_box_format=box_format, seed=2)
    result = augment(layer, {"images": images, "bounding_boxes": boxes})
    top, left, tall, wide = boxes_of(result["images"][..., 0] > 0)
    assert set(zip(top.tolist(), left.tolist(), strict=True)) == {(1, 0), (2, 0), (1, 4), (2, 4)}
    expected = np.stack(FORMATS[box_format](*(x.astype(float) for x in (left, top, left + wide, top + tall))), axis=-1)
    found, still = result["bounding_boxes"], (top == 1) & (left == 0)
    np.testing.assert_allclose(found["boxes"][:, 0], expected, atol=1e-6 if "rel" in box_format else 0)
    assert_same_bits(found["boxes"][still], boxes["boxes"][still])
    np.testing.assert_array_equal(found["classes"], boxes["classes"])


@pytest.mark.parametrize("box_format", ["xyxy", "rel_yxyx"])
def test_boxes_follow_a_resized_crop(box_format):
    """Enlarged eight times, the bright box is found to a pixel or two of the new image."""
    images = np.zeros((100, 8, 6, 1), "float32")
    images[:, 2:6, 1:4] = 1
    size = (64, 48)
    layer = RandomResizedCrop(size, scale=(0.4, 0.9), bounding_box_format=box_format, seed=4)
    data = {"images": images, "bounding_boxes": boxed(100, FORMATS[box_format](1.0, 2.0, 4.0, 6.0))}
    result = augment(layer, data)
    found = result["bounding_boxes"]["boxes"][:, 0]
    if box_format == "rel_yxyx":
        found = found[:, [1, 0, 3, 2]] * np.array([48, 64, 48, 64])
    for first, axis in ((0, 1), (1, 2)):  # columns, rows
        bright = result["images"][..., 0].max(axis=axis) > 0.5
        assert bright.any(axis=1).all()
        ends = np.stack([bright.argmax(axis=1), bright.shape[1] - bright[:, ::-1].argmax(axis=1)], -1)
        np.testing.assert_allclose(found[:, first::2], ends, atol=1)


@pytest.mark.parametrize("box_format", FORMATS)
def test_boxes_that_are_erased_wholly_are_dropped_and_no_others(box_format):
    images = np.ones((400, 8, 6, 1), "float32")
    boxes = boxed(400, FORMATS[box_format](1.0, 2.0, 4.0, 6.0))
    layer = RandomErasing(0.9, (0.3, 0.9), bounding_box_format=box_format, seed=5)
    result = augment(layer, {"images": images, "bounding_boxes": boxes})
    gone = (result["images"][:, 2:6, 1:4] == 0).all(axis=(1, 2, 3))
    assert 0.05 < gone.mean() < 0.95
    found = result["bounding_boxes"]
    np.testing.assert_array_equal(found["classes"][:, 0], np.where(gone, -1, np.arange(400) % CLASSES))
    assert_same_bits(found["boxes"][~gone], boxes["boxes"][~gone])


# What the numbers show.


@pytest.mark.parametrize(
    ("box_format", "box"),
    [("xyxy", (10, 10, 4, 5)), ("rel_xyxy", (3, 2, 14, 9)), ("xywh", (3, 2, -1, 4))],
)
def test_boxes_of_another_format_are_refused(box_format, box):
    boxes = {"boxes": np.array([[box, [-1] * 4]], "float32"), "classes": np.array([[0, -1]], "int32")}
    data = {"images": np.zeros((1, 16, 16, 3), "float32"), "bounding_boxes": boxes}
    with raises_received("bounding_box_format", "box="):
        RandomFlip(rate=1.0, bounding_box_format=box_format)(data)
    with raises_received('"classes" of shape (batch, n)', "(1, 1)"):
        RandomFlip(bounding_box_format=box_format)(
            {**data, "bounding_boxes": {**boxes, "classes": boxes["classes"][:, :1]}}
        )
    boxes["classes"][:] = -1  # padding may hold anything
    RandomFlip(rate=1.0, bounding_box_format=box_format)(data)
