"""Statistics of batch normalization from a whole data set, against NumPy in float64."""

import keras
import numpy as np
import pytest
from harness import raises_received, to_numpy

from keras_reg._moving_statistics import refresh_statistics
from keras_reg.layers import NoisyBatchNormalization

RNG = np.random.default_rng(0)
X = RNG.standard_normal((11, 3)).astype("float32")


def network(*layers):
    return keras.Sequential([keras.Input((3,)), *layers])


def batches(x):
    return [x[:4], x[4:8], x[8:]]  # the last one has three rows


def test_mean_and_variance_are_those_of_the_data_set():
    far = X + np.array([0, 100, -1000], "float32")  # where a mean square cancels
    layer = keras.layers.BatchNormalization()
    refresh_statistics(network(layer), batches(far))
    np.testing.assert_allclose(to_numpy(layer.moving_mean), far.astype("float64").mean(0), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.moving_variance), far.astype("float64").var(0), rtol=1e-5)


def test_layers_before_use_the_statistics_of_the_batch_and_nothing_random():
    first, second = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    inner = network(keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(2), second)
    model = network(first, inner)
    seeds = [(v, to_numpy(v).copy()) for v in model.variables if "int" in str(v.dtype)]
    refresh_statistics(model, batches(X))
    parts = batches(X.astype("float64"))
    kernel, bias = inner.layers[1].get_weights()
    hidden = np.concatenate([(part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3) for part in parts]) @ kernel + bias
    np.testing.assert_allclose(to_numpy(second.moving_mean), hidden.mean(0), atol=1e-5)
    np.testing.assert_allclose(to_numpy(second.moving_variance), hidden.var(0), rtol=1e-5)
    for variable, seed in seeds:
        np.testing.assert_array_equal(to_numpy(variable), seed)
    assert len(seeds) == 1 and "call" not in vars(first)


def test_images_masks_frozen_layers_and_subclasses():
    images = RNG.standard_normal((5, 3, 2, 2)).astype("float32")
    layers = [NoisyBatchNormalization(0.5, axis=1), keras.layers.BatchNormalization(axis=1, trainable=False)]
    model = keras.Sequential([keras.Input((3, 2, 2)), *layers])
    refresh_statistics(model, (images, None))
    np.testing.assert_allclose(to_numpy(layers[0].moving_mean), images.mean((0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(to_numpy(layers[0].moving_variance), images.var((0, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(to_numpy(layers[1].moving_mean), np.zeros(3))

    times = RNG.standard_normal((2, 5, 3)).astype("float32")
    times[0, 3:] = times[1, 1:] = 0  # masked
    layer = keras.layers.BatchNormalization()
    refresh_statistics(keras.Sequential([keras.Input((5, 3)), keras.layers.Masking(), layer]), times)
    kept = np.concatenate([times[0, :3], times[1, :1]])
    np.testing.assert_allclose(to_numpy(layer.moving_mean), kept.mean(0), atol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.moving_variance), kept.var(0), rtol=1e-5)


def test_after_an_error_all_is_as_before():
    layer = keras.layers.BatchNormalization()
    model = network(layer)

    def interrupted():
        yield X[:4]
        raise KeyboardInterrupt

    with raises_received("`data` must have at least one batch"):
        refresh_statistics(model, [])
    with pytest.raises(KeyboardInterrupt):
        refresh_statistics(model, interrupted())
    np.testing.assert_array_equal(to_numpy(layer.moving_variance), np.ones(3))
    assert "call" not in vars(layer)
