"""What may be given as images, labels and weights: any array of numbers that the backend holds, and nothing else."""

import keras
import numpy as np
import pytest
from harness import BACKEND, map_in_tf_data, only, raises_received, to_numpy

from keras_reg.layers import (
    AugMix,
    AutoAugment,
    CutMix,
    LabelNoise,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    TrivialAugmentWide,
)

IMAGES = np.random.default_rng(0).random((4, 8, 6, 3), "float32")
IDS, HOT = np.arange(4), np.eye(4, dtype="float32")
MAPS = np.arange(4 * 8 * 6).reshape(4, 8, 6) % 4
BEYOND = 2**32 + 1  # 1 in 32 bits


def one_hot_of(ids, classes=4):
    return to_numpy(MixUp(rate=0.0, num_classes=classes)(IMAGES, ids)[1])


# Numbers of any form.


@pytest.mark.parametrize("dtype", [">i8", ">u2", "uint16", "uint32", "uint64", "int8", np.longlong])
def test_ids_of_any_dtype_are_the_same_classes(dtype):
    np.testing.assert_array_equal(one_hot_of(IDS.astype(dtype)), HOT)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", np.longdouble])
def test_images_of_any_dtype_are_the_same_pixels(dtype):
    exact = np.round(IMAGES * 256) / 256
    np.testing.assert_array_equal(to_numpy(RandomErasing(0.0)(exact.astype(dtype))), exact)


def test_arrays_that_run_backwards_are_the_same_arrays():
    images, ids = IMAGES[::-1, :, ::-1], IDS[::-1]
    done, labels = to_numpy(MixUp(rate=0.0, num_classes=4)(images, ids))
    np.testing.assert_array_equal(done, images)
    np.testing.assert_array_equal(labels, HOT[::-1])


def test_lists_of_numbers_are_arrays_wherever_they_stand():
    layer = MixUp(rate=0.0, num_classes=4)
    scalars = [np.int64(i) for i in IDS]
    for data in [(IMAGES, IDS.tolist()), (IMAGES.tolist(), scalars), (IMAGES, tuple(IDS.tolist()))]:
        np.testing.assert_array_equal(to_numpy(layer(data)[1]), HOT)
        np.testing.assert_array_equal(to_numpy(layer(*data)[1]), HOT)
    done = to_numpy(layer({"images": IMAGES, "labels": {"a": IDS.tolist(), "b": HOT.tolist()}}))
    np.testing.assert_array_equal(done["labels"]["a"], HOT)
    np.testing.assert_array_equal(done["labels"]["b"], HOT)


class Picture:
    """Like an image of PIL, a series of pandas: an object that NumPy can read."""

    def __init__(self, array):
        self.content = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.content, dtype)


def test_objects_that_numpy_can_read_are_arrays():
    np.testing.assert_array_equal(to_numpy(RandomErasing(0.0)(Picture(IMAGES[0]))), IMAGES[0])
    np.testing.assert_array_equal(one_hot_of(Picture(IDS)), HOT)
    np.testing.assert_array_equal(to_numpy(RandomErasing(0.0)(keras.Variable(IMAGES))), IMAGES)
    pictures = pytest.importorskip("PIL.Image")
    picture = pictures.fromarray((IMAGES[0] * 255).astype("uint8"))
    np.testing.assert_array_equal(to_numpy(RandomErasing(0.0)(picture)), np.asarray(picture))


# What is no array of numbers.


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")


RECORDS = np.zeros((4, 8, 6), dtype=[("red", "f4"), ("green", "f4")])
AS_IMAGES = {
    "None": None,
    "an object": object(),
    "a set": {1, 2},
    "an iterator": iter([IMAGES]),
    "bytes": b"photo",
    "a class": np.ndarray,
    "a broken array": Broken(),
    "records": RECORDS,
    "dates": np.full((4, 8, 6, 3), "2020-01-01", "M8[D]"),
    "complex numbers": IMAGES + 1j,
    "complex numbers in lists": [[[[1j]]]],
    "masked numbers": np.ma.masked_less(IMAGES, 0.5),
    "ragged lists": [[[[1.0], [2.0, 3.0]]]],
    "a nest": ({"a": IMAGES}, IDS),
    "None and labels": (None, IDS),
    "None in a dict": {"images": None},
    "an array of no axes": np.array(1.0),
    "a number": 3,
    "a grey picture": Picture(IMAGES[0, :, :, 0]),
    "nothing": (),
    "an empty list": [],
    "an empty dict": {},
}


@pytest.mark.parametrize("kind", AS_IMAGES)
def test_what_is_no_image_is_refused_in_our_words(kind):
    with raises_received() as caught:
        RandomErasing()(AS_IMAGES[kind])
    assert str(caught.value).startswith("Expected")


AS_LABELS = {
    "strings": np.array(list("abcd")),
    "objects": Picture(np.array(list("abcd"), object)),
    "records": np.rec.array([(1, 2.0)] * 4),
    "dates": np.full(4, "2020-01-01", "M8[D]"),
    "complex numbers": HOT + 1j,
    "ragged lists": [[1.0, 2.0], [3.0]],
    "arrays of no axes": [np.array(i) for i in IDS],
    "a number": 3,
    "an object": object(),
    "an integer of many bits": [0, 1, 2, 2**70],
    "inexact long doubles": HOT.astype(np.longdouble) / 3,
}


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long doubles are doubles here")
@pytest.mark.parametrize("kind", AS_LABELS)
def test_what_is_no_label_is_refused_in_our_words(kind):
    with raises_received("labels") as caught:
        MixUp(num_classes=4)(IMAGES, AS_LABELS[kind])
    assert str(caught.value).startswith("Expected")


def not_dense():
    import tensorflow as tf

    yield tf.sparse.from_dense(HOT)
    yield tf.ragged.constant([[1.0], [2.0, 3.0], [1.0], [1.0]])
    if BACKEND == "torch":
        import torch

        yield torch.tensor(HOT).to_sparse()
        yield torch.nested.nested_tensor([torch.ones(2), torch.ones(3)] * 2)
    if BACKEND == "jax":
        from jax.experimental import sparse

        yield sparse.BCOO.fromdense(HOT)
    if BACKEND != "torch":
        yield keras.Input((4,), sparse=True)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_sparse_and_ragged_tensors_are_refused():
    for array in not_dense():
        with raises_received("labels="):
            MixUp()(IMAGES, array)
        with raises_received("images="):
            RandomErasing()(array)


def test_several_images_in_a_list_are_no_image_with_its_label():
    alike = [[IMAGES] * 3, [IMAGES] * 2, [IMAGES[0]] * 3, [IMAGES[0]] * 2, [IMAGES[0], np.ones((5, 5, 3), "float32")]]
    for data in alike:
        with raises_received("data="):
            RandomErasing()(data)
    for data in [(IMAGES, IMAGES, IMAGES), {"images": IMAGES, "labels": HOT, "sample_weights": IMAGES}]:
        with raises_received("sample_weights="):
            RandomErasing()(data)
    x, y = RandomErasing(0.0)((IMAGES, IMAGES))  # a picture for each picture, said outright
    assert x.shape == y.shape
    for data in ([IMAGES, HOT], [IMAGES, HOT, np.ones(4, "float32")], [IMAGES]):  # as a DataLoader collates
        assert len(RandomErasing()(data)) == len(data)


@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_stays_empty(training):
    for layer in (PCAColorJitter(), RandomResizedCrop(4), Pipeline([RandomErasing(), CutMix(num_classes=4)])):
        images, labels = to_numpy(layer(IMAGES[:0], HOT[:0], training=training))
        assert len(images) == len(labels) == 0 and images.shape[1:] == layer.compute_output_shape((0, 8, 6, 3))[1:]


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("policy", [AugMix, AutoAugment, RandAugment, TrivialAugmentWide])
def test_a_policy_leaves_an_empty_batch_empty(policy, dtype):
    images, labels = policy(value_range=(0, 255))(IMAGES[:0].astype(dtype), HOT[:0], training=True)
    assert to_numpy(images).shape == (0, 8, 6, 3) and len(labels) == 0


# Numbers that do not fit.


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_an_id_beyond_32_bits_is_no_other_class(dtype):
    ids = np.array([0, 1, 2, BEYOND], dtype)
    for layer in (MixUp(num_classes=4), CutMix(num_classes=4), LabelNoise(0.0, 4), Pipeline([MixUp(num_classes=4)])):
        with raises_received():
            layer(IMAGES, ids)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint32", "uint8"])
def test_an_id_out_of_range_in_tf_data_gives_a_row_of_nan(dtype):
    ids = np.array([0, 1, 2, {"int64": BEYOND, "uint64": 2**64 - 1, "uint32": 2**32 - 1, "uint8": 255}[dtype]], dtype)
    for layer in (MixUp(rate=0.0, num_classes=4), Pipeline([MixUp(rate=0.0, num_classes=4)])):
        ((_, labels),) = map_in_tf_data(layer, (IMAGES, ids), 4)
        np.testing.assert_array_equal(labels, [*HOT[:3], [np.nan] * 4])
    ((_, labels),) = map_in_tf_data(MixUp(rate=0.0, num_classes=300), (IMAGES, IDS.astype("uint8")), 4)
    np.testing.assert_array_equal(labels, np.eye(300)[:4])


@only("tensorflow", "torch", why="JAX has no integers of 64 bits here")
def test_a_pixel_of_a_class_beyond_32_bits_has_no_class():
    found = one_hot_of(np.where(MAPS == 1, BEYOND, MAPS))
    np.testing.assert_array_equal(found, np.eye(4)[MAPS] * (MAPS != 1)[..., None])


def test_integers_that_the_backend_cannot_hold_are_refused():
    too_large = {"jax": 2**40, "torch": 2**63, "tensorflow": None}[BACKEND]
    if too_large is not None:
        with raises_received("labels="):
            CutMix()(IMAGES, np.full((4, 8, 6), too_large, "uint64"))
    if BACKEND == "jax":
        with raises_received("labels="):
            MixUp()(IMAGES, np.full((4, 2), 1e300))


def test_what_the_backend_cannot_hold_passes_by_where_it_is_not_augmented():
    """Names and long identifiers come back as they are."""
    names, numbers = np.array(list("abcd")), np.full(4, 2**40)
    done = RandomErasing()({"name": names, "images": IMAGES, "image_id": numbers, "file": "a.png"})
    assert list(done) == ["name", "images", "image_id", "file"]
    assert done["name"] is names and done["file"] == "a.png" and (to_numpy(done["image_id"]) == 2**40).all()
