"""One layer in a model has one dtype: what the graph says, what inference returns, and what training returns."""

import keras
import numpy as np
import pytest
from harness import dtype_of

from keras_reg.layers import PCAColorJitter, Pipeline, RandomApply, RandomChoice, RandomErasing, RandomPadCrop

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
