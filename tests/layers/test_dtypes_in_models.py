"""One layer in a model has one dtype: what the graph says, what inference returns, and what training returns."""

import functools

import keras
import numpy as np
import pytest
from harness import dtype_of
from layers.batches import AUGMENTATIONS

from keras_reg import layers

LAYERS = {
    **{name: AUGMENTATIONS[name] for name in ("RandomErasing", "RandomPadCrop", "PCAColorJitter")},
    "Pipeline": lambda **k: layers.Pipeline([layers.PCAColorJitter(0.1), layers.RandomPadCrop(1)], **k),
    "RandomChoice": lambda **k: layers.RandomChoice([layers.PCAColorJitter(0.1), layers.RandomPadCrop(1)], **k),
    "RandomApply": lambda **k: layers.RandomApply(layers.PCAColorJitter(0.1), rate=1.0, **k),
}


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_inference_returns_what_the_graph_says(name, dtype):
    images = np.full((2, 6, 5, 3), 7, dtype)
    for training in ({}, {"training": None}, {"training": False}, {"training": True}):
        inputs = keras.Input((6, 5, 3), dtype=dtype)
        model = keras.Model(inputs, LAYERS[name](seed=1)(inputs, **training))
        for run in (False, True):
            assert dtype_of(model(images, training=run)) == model.outputs[0].dtype
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(images, training=False)), images)


WITH_LABELS = {
    **{name: functools.partial(AUGMENTATIONS[name], num_classes=3) for name in ("MixUp", "CutMix", "LabelNoise")},
    "RandomResizedCrop": lambda **k: layers.RandomResizedCrop((6, 5), **k),
    "Pipeline": lambda **k: layers.Pipeline(
        [layers.LabelNoise(1.0, num_classes=3), layers.MixUp(1.0, num_classes=3)], **k
    ),
}


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_too(name, dtype):
    """One-hot labels; class ids where they stay ids in training."""
    images = np.full((2, 6, 5, 3), 7, dtype)
    stay = name in ("LabelNoise", "RandomResizedCrop")
    for labels in [np.eye(3, dtype="float16")[[2, 1]], *([np.array([2, 1], "int32")] if stay else [])]:
        inputs = keras.Input((6, 5, 3), dtype=dtype), keras.Input(labels.shape[1:], dtype=labels.dtype.name)
        model = keras.Model(inputs, WITH_LABELS[name](seed=1)(inputs))
        for run in (False, True):
            found = model((images, labels), training=run)
            assert [dtype_of(part) for part in found] == [output.dtype for output in model.outputs]
        found = keras.tree.map_structure(keras.ops.convert_to_numpy, model((images, labels), training=False))
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)
