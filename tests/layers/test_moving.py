"""What has a place in the images goes where a layer moves the pixels, or is refused by name."""

import keras
import numpy as np
import pytest
from harness import map_in_tf_data, raises_received, to_numpy
from layers.batches import MIXERS, MOVERS, assert_same_bits, augment, box_formats

from keras_reg.layers import (
    ColorJitter,
    CutMix,
    LabelNoise,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandomAffine,
    RandomErasing,
    RandomFlip,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomGrayscale,
    RandomPadCrop,
    RandomResizedCrop,
    RandomSharpness,
)
from keras_reg.training import RegularizedModel

COUNT, HEIGHT, WIDTH = 6, 8, 6
IMAGES = np.random.default_rng(0).random((COUNT, HEIGHT, WIDTH, 3), "float32")
STANDING = {
    "RandomErasing": lambda: RandomErasing(1.0, seed=1),
    "PCAColorJitter": lambda: PCAColorJitter(seed=1),
    "ColorJitter": lambda: ColorJitter(0.4, value_range=(0, 1), seed=1),
    "RandomGrayscale": lambda: RandomGrayscale(seed=1),
    "RandomGaussianBlur": lambda: RandomGaussianBlur(seed=1),
    "RandomGaussianNoise": lambda: RandomGaussianNoise(0.1, seed=1),
    "RandomSharpness": lambda: RandomSharpness(0.9, value_range=(0, 1), seed=1),
    "contrast by Keras": lambda: Pipeline([keras.layers.RandomContrast(0.1, seed=1)]),
}
PLACES = {
    "segmentation_mask": np.zeros((COUNT, HEIGHT, WIDTH, 1), "int32"),
    "depth": np.zeros((COUNT, HEIGHT, WIDTH), "float32"),
    "features": np.zeros((COUNT, 2, 2, 7), "float32"),
    "hand_keypoints": np.zeros((COUNT, 5, 2), "float32"),
    "landmarks": np.zeros((COUNT, 10), "float32"),
    "bounding_box": {"boxes": np.zeros((COUNT, 2, 4), "float32"), "classes": np.zeros((COUNT, 2))},
    "poses": np.zeros((COUNT, 3, 3), "float32"),
}
WITHOUT_PLACE = {
    "image_id": np.arange(COUNT),
    "camera": np.zeros((COUNT, 1), "int32"),
    "caption": np.zeros((COUNT, 12), "int32"),
    "states": np.zeros((COUNT, 5, 16), "float32"),
    "keypoint_id": np.arange(COUNT),
}


@pytest.mark.parametrize("name", MOVERS)
@pytest.mark.parametrize("key", PLACES)
def test_what_cannot_be_moved_is_refused_by_name(name, key):
    with raises_received(f"keys=['{key}']", "moves pixels"):
        MOVERS[name]()({"images": IMAGES, key: PLACES[key], "image_id": np.arange(COUNT)})


@pytest.mark.parametrize("name", MOVERS)
def test_it_is_refused_symbolically_and_of_one_image_too(name):
    with raises_received("depth"):
        MOVERS[name]()({"images": keras.Input((HEIGHT, WIDTH, 3)), "depth": keras.Input((HEIGHT, WIDTH))})
    if name in ("RandomAffine", "RandomFlip", "RandomPadCrop", "RandomResizedCrop"):
        with raises_received("depth"):
            MOVERS[name]()({"images": IMAGES[0], "depth": PLACES["depth"][0]})


@pytest.mark.parametrize("name", [*MOVERS, *STANDING])
def test_what_has_no_place_passes(name):
    found = to_numpy({**MOVERS, **STANDING}[name]()({"images": IMAGES, **WITHOUT_PLACE}))
    for key, value in WITHOUT_PLACE.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("name", STANDING)
def test_layers_that_move_nothing_let_everything_pass(name):
    found = to_numpy(STANDING[name]()({"images": IMAGES, "depth": PLACES["depth"], "landmarks": PLACES["landmarks"]}))
    np.testing.assert_array_equal(found["depth"], PLACES["depth"])


@pytest.mark.parametrize("name", MOVERS)
def test_masks_maps_and_weights_of_another_size_are_refused(name):
    small = np.zeros((COUNT, 4, 3), "float32")
    with raises_received("segmentation_masks", "(6, 4, 3)"):
        MOVERS[name]()({"images": IMAGES, "segmentation_masks": small})
    with raises_received("labels", "(6, 4, 3, 2)"):
        MOVERS[name]()(IMAGES, np.zeros((COUNT, 4, 3, 2), "float32"))
    with raises_received("sample_weights", "(6, 4, 3)"):
        MOVERS[name]()(IMAGES, np.zeros(COUNT, "int32"), small)
    height, width = IMAGES.shape[1:3]
    strided = np.zeros((COUNT, -(-height // 2), -(-width // 2)), "int32")
    with raises_received("smaller than its images", "labels="):
        MOVERS[name]()(IMAGES, strided)


@pytest.mark.parametrize("name", MOVERS)
@pytest.mark.parametrize("shape", [(COUNT, 5, 2), (COUNT, 5, 3), (COUNT, 4)], ids=str)
def test_points_within_labels_are_refused(name, shape):
    """As for a model with an output of this name: its labels would stay where they were."""
    points = np.zeros(shape, "float32")
    with raises_received("labels=['hand_keypoints', 'kind']", "moves pixels"):
        MOVERS[name]()(IMAGES, {"hand_keypoints": points, "kind": np.arange(COUNT)})
    with raises_received("labels=['box']"):
        MOVERS[name]()({"images": IMAGES, "labels": {"first": {"box": points}}})


@pytest.mark.parametrize("name", [*MOVERS, *STANDING])
def test_labels_without_positions_pass_whatever_their_names(name):
    labels = {"kind": np.arange(COUNT), "box_kind": np.zeros((COUNT, 7), "float32"), "keypoint_id": np.arange(COUNT)}
    found = to_numpy({**MOVERS, **STANDING}[name]()(IMAGES, labels)[1])
    for key, value in labels.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("name", STANDING)
def test_layers_that_move_nothing_leave_points_within_labels(name):
    points = np.arange(COUNT * 10.0).reshape(COUNT, 5, 2).astype("float32")
    found = to_numpy(STANDING[name]()(IMAGES, {"keypoints": points})[1])
    np.testing.assert_array_equal(found["keypoints"], points)


def test_erasing_refuses_masks_that_it_cannot_fill():
    data = {"images": IMAGES, "segmentation_masks": np.zeros((COUNT, 4, 3), "int32")}
    with raises_received("segmentation_masks"):
        RandomErasing(1.0, mask_fill=1)(data)
    RandomErasing(1.0)(data)
    one = {"images": IMAGES[0], "segmentation_masks": np.zeros((HEIGHT, WIDTH, 1), "int32")}
    found = to_numpy(RandomErasing(1.0, (0.25, 0.25), (1, 1), mask_fill=1)(one))
    assert found["segmentation_masks"].sum() == 9


def test_a_layer_of_keras_that_changes_the_size_and_knows_no_masks_is_refused_beside_them():
    pool = Pipeline([keras.layers.AveragePooling2D(2)])
    assert to_numpy(pool(IMAGES)).shape == (COUNT, 4, 3, 3)
    with raises_received("segmentation_masks"):
        pool({"images": IMAGES, "segmentation_masks": PLACES["segmentation_mask"]})
    with raises_received("labels"):
        pool(IMAGES, PLACES["segmentation_mask"])


def test_masks_behind_a_layer_of_keras_that_changes_the_size():
    """The layer behind it knows their new size before anything runs."""
    masks = np.round(IMAGES[..., :1] * 9).astype("int32")
    layer = Pipeline([keras.layers.RandomCrop(4, 4, seed=1), CutMix()], seed=1)
    data = {"images": masks.astype("float32"), "segmentation_masks": masks, "labels": masks[..., 0]}
    found = to_numpy(layer(data))
    np.testing.assert_array_equal(found["segmentation_masks"], found["images"].astype("int32"))
    np.testing.assert_array_equal(found["labels"], found["images"][..., 0].astype("int32"))


# Boxes as labels.

BOXES = np.tile(np.array([[1.0, 2.0, 4.0, 6.0]], "float32"), (COUNT, 1, 1))
CLASSES = np.arange(COUNT, dtype="float32")[:, None]
BOX_LAYERS = {
    "RandomAffine": lambda: RandomAffine(40, 0.3, seed=2),
    "RandomFlip": lambda: RandomFlip(seed=2),
    "RandomPadCrop": lambda: RandomPadCrop(5, seed=2),
    "RandomResizedCrop": lambda: RandomResizedCrop((5, 7), seed=2),
    "RandomErasing": lambda: RandomErasing(1.0, (0.9, 1.0), (0.1, 9.0), seed=2),
    "MixUp": lambda: MixUp(1.0, seed=2),
    "a flip by Keras": lambda: Pipeline([keras.layers.RandomFlip(seed=2, bounding_box_format="xyxy")]),
}


@pytest.mark.parametrize("key", ["classes", "labels"])
@pytest.mark.parametrize("name", BOX_LAYERS)
def test_boxes_as_labels_are_boxes(name, key):
    nest = {"boxes": BOXES, key: CLASSES}
    expected = to_numpy(BOX_LAYERS[name]()({"images": IMAGES, "bounding_boxes": nest}))
    for found in (BOX_LAYERS[name]()(IMAGES, nest), BOX_LAYERS[name]()({"images": IMAGES, "labels": nest}).values()):
        images, labels = to_numpy(tuple(found))
        assert_same_bits(images, expected["images"])
        assert set(labels) == set(nest)
        for part in labels:
            np.testing.assert_array_equal(labels[part], expected["bounding_boxes"][part])
    assert (expected["bounding_boxes"]["boxes"].shape != BOXES.shape) or (
        expected["bounding_boxes"]["boxes"] != BOXES
    ).any()


def test_boxes_as_labels_in_a_training_step_and_in_tf_data():
    nest = {"boxes": BOXES, "classes": CLASSES}
    network = keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    x, y, _ = to_numpy(RegularizedModel(network, RandomPadCrop(5, seed=2)).augment(IMAGES, nest))
    images, labels = augment(RandomPadCrop(5, seed=2), IMAGES, nest)
    assert_same_bits(x, images)
    np.testing.assert_array_equal(y["boxes"], labels["boxes"])
    ((mapped, boxes),) = map_in_tf_data(RandomPadCrop(5, seed=2), (IMAGES, nest), batch_size=COUNT)
    assert mapped.shape == IMAGES.shape and (boxes["boxes"] != BOXES).any()


@pytest.mark.parametrize("make", [lambda: RandomPadCrop(2), MixUp, lambda: RandomErasing(1.0)])
def test_boxes_that_cannot_be_recognised_are_refused(make):
    nest = {"boxes": BOXES, "classes": CLASSES}
    with raises_received("boxes"):
        make()(IMAGES, {"boxes": BOXES[:, 0], "classes": CLASSES[:, 0]})  # one box an image, without its axis
    with raises_received("inside nested labels"):
        make()(IMAGES, {"objects": nest, "scene": np.eye(COUNT, dtype="float32")})
    with raises_received("not both"):
        make()({"images": IMAGES, "labels": nest, "bounding_boxes": nest})


def test_cuts_refuse_boxes_as_labels_and_noise_does_not_take_them_for_classes():
    nest = {"boxes": BOXES, "classes": CLASSES}
    with raises_received("bounding_boxes"):
        CutMix()(IMAGES, nest)
    with raises_received("images without labels"):
        LabelNoise(0.5, 9)(IMAGES, nest)


@pytest.mark.parametrize("key", ["classes", "labels"])
def test_a_layer_of_keras_moves_boxes_under_either_name_and_keeps_padding(key):
    """A bright box in the image is the oracle; a row that holds no box stays one."""
    images = np.zeros((COUNT, HEIGHT, WIDTH, 1), "float32")
    images[:, 2:6, 1:4] = 1
    nest = {"boxes": np.concatenate([BOXES, -np.ones_like(BOXES)], axis=1), key: np.tile([[1, -1]], (COUNT, 1))}
    nest["scores"] = np.ones((COUNT, 2), "float32")
    layer = Pipeline([keras.layers.RandomFlip("horizontal", seed=2, bounding_box_format="xyxy")])
    found = to_numpy(layer({"images": images, "bounding_boxes": nest}))
    boxes = found["bounding_boxes"]
    assert set(boxes) == set(nest)
    bright = found["images"][:, 2, :, 0] == 1
    np.testing.assert_allclose(boxes["boxes"][:, 0, 0], bright.argmax(axis=1), atol=1e-5)
    assert 0 < bright[:, 1].sum() < COUNT
    np.testing.assert_array_equal(boxes[key], nest[key])
    assert (boxes["boxes"][:, 1] == -1).all()
    with raises_received("bounding_box_format"):
        Pipeline([keras.layers.RandomFlip()])({"images": images, "bounding_boxes": nest})


@pytest.mark.parametrize("layer", ["RandomCrop", "CenterCrop"])
def test_masks_of_ids_are_not_resized_smoothly_by_crops_of_keras(layer):
    masks = np.zeros((COUNT, HEIGHT, WIDTH), "int32")
    crop = Pipeline([getattr(keras.layers, layer)(HEIGHT + 2, WIDTH)])
    with raises_received("size=(10, 6)", "classes"):
        crop({"images": IMAGES, "segmentation_masks": masks})
    assert crop({"images": IMAGES})["images"].shape == (COUNT, HEIGHT + 2, WIDTH, 3)


def test_shapes_behind_layers_of_keras_in_inference():
    """`RandomCrop` crops in training alone, `CenterCrop` always, masks with them."""
    for layer, size in ((keras.layers.RandomCrop(4, 5), (8, 6)), (keras.layers.CenterCrop(4, 5), (4, 5))):
        data = {"images": IMAGES, "segmentation_masks": PLACES["segmentation_mask"]}
        pipeline = Pipeline([RandomErasing(), layer])
        found = pipeline(data, training=False)
        assert tuple(found["images"].shape[1:3]) == tuple(found["segmentation_masks"].shape[1:3]) == size
        spec = pipeline.compute_output_spec(keras.KerasTensor(IMAGES.shape), training=False)
        assert tuple(spec.shape[1:3]) == size


# Labels with an axis of positions.


@pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)
def test_labels_of_positions_are_mixed_by_the_share_that_is_kept(make):
    """(batch, positions, classes) is no map of the images: each position keeps what the image keeps."""
    labels = np.random.default_rng(1).random((COUNT, 5, 4), "float32")
    flat = augment(make(seed=3), IMAGES, labels.reshape(COUNT, 20))
    found = augment(make(seed=3), IMAGES, labels)
    assert_same_bits(found[0], flat[0])
    assert_same_bits(found[1], flat[1].reshape(COUNT, 5, 4))
    assert (found[1] != labels).any()
    assert make()(keras.Input((HEIGHT, WIDTH, 3)), keras.Input((5, 4)))[1].shape == (None, 5, 4)
    with raises_received("(6, 4, 3, 2)"):
        CutMix()(IMAGES, np.zeros((COUNT, 4, 3, 2), "float32"))  # a dense map of another size


# Boxes of integers.


def integer_boxes(count=40, height=31, width=43, seed=0):
    random = np.random.default_rng(seed)
    x, y = (np.sort(random.choice(n + 1, (count, 2)), axis=1) for n in (width, height))
    boxes = np.stack([x[:, 0], y[:, 0], np.maximum(x[:, 1], x[:, 0] + 1), np.maximum(y[:, 1], y[:, 0] + 1)], -1)
    return boxes[:, None]


CHAINS = {
    "one warp": lambda form: RandomAffine(20, zoom=0.3, bounding_box_format=form, seed=1),
    "fused": lambda form: Pipeline(
        [RandomFlip(bounding_box_format=form), RandomAffine(20, zoom=0.3, bounding_box_format=form)], seed=1
    ),
    "cropped": lambda form: RandomResizedCrop((20, 30), bounding_box_format=form, seed=1),
}


@pytest.mark.parametrize("form", ["xyxy", "yxyx", "xywh", "center_xywh"])
@pytest.mark.parametrize("name", CHAINS)
def test_integer_boxes_are_rounded_once(name, form):
    """Their edges are the nearest whole numbers to those of boxes of floats; centers are rounded themselves."""
    corners, write = integer_boxes(), box_formats(31, 43)[form]
    if form == "center_xywh":
        corners[..., 2:] = corners[..., :2] + 2 * np.maximum((corners[..., 2:] - corners[..., :2]) // 2, 1)
    given = np.stack(write(*np.moveaxis(corners, -1, 0)), -1)
    images, classes = np.zeros((len(given), 31, 43, 1), "float32"), np.zeros((len(given), 1), "int32")

    def moved(dtype):
        boxes = {"boxes": given.astype(dtype), "classes": classes}
        return augment(CHAINS[name](form), {"images": images, "bounding_boxes": boxes}, index=3)["bounding_boxes"]

    found, exact = moved("int32"), moved("float64")
    assert found["boxes"].dtype == "int32" and (found["boxes"] != given).any()
    stays = (found["classes"] == 0)[..., 0]
    assert stays.mean() > 0.6 and (exact["classes"][stays] == 0).all()
    whole, real = found["boxes"][stays], exact["boxes"][stays]
    if form == "xywh":
        whole, real = (np.concatenate([b[..., :2], b[..., :2] + b[..., 2:]], -1) for b in (whole, real))
    assert np.abs(whole - real).max() <= 0.501
    assert (np.abs(real - np.trunc(real)) > 0.6).any()  # which truncation would move by more than half a pixel
    assert (found["boxes"][~stays] == -1).all()


@pytest.mark.parametrize("form", ["xyxy", "xywh", "center_xywh"])
def test_integer_boxes_of_images_that_stay_do_not_change(form):
    first = [3, 5, 5, 7] if form.endswith(("xyxy", "yxyx")) else [5, 5, 3, 7]  # the last two are corners, or sizes
    given = np.array([[first, [0, 0, 0, 0], [-1, -1, -1, -1]]], "int64")
    boxes = {"boxes": given, "classes": np.array([[1, 2, -1]])}
    layer = RandomAffine(20, rate=0.0, bounding_box_format=form)
    found = augment(layer, {"images": np.zeros((1, 16, 16, 1), "float32"), "bounding_boxes": boxes})["bounding_boxes"]
    np.testing.assert_array_equal(found["boxes"], given)
    np.testing.assert_array_equal(found["classes"], boxes["classes"])


@pytest.mark.parametrize("make", [RandomAffine, lambda *_, **k: RandomErasing(1.0, **k), RandomFlip])
def test_integers_cannot_be_shares(make):
    boxes = {"boxes": np.ones((COUNT, 1, 4), "int32"), "classes": np.ones((COUNT, 1))}
    with raises_received("bounding_box_format='rel_xyxy'", "dtype='int32'"):
        make(bounding_box_format="rel_xyxy")({"images": IMAGES, "bounding_boxes": boxes})
