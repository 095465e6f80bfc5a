"""What arguments of layers may be: NumPy's numbers as well as Python's, and extremes that work or are refused."""

import json
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND, map_in_tf_data, raises_received, to_numpy
from layers.batches import augment

from keras_reg import Strength
from keras_reg.layers import (
    CutMix,
    DropBlock2D,
    DropConnect,
    DropPath,
    FractionalMaxPooling2D,
    GhostBatchNormalization,
    LabelNoise,
    MixUp,
    NoisyBatchNormalization,
    PCAColorJitter,
    Pipeline,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomPadCrop,
    RandomResizedCrop,
    WeightNoise,
)

IMAGES = np.random.default_rng(0).random((4, 8, 6, 3), "float32") + 0.5
BYTES = (IMAGES * 100).astype("uint8")
IDS, HOT = np.arange(4), np.eye(4, dtype="float32")
MAPS = np.arange(4 * 8 * 6).reshape(4, 8, 6) % 4
HALF, ONE, THREE = np.float32(0.5), np.float64(1), np.int64(3)


def boxes(classes="int32", dtype="float32"):
    return {"boxes": np.ones((4, 2, 4), dtype) * np.array([1, 1, 3, 3], dtype), "classes": np.ones((4, 2), classes)}


# NumPy's numbers.

OF_NUMPY = [
    lambda: RandomErasing(HALF, np.array([0.25, 0.5]), (HALF, np.float16(2)), THREE, np.ones(3)),
    lambda: RandomErasing(fill=np.str_("channel_noise")),
    lambda: RandomErasing(count=np.array([1, 3]), value_range=np.array([0, 255], "uint8"), mask_fill=THREE),
    lambda: MixUp(HALF, ONE, THREE, seed=THREE),
    lambda: CutMix(Strength(HALF), Strength(np.array(0.25))),
    lambda: PCAColorJitter(HALF, ONE, np.ones(3, "float32"), np.eye(3), np.array([0, 1])),
    lambda: PCAColorJitter(stddevs=(HALF, HALF, HALF), eigenvectors=[np.eye(3)[i] for i in range(3)]),
    lambda: RandomPadCrop(np.array([1, 2]), HALF, fill_value=HALF, mask_fill=np.uint8(3)),
    lambda: RandomResizedCrop(np.array([4, 5]), (HALF, ONE), np.array([0.5, 2.0])),
    lambda: LabelNoise(HALF, THREE),
    lambda: Pipeline([MixUp(HALF)], seed=np.uint64(2**63)),
    lambda: RandomChoice([MixUp(), CutMix()], np.array([0.25, 0.75])),
    lambda: RandomApply(MixUp(), HALF),
    lambda: DropPath(HALF, seed=THREE),
    lambda: DropBlock2D(HALF, THREE, np.True_),
    lambda: FractionalMaxPooling2D(np.array([1.5, 1.25]), np.False_, np.True_),
    lambda: NoisyBatchNormalization(HALF, "statistics", THREE),
    lambda: GhostBatchNormalization(THREE),
    lambda: DropConnect(keras.layers.Dense(2), HALF),
    lambda: WeightNoise(keras.layers.Dense(2), HALF, seed=THREE),
]


@pytest.mark.parametrize("make", OF_NUMPY, ids=range(len(OF_NUMPY)))
def test_numbers_of_numpy_come_back_from_json_as_the_same_numbers(make):
    layer = make()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    assert json.dumps(again.get_config()) == json.dumps(layer.get_config())


def test_arrays_come_back_from_a_file_value_by_value(tmp_path):
    vectors = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    model = keras.Sequential([keras.Input((8, 6, 3)), PCAColorJitter(1.0, 1.0, np.arange(3.0), vectors, seed=0)])
    model.save(tmp_path / "model.keras")
    (layer,) = keras.saving.load_model(tmp_path / "model.keras").layers
    np.testing.assert_array_equal(layer.eigenvectors, vectors)
    assert layer.stddevs == [0.0, 1.0, 2.0]


def test_a_list_that_its_owner_changes_later_is_not_the_layers():
    scale, weights = [0.25, 0.5], [1.0, 0.0]
    erasing, choice = RandomErasing(scale=scale), RandomChoice([MixUp(), CutMix()], weights)
    scale[0], weights[1] = 7.0, -1.0
    assert erasing.get_config()["scale"] == [0.25, 0.5] and choice.get_config()["probabilities"] == [1.0, 0.0]


# Numbers that a dtype cannot hold.


def erasing(**arguments):
    return RandomErasing(1.0, (0.5, 0.5), seed=0, **arguments)


def masked(dtype):
    return {"images": IMAGES, "segmentation_masks": MAPS.astype(dtype)}


NOT_HELD = {
    "noise above": (lambda: erasing(fill="pixel_noise", value_range=(300, 310)), BYTES, "value_range"),
    "noise below": (lambda: erasing(fill="channel_noise", value_range=(-5, 255)), BYTES, "value_range"),
    "noise between": (lambda: erasing(fill="channel_noise", value_range=(0.25, 0.75)), BYTES, "value_range"),
    "noise in bools": (lambda: erasing(fill="channel_noise", value_range=(0, 2)), BYTES > 9, "value_range"),
    "noise in many bits": (
        lambda: erasing(fill="channel_noise", value_range=(0, 2**31 - 1)), BYTES.astype("int32"), "value_range",
    ),
    "noise in float16": (
        lambda: erasing(fill="channel_noise", value_range=(0, 1e6), dtype="float16"), IMAGES, "value_range",
    ),
    "noise over all floats": (
        lambda: erasing(fill="pixel_noise", value_range=(-3e38, 3e38)), IMAGES, "value_range",
    ),
    "fill in float16": (lambda: erasing(fill=1e6, dtype="float16"), IMAGES, "fill"),
    "fill of a channel": (lambda: erasing(fill=(0, 0, -1e6), dtype="mixed_float16"), IMAGES, "fill"),
    "fill in float32": (lambda: erasing(fill=1e300), IMAGES, "fill"),
    "fill in bools": (lambda: erasing(fill=0.5), BYTES > 9, "fill"),
    "border in float16": (lambda: RandomPadCrop(2, fill_value=-1e5, dtype="float16"), IMAGES, "fill_value"),
    "border below": (lambda: RandomPadCrop(2, fill_value=-1), BYTES, "fill_value"),
    "masks above": (lambda: erasing(mask_fill=300), masked("uint8"), "mask_fill"),
    "masks between": (lambda: erasing(mask_fill=0.5), masked("int32"), "mask_fill"),
    "masks of bools": (lambda: RandomPadCrop(2, mask_fill=255), masked("bool"), "mask_fill"),
    "masks in float16": (lambda: erasing(mask_fill=1e6), masked("float16"), "mask_fill"),
    "border of masks": (lambda: RandomPadCrop(2, mask_fill=-1), masked("uint8"), "mask_fill"),
    "border of label maps": (
        lambda: RandomPadCrop(2, mask_fill=128), (IMAGES, MAPS.astype("int8")), "mask_fill",
    ),
    "clipping in float16": (lambda: PCAColorJitter(value_range=(0, 1e6), dtype="float16"), IMAGES, "value_range"),
    "more classes than bytes": (lambda: LabelNoise(0.5, 300), (IMAGES, IDS.astype("uint8")), "num_classes"),
    "more classes than signed bytes": (lambda: LabelNoise(0.5, 129), (IMAGES, IDS.astype("int8")), "num_classes"),
    "more classes than bools": (lambda: LabelNoise(0.5, 3), (IMAGES, IDS > 1), "num_classes"),
    "classes of boxes": (
        lambda: RandomPadCrop(2), {"images": IMAGES, "bounding_boxes": boxes("uint8")}, "can hold -1",
    ),
    "corners of boxes": (
        lambda: MixUp(), {"images": IMAGES, "bounding_boxes": boxes(dtype="uint8")}, "can hold -1",
    ),
}  # fmt: skip


def symbolic(data):
    return keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), data)


@pytest.mark.parametrize("row", NOT_HELD)
def test_a_number_that_the_dtype_cannot_hold_is_refused(row):
    make, data, name = NOT_HELD[row]
    layer = make()
    for given in (data, symbolic(data)):
        with raises_received(name) as caught:
            layer(given)
        assert str(caught.value).startswith("Expected")
    wrapped = Pipeline([make()], dtype=layer.dtype_policy)
    with raises_received(name):
        wrapped(data)


def test_a_number_that_the_dtype_cannot_hold_is_refused_while_a_map_is_traced():
    with raises_received("value_range"):
        map_in_tf_data(NOT_HELD["noise above"][0](), BYTES, 4)


def test_the_largest_numbers_that_dtypes_hold_are_exact():
    most = 2**31 - 1
    images, masks = np.zeros((4, 8, 6, 3), "int32"), np.zeros((4, 8, 6), "int32")
    for fill in (most, float(most), (most, float(most), most)):
        assert set(np.unique(augment(erasing(fill=fill), images))) == {0, most}
    done = augment(erasing(mask_fill=float(most)), {"images": IMAGES, "segmentation_masks": masks})
    assert set(np.unique(done["segmentation_masks"])) == {0, most}
    padded = augment(RandomPadCrop(4, fill_value=float(most), seed=0), images)
    assert set(np.unique(padded)) == {0, most}
    noisy = augment(erasing(fill="channel_noise", value_range=(253.5, 255.5)), BYTES * 0)
    assert set(np.unique(noisy)) == {0, 254, 255}


def test_in_front_of_a_layer_that_blends_bytes_are_floats():
    """So they hold a half there, and not on their own."""
    done = to_numpy(Pipeline([erasing(fill=0.5), MixUp(rate=0.0)])(BYTES))
    assert done.dtype == "float32" and (done == 0.5).any()


# Extremes.


@pytest.mark.parametrize("alpha", [5e-324, 1e-308, 1e-45, 1e-20])
@pytest.mark.parametrize("wrap", [float, Strength])
def test_a_tiny_alpha_keeps_one_image_whole(alpha, wrap):
    """Beta(alpha, alpha) goes to a coin between 0 and 1."""
    images, labels = augment(MixUp(wrap(alpha), seed=0), np.tile(IMAGES, (8, 1, 1, 1)), np.tile(HOT, (8, 1)))
    assert np.isfinite(images).all() and set(np.unique(labels)) == {0, 1}
    assert 8 <= (labels == np.tile(HOT, (8, 1))).all(1).sum() <= 24


@pytest.mark.parametrize("alpha", [1e14, 1e30])
@pytest.mark.parametrize("wrap", [float, Strength])
def test_a_huge_alpha_blends_by_halves(alpha, wrap):
    labels = augment(MixUp(wrap(alpha), seed=0), IMAGES, HOT)[1]
    np.testing.assert_allclose(np.sort(labels, axis=1)[:, 2:], 0.5, atol=1e-5)


def test_weights_of_a_choice_count_by_their_ratio_alone():
    for weights in ([1e308, 1e308], [5e-324, 5e-324], [10**300, 10**300]):
        choice = RandomChoice([MixUp(10.0), CutMix()], weights, seed=0)
        cut = [np.isin(to_numpy(choice(IMAGES, index=i)), IMAGES).all() for i in range(24)]
        assert 4 <= sum(cut) <= 20


@pytest.mark.parametrize("ratio", [(1e-300, 1e300), (1e-320, 1e-310), (1e300, 1e301)])
@pytest.mark.parametrize("scale", [(1e-300, 1e-300), (5e-324, 1.0), (0.25, 0.25)])
def test_extreme_boxes_have_a_pixel_and_extreme_crops_lie_inside(ratio, scale):
    crop = RandomResizedCrop(4, scale, ratio, seed=0)
    done = to_numpy(crop({"images": IMAGES, "bounding_boxes": boxes()}))
    assert IMAGES.min() - 1e-5 <= done["images"].min() and done["images"].max() <= IMAGES.max() + 1e-5
    assert np.isfinite(done["bounding_boxes"]["boxes"]).all()
    if scale[0] > 0.1 and ratio != (1e-300, 1e300):
        with raises_received("ratio="):
            RandomErasing(1.0, scale, ratio)(IMAGES)
        return
    erased = (to_numpy(RandomErasing(1.0, scale, ratio, fill=-1)(IMAGES)) == -1).all(-1).sum((1, 2))
    assert (erased >= 1).all() and (erased <= 48).all()


REFUSED = {
    "alpha": lambda: MixUp(1e31),
    "stddev": lambda: PCAColorJitter(1e300),
    "stddevs": lambda: PCAColorJitter(1.0, 1.0, [1e300] * 3, np.eye(3)),
    "size": lambda: RandomResizedCrop(10**9),
    "padding": lambda: RandomPadCrop((1, 2**31)),
    "count": lambda: RandomErasing(count=10**6),
    "num_classes": lambda: LabelNoise(0.5, 2**40),
    "probabilities": lambda: RandomChoice([MixUp(), CutMix()], [1, 10**400]),
    "seed": lambda: MixUp(seed=-1),
    "rate": lambda: DropPath(10**400),
    "virtual_batch_size": lambda: GhostBatchNormalization(10**12),
    "pseudo_random": lambda: FractionalMaxPooling2D(1.5, pseudo_random=1),
    "per_channel": lambda: DropBlock2D(0.5, per_channel="no"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_work_is_refused(name):
    with raises_received(f"{name}="):
        REFUSED[name]()


@pytest.mark.parametrize("seed", [2**63, 2**64, 2**128, 10**400], ids=["63", "64", "128", "huge"])
def test_a_seed_may_be_any_integer_and_comes_back(seed):
    layer = RandomErasing(1.0, seed=seed)
    again = RandomErasing.from_config(json.loads(json.dumps(layer.get_config())))
    np.testing.assert_array_equal(to_numpy(layer(IMAGES)), to_numpy(again(IMAGES)))
    assert np.any(
        to_numpy(RandomErasing(1.0, seed=seed - 1)(IMAGES)) != to_numpy(RandomErasing(1.0, seed=seed)(IMAGES))
    )


# The arguments of a call.


def test_an_index_may_be_any_integer_and_none_is_another():
    layer = erasing(fill="channel_noise")
    indices = [5, 2**31 + 5, 2**32 + 5, 2**39 + 5, 2**64 + 5, 2**70 + 5]
    drawn = [to_numpy(layer(IMAGES, index=i)).tobytes() for i in indices]
    assert len(set(drawn)) == len(indices)
    for same in (np.int64(5), np.array(5, "uint8"), keras.ops.convert_to_tensor(5)):
        assert to_numpy(layer(IMAGES, index=same)).tobytes() == drawn[0]


def test_an_index_in_a_tf_data_map_is_the_same_index():
    import tensorflow as tf

    layer = erasing(fill="channel_noise")
    indices = np.array([5, 2**31 + 5, 2**39 + 5, 2**45 + 5])
    batches = tf.data.Dataset.from_tensor_slices((indices, np.stack([IMAGES] * len(indices))))
    images = batches.map(lambda i, x: layer(x, index=i))
    found = [to_numpy(x) for x in images]
    assert len({x.tobytes() for x in found}) == len(indices)
    if BACKEND == "tensorflow":
        for index, x in zip(indices, found, strict=True):
            np.testing.assert_array_equal(to_numpy(layer(IMAGES, index=int(index))), x)


@pytest.mark.parametrize("index", [0.9, -1, True, "a", [1], np.array([1, 2]), np.float32(1), np.int64(-3)], ids=repr)
def test_what_is_no_index_is_refused(index):
    with raises_received("index="):
        RandomErasing()(IMAGES, index=index)
    with raises_received("index="):
        RandomErasing()(keras.Input((8, 6, 3)), index=index)


def test_tensors_that_are_no_index_are_refused():
    for value in (0.5, -1, [1, 2]):
        with raises_received("index="):
            RandomErasing()(IMAGES, index=keras.ops.convert_to_tensor(value))
    with raises_received("index="):
        RandomErasing()(keras.Input((8, 6, 3)), index=keras.Input((), dtype="float32"))


def test_training_is_a_flag():
    layer = RandomErasing(1.0, fill=-1)
    for off in (False, np.False_):
        np.testing.assert_array_equal(to_numpy(layer(IMAGES, training=off)), IMAGES)
    assert (to_numpy(layer(IMAGES, training=np.True_)) == -1).any()
    for value in ("no", 0, 1.0, [False]):
        with raises_received("training="):
            layer(IMAGES, training=value)


# Layers of layers.


def test_one_layer_is_a_list_of_one():
    for make in (Pipeline, RandomChoice):
        layer = make(MixUp(seed=0))
        assert type(layer.layers[0]) is MixUp and len(layer.layers) == 1
        np.testing.assert_array_equal(to_numpy(layer(IMAGES)), to_numpy(make([MixUp(seed=0)])(IMAGES)))


NO_LAYERS = [None, "MixUp", MixUp, [MixUp], [], {}, {"a": 1}, [None], [[MixUp()]], 3]


@pytest.mark.parametrize("layers", NO_LAYERS, ids=range(len(NO_LAYERS)))
def test_what_is_no_list_of_layers_is_refused(layers):
    for make in (Pipeline, RandomChoice):
        with raises_received("layers="):
            make(layers)
    with raises_received("layer="):
        RandomApply(layers)


NO_CONFIGS = [{}, {"layers": 3}, {"layers": [3]}, {"layers": None}, {"layers": [{"class_name": "MixUp"}]}, 3, None, []]


@pytest.mark.parametrize("config", NO_CONFIGS, ids=range(len(NO_CONFIGS)))
def test_what_is_no_config_is_refused(config):
    for make in (Pipeline, RandomChoice):
        with raises_received():
            make.from_config(config)
    with raises_received():
        RandomApply.from_config({"layer": config})
    if not isinstance(config, dict):
        with raises_received("config="):
            MixUp.from_config(config)


def test_a_config_of_a_strength_without_a_value_is_refused():
    for config in ({}, None, {"value": "a"}, {"value": 1, "more": 2}):
        with raises_received():
            MixUp.from_config({"alpha": {"class_name": "Strength", "config": config}})


def test_layers_may_stand_in_a_config_as_they_are():
    layer = Pipeline.from_config({"layers": [MixUp(0.5)], "seed": 3})
    assert layer.layers[0].alpha == 0.5 and layer.seed == 3


def test_integers_that_python_does_not_print_are_refused_in_words():
    if not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("Python prints any")
    with raises_received("that cannot be printed"):
        RandomErasing(10**5000)


def test_a_number_may_be_set_in_place_of_a_strength():
    for layer in (CutMix(rate=Strength(1.0), seed=1), DropPath(Strength(0.5), seed=1)):
        images = np.random.default_rng(0).random((4, 8, 8, 3)).astype("float32")
        assert not np.array_equal(to_numpy(layer(images, training=True)), images)
        layer.rate = 0.0
        np.testing.assert_array_equal(to_numpy(layer(images, training=True)), images)


def test_arguments_that_are_changed_later():
    """The layer follows its attributes, which are in its config."""
    erasing = RandomErasing(rate=Strength(0.0), seed=1)
    erasing.rate = Strength(1.0)
    assert augment(erasing, np.ones((64, 8, 8, 1), "float32")).min() == 0
    pooling = FractionalMaxPooling2D(1.5)
    pooling.pool_ratio = 2.0
    assert pooling(np.ones((1, 32, 32, 1), "float32")).shape == pooling.compute_output_shape((1, 32, 32, 1))
    assert pooling.compute_output_shape((1, 32, 32, 1)) == (1, 16, 16, 1)
    images = np.ones((2, 16, 16, 3), "float32")
    dropping, expected = DropBlock2D(0.3, 7, seed=1), DropBlock2D(0.3, 1, seed=1)
    dropping.block_size = 1
    np.testing.assert_array_equal(*(to_numpy(layer(images, training=True)) for layer in (dropping, expected)))
