"""What `WeightNoise` shares with `DropConnect` is tried in `test_drop_connect.py`."""

import keras
import numpy as np
from harness import assert_close, gradients, to_numpy
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


def test_low_precision_noise_has_the_same_deviation(dtype_policy):
    """Drawn in float32 for the stored kernel, which under a mixed policy is float32 itself."""
    layer = WeightNoise(layers.Dense(20000, use_bias=False, kernel_initializer="zeros"), 0.25, seed=1)
    noise = training_calls(layer, np.ones((1, 1), "float32")).astype("float64")
    assert abs(noise.std() - 0.25) < 5 * 0.25 / np.sqrt(2 * 20000) + 1e-3
    assert len(np.unique(noise)) > 500  # bfloat16 has 256 numbers between 0.125 and 0.25, and more below
    np.testing.assert_array_equal(to_numpy(layer.layer.kernel), 0)


def test_one_seed_repeats_and_two_calls_differ():
    def calls(seed):
        layer = WeightNoise(layers.Dense(3, use_bias=False, kernel_initializer="ones"), 0.5, seed=seed)
        return training_calls(layer, np.eye(4, dtype="float32"), 3)

    first = calls(1)
    np.testing.assert_array_equal(first, calls(1))
    assert (first[0] != first[1]).all() and (first[1] != first[2]).all() and (first != calls(2)).all()


def test_the_mean_over_calls_is_the_stored_kernel():
    """400 calls: each entry within 5 standard errors, 0.3 / 20 each."""
    layer = WeightNoise(layers.Dense(5, use_bias=False), 0.3, seed=1)
    found = training_calls(layer, np.eye(6, dtype="float32"), 400)
    assert np.abs(found.mean(0) - to_numpy(layer.layer.kernel)).max() < 5 * 0.3 / 20
