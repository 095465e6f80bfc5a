"""Bad batches: refused with what was expected and what came, eagerly and, where shapes are known, while tracing."""

import keras
import numpy as np
import pytest
from harness import map_in_tf_data, raises_received, to_numpy
from layers.batches import coded, numbered

from keras_reg.layers import (
    CutMix,
    LabelNoise,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandAugment,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomPadCrop,
    RandomResizedCrop,
)

IMAGES = np.ones((4, 8, 6, 3), "float32")
IDS = np.arange(4)
HOT = np.eye(4, dtype="float32")
BOXES = {"boxes": np.ones((4, 1, 4), "float32"), "classes": np.ones((4, 1), "float32")}
NAN = float("nan")

# layer, data, what the error names. `DATA` rows are tried eagerly, symbolically and in a tf.data graph.
SHAPES = {
    "images of rank 2": (lambda: RandomErasing(), np.ones((4, 8), "float32"), ["(4, 8)"]),
    "images of rank 6": (lambda: RandomErasing(), np.ones((4, 1, 2, 8, 6, 3), "float32"), ["(4, 1, 2, 8, 6, 3)"]),
    "unbatched mixing": (lambda: MixUp(), (IMAGES[0], HOT[0]), ["(8, 6, 3)"]),
    "unbatched cutting": (lambda: CutMix(), (IMAGES[0], HOT[0]), ["(8, 6, 3)"]),
    "unbatched choice of mixers": (lambda: RandomChoice([MixUp(), CutMix()]), (IMAGES[0], HOT[0]), ["(8, 6, 3)"]),
    "unbatched pipeline with a mixer": (lambda: Pipeline([MixUp()]), (IMAGES[0], HOT[0]), ["(8, 6, 3)"]),
    "labels of another batch size": (lambda: CutMix(), (IMAGES, HOT[:3]), ["labels", "(3, 4)"]),
    "weights of another batch size": (lambda: CutMix(), (IMAGES, HOT, np.ones(5, "float32")), ["sample_weights"]),
    "integer labels without num_classes": (lambda: MixUp(), (IMAGES, IDS), ["num_classes=None"]),
    "integer column without num_classes": (lambda: CutMix(), (IMAGES, IDS[:, None]), ["num_classes=None"]),
    "soft labels of another width": (lambda: MixUp(num_classes=5), (IMAGES, HOT), ["(4, 4)"]),
    "class ids that are floats": (lambda: MixUp(num_classes=4), (IMAGES, 1.0 * IDS), ["float", "(4,)"]),
    "a column of ids that are floats": (lambda: CutMix(num_classes=4), (IMAGES, 1.0 * IDS[:, None]), ["(4, 1)"]),
    "grey images without channels": (lambda: RandomErasing(), (IMAGES[..., 0], IDS), ["(4, 8, 6)", "labels=(4,)"]),
    "integer labels of rank 3": (lambda: CutMix(num_classes=4), (IMAGES, np.ones((4, 2, 2), int)), ["(4, 2, 2)"]),
    "integer maps without num_classes": (lambda: MixUp(), (IMAGES, np.ones((4, 8, 6), int)), ["num_classes=None"]),
    "a ratio that no box can satisfy": (
        lambda: RandomErasing(1.0, (0.5, 0.5), (9.0, 9.0)), IMAGES, ["scale", "ratio"],
    ),
    "colours of other channels": (lambda: RandomErasing(fill=(0.1, 0.2)), IMAGES, ["fill="]),
    "components of other channels": (lambda: PCAColorJitter(), IMAGES[..., :2], ["shape"]),
    "reflection beyond the image": (lambda: RandomPadCrop(6, fill_mode="reflect"), IMAGES, ["padding"]),
    "noise in integers without a range": (
        lambda: RandomErasing(fill="pixel_noise"), IMAGES.astype("uint8"), ["value_range=None", "uint8"],
    ),
    "a fill that integers cannot hold": (lambda: RandomErasing(fill=0.5), IMAGES.astype("uint8"), ["fill="]),
    "label noise without labels": (lambda: LabelNoise(0.5, 4), IMAGES, ["images without labels"]),
    "label noise on floats": (lambda: LabelNoise(0.5, 4), (IMAGES, np.ones(4, "float32")), ["float32"]),
    "a size that a choice changes": (lambda: RandomApply(RandomResizedCrop(4)), IMAGES, ["before", "after"]),
}  # fmt: skip


def symbolic(data):
    return keras.tree.map_structure(lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype.name), data)


@pytest.mark.parametrize("row", SHAPES)
def test_bad_batches_eagerly(row):
    make, data, named = SHAPES[row]
    with raises_received(*named):
        make()(data)


@pytest.mark.parametrize("row", SHAPES)
def test_bad_batches_symbolically(row):
    make, data, named = SHAPES[row]
    with raises_received(*named):
        make()(symbolic(data))


@pytest.mark.parametrize("row", [row for row in SHAPES if "batch size" not in row])
def test_bad_batches_while_a_tf_data_map_is_traced(row):
    """Before the first batch is read."""
    import tensorflow as tf

    make, data, named = SHAPES[row]
    layer = make()
    dataset = tf.data.Dataset.from_tensors(data)
    with raises_received(*named):
        dataset.map(lambda *x: layer(x if isinstance(data, tuple) else x[0]))


@pytest.mark.parametrize("row", ["integer labels without num_classes", "a ratio that no box can satisfy"])
def test_bad_batches_while_a_model_is_built(row):
    make, data, named = SHAPES[row]
    inputs = symbolic(data)
    with raises_received(*named):
        keras.Model(inputs, make()(inputs))


def test_grey_images_without_channels_in_batches_of_unknown_size():
    with raises_received("labels=(None,)"):
        map_in_tf_data(RandomErasing(), (IMAGES[..., 0], IDS), batch_size=3)


EAGER = {
    "ids out of range": (lambda: MixUp(num_classes=3), (IMAGES, IDS), ["most=3"]),
    "negative ids": (lambda: CutMix(num_classes=4), (IMAGES, IDS - 1), ["least=-1"]),
    "ids out of range in a column": (lambda: MixUp(num_classes=3), (IMAGES, IDS[:, None]), ["most=3"]),
    "strings as images": (lambda: RandomErasing(), np.array(["a", "b"]), ["strings"]),
    "a path as images": (lambda: RandomErasing(), "photo.png", ["str of"]),
    "strings as labels": (lambda: CutMix(), (IMAGES, np.array(list("abcd"))), ["strings"]),
    "objects as images": (lambda: RandomErasing(), np.array([None, {}], dtype=object), ["objects"]),
    "boxes into cuts": (lambda: CutMix(), {"images": IMAGES, "bounding_boxes": BOXES}, ["bounding_boxes"]),
    "boxes without classes": (
        lambda: RandomPadCrop(1), {"images": IMAGES, "bounding_boxes": {"boxes": BOXES["boxes"]}}, ["boxes"],
    ),
    "boxes of three numbers": (
        lambda: MixUp(), {"images": IMAGES, "bounding_boxes": {**BOXES, "boxes": np.ones((4, 1, 3))}}, ["(4, 1, 3)"],
    ),
    "masks of another size": (
        lambda: CutMix(), {"images": IMAGES, "segmentation_masks": np.ones((4, 4, 4, 1))}, ["segmentation_masks"],
    ),
    "a dict without images": (lambda: MixUp(), {"image": IMAGES}, ["image"]),
    "a dict and labels beside it": (lambda: MixUp(), None, ["dict"]),
    "four things in a tuple": (lambda: MixUp(), (IMAGES, HOT, HOT[0], HOT), ["tuple of 4"]),
    "unknown things under a mixer": (lambda: MixUp(), {"images": IMAGES, "depth": IMAGES}, ["depth"]),
}  # fmt: skip


@pytest.mark.parametrize("row", EAGER)
def test_bad_values_eagerly(row):
    make, data, named = EAGER[row]
    with raises_received(*named):
        if data is None:
            make()({"images": IMAGES}, HOT)
        else:
            make()(data)


def test_ids_out_of_range_in_a_graph_become_nan_and_no_wrong_class():
    """Values are not known while tracing. The row is NaN, so the loss is, and the other rows are right."""
    (found,) = map_in_tf_data(MixUp(rate=0.0, num_classes=3), (IMAGES, IDS), batch_size=4)
    np.testing.assert_array_equal(np.isnan(found[1]).any(axis=1), IDS >= 3)
    np.testing.assert_array_equal(found[1][:3], np.eye(3))


@pytest.mark.parametrize("make", [lambda **o: MixUp(**o), lambda **o: PCAColorJitter(**o)])
def test_integer_images_need_a_float_compute_dtype(make):
    images = np.ones((4, 8, 6, 3), "uint8")
    with raises_received("dtype", "uint8"):
        make(dtype="uint8")(images)
    assert to_numpy(make()(images)).dtype == "float32"


def test_an_empty_batch_comes_back_empty():
    for layer in (MixUp(num_classes=4), CutMix(num_classes=4), RandomErasing(), RandomPadCrop(1)):
        images, labels = to_numpy(layer(IMAGES[:0], IDS[:0]))
        assert images.shape == (0, 8, 6, 3) and len(labels) == 0


def test_a_bad_batch_costs_no_random_numbers():
    """What is refused leaves the stream where it was."""
    layer, other = MixUp(seed=1), MixUp(seed=1)
    with raises_received("shape"):
        layer(numbered(2)[0], coded(2))
    np.testing.assert_array_equal(
        to_numpy(layer(numbered(4), coded(4))[1]), to_numpy(other(numbered(4), coded(4))[1])
    )  # fmt: skip


@pytest.mark.parametrize("operation", ["equalize", "auto_contrast", "posterize", "solarize"])
def test_a_pixel_of_nan_stays_and_spares_the_other_images(operation):
    """Also where pixels become entries of a table."""
    images = np.random.default_rng(0).random((3, 6, 5, 3)).astype("float32")
    broken = images.copy()
    broken[1, 2, 3, 0] = np.nan
    layer = RandAugment(1, 15, operations=[operation], value_range=(0, 1), seed=0)
    expected, found = (to_numpy(layer(x, index=0)) for x in (images, broken))
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    assert np.isnan(found[1, 2, 3, 0])
