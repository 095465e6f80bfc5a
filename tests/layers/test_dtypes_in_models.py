"""One layer in a model has one dtype: what the graph says, what inference returns, and what training returns."""

import keras
import numpy as np
import pytest
from harness import dtype_of

from keras_reg.layers import (
    CutMix,
    LabelNoise,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomPadCrop,
    RandomResizedCrop,
)

LAYERS = {
    "erasing": lambda: RandomErasing(1.0, seed=1), "crop": lambda: RandomPadCrop(1, seed=1),
    "color": lambda: PCAColorJitter(0.1, seed=1), "pipeline": lambda: Pipeline([PCAColorJitter(0.1), RandomPadCrop(1)]),
    "choice": lambda: RandomChoice([PCAColorJitter(0.1), RandomPadCrop(1)]),
    "apply": lambda: RandomApply(PCAColorJitter(0.1), rate=1.0),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_inference_returns_what_the_graph_says(name, dtype):
    images = np.full((2, 6, 5, 3), 7, dtype)
    for training in ({}, {"training": None}, {"training": False}, {"training": True}):
        inputs = keras.Input((6, 5, 3), dtype=dtype)
        model = keras.Model(inputs, LAYERS[name]()(inputs, **training))
        for run in (False, True):
            assert dtype_of(model(images, training=run)) == model.outputs[0].dtype
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(images, training=False)), images)


WITH_LABELS = {
    "mix up": lambda: MixUp(1.0, num_classes=3, seed=1), "cut mix": lambda: CutMix(1.0, num_classes=3, seed=1),
    "noise": lambda: LabelNoise(1.0, num_classes=3, seed=1),
    "resized crop": lambda: RandomResizedCrop((6, 5), seed=1),
    "pipeline": lambda: Pipeline([LabelNoise(1.0, num_classes=3), MixUp(1.0, num_classes=3)], seed=1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_too(name, dtype):
    """One-hot labels; class ids where they stay ids in training."""
    images = np.full((2, 6, 5, 3), 7, dtype)
    stay = name in ("noise", "resized crop")
    for labels in [np.eye(3, dtype="float16")[[2, 1]], *([np.array([2, 1], "int32")] if stay else [])]:
        inputs = keras.Input((6, 5, 3), dtype=dtype), keras.Input(labels.shape[1:], dtype=labels.dtype.name)
        model = keras.Model(inputs, WITH_LABELS[name]()(inputs))
        for run in (False, True):
            found = model((images, labels), training=run)
            assert [dtype_of(part) for part in found] == [output.dtype for output in model.outputs]
        found = keras.tree.map_structure(keras.ops.convert_to_numpy, model((images, labels), training=False))
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)
