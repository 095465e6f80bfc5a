"""What `WeightNoise` shares with `DropConnect` is tried in `test_drop_connect.py`."""

import keras
import numpy as np
from harness import assert_close, gradients
from keras import layers, ops
from stochastic import training_calls

from keras_reg.layers import WeightNoise


def test_the_deviation_does_not_depend_on_the_weights():
    layer = WeightNoise(layers.Dense(20000, use_bias=False, kernel_initializer="zeros"), 0.25, seed=1)
    noise = training_calls(layer, np.ones((1, 1), "float32"))
    assert abs(noise.std() - 0.25) < 5 * 0.25 / np.sqrt(2 * 20000)
    assert abs(noise.mean()) < 5 * 0.25 / np.sqrt(20000)


def test_gradients_are_those_at_the_noisy_kernel():
    """y = (w + n)^2 for x = 1: dy/dw = 2 (w + n)."""
    layer = WeightNoise(layers.Dense(3, use_bias=False, kernel_initializer="ones"), 0.5, seed=1)
    x = np.ones((1, 1), "float32")
    noisy = training_calls(layer, x)
    same = WeightNoise(layers.Dense(3, use_bias=False, kernel_initializer="ones"), 0.5, seed=1)
    same.build(x.shape)
    found = gradients(
        lambda: ops.sum(ops.square(same(ops.convert_to_tensor(x), training=True))), same.trainable_weights
    )
    assert_close(found[0], 2 * noisy, rtol=1e-5)
    assert keras.ops.all(same.layer.kernel == 1)
