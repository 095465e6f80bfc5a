"""Every way to hand over a batch does the same to it."""

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from harness import BACKEND, map_in_tf_data, raises_received, to_numpy
from layers.batches import assert_same_bits, coded

from keras_reg.layers import CutMix, MixUp, Pipeline, RandomApply, RandomChoice, RandomErasing, RandomPadCrop

LAYERS = {
    "RandomErasing": lambda: RandomErasing(1.0, seed=1),
    "CutMix": lambda: CutMix(seed=1),
    "RandomChoice": lambda: RandomChoice([MixUp(), CutMix()], mode="sample", seed=1),
    "Pipeline": lambda: Pipeline([RandomPadCrop(1), RandomApply(RandomErasing(1.0), 0.5), MixUp()], seed=1),
}
IMAGES = np.random.default_rng(0).random((6, 8, 6, 3), "float32")
LABELS, WEIGHTS = coded(6), np.linspace(0.5, 1.5, 6, dtype="float32")

each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def equal(found, expected):
    found, expected = to_numpy(found), to_numpy(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@each_layer
def test_all_forms_agree(make):
    parts = make()(IMAGES, LABELS, WEIGHTS)
    assert isinstance(parts, tuple)
    tripled = make()((IMAGES, LABELS, WEIGHTS))
    listed = make()([IMAGES, LABELS, WEIGHTS])
    assert isinstance(tripled, tuple) and isinstance(listed, list)
    named = make()({"images": IMAGES, "labels": LABELS, "sample_weights": WEIGHTS})
    assert isinstance(named, dict)
    for found in (tripled, listed, list(named.values())):
        equal(found, parts)
    equal(make()(IMAGES, LABELS), parts[:2])
    equal(make()((IMAGES, LABELS)), parts[:2])
    equal([make()(IMAGES)], parts[:1])
    equal(make()((IMAGES,)), parts[:1])
    equal(make()(data=IMAGES, labels=LABELS, sample_weight=WEIGHTS), parts)


@each_layer
def test_none_stays_none_and_nests_stay_nests(make):
    _, labels, weights = make()((IMAGES, {"a": LABELS, "b": (LABELS, LABELS)}, None))
    assert weights is None and set(labels) == {"a", "b"} and isinstance(labels["b"], tuple)
    equal(labels["b"], (labels["a"], labels["a"]))


def test_a_namedtuple_comes_back_as_one():
    batch = namedtuple("Batch", ["x", "y"])
    found = RandomErasing(1.0, seed=1)(batch(IMAGES, LABELS))
    assert type(found) is batch
    equal(found, RandomErasing(1.0, seed=1)(IMAGES, LABELS))


def test_a_dict_keeps_its_order_and_what_a_layer_does_not_know():
    data = {"path": np.arange(6), "labels": LABELS, "images": IMAGES}
    found = RandomErasing(1.0, seed=1)(data)
    assert list(found) == list(data)
    np.testing.assert_array_equal(to_numpy(found["path"]), data["path"])
    with raises_received("path"):
        MixUp()(data)


@each_layer
def test_lists_of_numbers_are_arrays(make):
    equal(make()(IMAGES.tolist(), LABELS.tolist()), make()(IMAGES, LABELS))


@each_layer
def test_the_input_is_left_alone(make):
    data = (IMAGES.copy(), LABELS.copy(), WEIGHTS.copy())
    make()(data)
    for array, before in zip(data, (IMAGES, LABELS, WEIGHTS), strict=True):
        assert_same_bits(array, before)


def test_kerascv_style_dicts_go_through_a_tf_data_map():
    """`images`, `labels`, `segmentation_masks` and `bounding_boxes` of `boxes` and `classes`, as KerasCV names them."""
    data = {
        "images": IMAGES,
        "labels": LABELS,
        "segmentation_masks": np.ones((6, 8, 6, 1), "float32"),
        "bounding_boxes": {
            "boxes": np.tile(np.array([[1, 1, 4, 5]], "float32"), (6, 1, 1)),
            "classes": np.arange(6.0, dtype="float32")[:, None],
        },
    }
    for layer, boxes in ((RandomErasing(0.5, seed=2), 1), (RandomPadCrop(2, seed=2), 1), (MixUp(seed=2), 2)):
        (found,) = map_in_tf_data(layer, data, batch_size=6)
        assert list(found) == list(data) and set(found["bounding_boxes"]) == {"boxes", "classes"}
        assert found["bounding_boxes"]["boxes"].shape == (6, boxes, 4)
        assert found["segmentation_masks"].shape == (6, 8, 6, 1) and found["images"].dtype == np.float32


def test_one_image_needs_no_batch():
    found, label = RandomErasing(1.0, (0.25, 0.25), (1, 1), seed=3)(np.ones((8, 8, 3), "float32"), 2)
    assert found.shape == (8, 8, 3) and (to_numpy(found) == 0).sum() == 16 * 3 and to_numpy(label) == 2


def test_none_of_the_backends_is_needed_by_a_foreign_tensor():
    """Tensors of another framework than Keras' backend are augmented where they are."""
    if BACKEND == "torch":
        tf = pytest.importorskip("tensorflow")
        found = CutMix(seed=4)(tf.constant(IMAGES), tf.constant(LABELS))
        assert all(isinstance(x, tf.Tensor) for x in found)
    else:
        torch = pytest.importorskip("torch")
        found = CutMix(seed=4)(torch.from_numpy(IMAGES), torch.from_numpy(LABELS))
        assert all(isinstance(x, torch.Tensor) for x in found)
    np.testing.assert_allclose(to_numpy(found[1]).sum(1), LABELS.sum(1), rtol=1e-6)


def test_numpy_comes_back_as_numpy_from_threads_but_the_main_one():
    layer, given = RandomErasing(1.0, seed=5), keras.ops.convert_to_tensor(IMAGES)
    with ThreadPoolExecutor(1) as pool:
        arrays, tensors = (pool.submit(layer, images).result() for images in (IMAGES, given))
    assert isinstance(arrays, np.ndarray) and keras.ops.is_tensor(tensors)
    assert keras.ops.is_tensor(layer(IMAGES))
