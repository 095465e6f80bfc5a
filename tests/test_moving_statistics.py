"""Statistics of batch normalization from a whole data set, against NumPy in float64."""

import inspect

import keras
import numpy as np
import pytest
from harness import to_numpy

from keras_reg.callbacks import WeightAverage
from keras_reg.layers import NoisyBatchNormalization

RNG = np.random.default_rng(0)
X = RNG.standard_normal((11, 3)).astype("float32")


def network(*layers):
    return keras.Sequential([keras.Input((3,)), *layers])


def refresh(model, data, x=None):
    """Computes the statistics for the weights that the model has: it trains at a learning rate of 0."""
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    x = data[0] if x is None else x
    model.fit(x, to_numpy(model(x)), epochs=1, batch_size=len(x), callbacks=[WeightAverage(data=data)], verbose=0)


def batches(x):
    return [x[:4], x[4:8], x[8:]]  # the last one has three rows


def test_mean_and_variance_are_those_of_the_data_set():
    far = X + np.array([0, 100, -1000], "float32")  # where a mean square cancels
    layer = keras.layers.BatchNormalization()
    refresh(network(layer), batches(far))
    np.testing.assert_allclose(to_numpy(layer.moving_mean), far.astype("float64").mean(0), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.moving_variance), far.astype("float64").var(0), rtol=1e-5)


def test_layers_before_use_the_statistics_of_the_batch_and_nothing_random():
    first, second = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    inner = network(keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(2), second)
    model = network(first, inner)
    seeds = [(v, to_numpy(v).copy()) for v in model.variables if "int" in str(v.dtype)]
    refresh(model, batches(X))
    parts = batches(X.astype("float64"))
    kernel, bias = inner.layers[1].get_weights()
    hidden = np.concatenate([(part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3) for part in parts]) @ kernel + bias
    np.testing.assert_allclose(to_numpy(second.moving_mean), hidden.mean(0), atol=1e-5)
    np.testing.assert_allclose(to_numpy(second.moving_variance), hidden.var(0), rtol=1e-5)
    for variable, seed in seeds:
        np.testing.assert_array_equal(to_numpy(variable) - seed, [0, 1])  # the training step drew once
    assert len(seeds) == 1 and "call" not in vars(first)


def test_images_masks_frozen_layers_and_subclasses():
    images = RNG.standard_normal((5, 3, 2, 2)).astype("float32")
    layers = [NoisyBatchNormalization(0.5, axis=1), keras.layers.BatchNormalization(axis=1, trainable=False)]
    model = keras.Sequential([keras.Input((3, 2, 2)), *layers])
    refresh(model, (images, None))
    np.testing.assert_allclose(to_numpy(layers[0].moving_mean), images.mean((0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(to_numpy(layers[0].moving_variance), images.var((0, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(to_numpy(layers[1].moving_mean), np.zeros(3))

    times = RNG.standard_normal((2, 5, 3)).astype("float32")
    times[0, 3:] = times[1, 1:] = 0  # masked
    layer = keras.layers.BatchNormalization()
    refresh(keras.Sequential([keras.Input((5, 3)), keras.layers.Masking(), layer]), times, times)
    kept = np.concatenate([times[0, :3], times[1, :1]])
    np.testing.assert_allclose(to_numpy(layer.moving_mean), kept.mean(0), atol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.moving_variance), kept.var(0), rtol=1e-5)


def test_after_an_error_all_is_as_before():
    class Interrupted(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index:
                raise KeyboardInterrupt
            return (X[:4],)

    layer = keras.layers.BatchNormalization(momentum=1.0)
    with pytest.raises(KeyboardInterrupt):
        refresh(network(layer), Interrupted(), X[:4])
    np.testing.assert_array_equal(to_numpy(layer.moving_variance), np.ones(3))
    assert "call" not in vars(layer)


def test_batch_renormalization_is_not_used():
    """The second normalization then gets inputs with mean 0 and variance 1, and training continues from there."""
    if "renorm" not in inspect.signature(keras.layers.BatchNormalization).parameters:
        pytest.skip("This Keras has no batch renormalization.")
    first, second = keras.layers.BatchNormalization(renorm=True), keras.layers.BatchNormalization()
    model = network(first, second)
    far = X * 2 + 5
    refresh(model, (far, None))
    np.testing.assert_allclose(to_numpy(first.moving_mean), far.mean(0), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(first.moving_variance), far.var(0), rtol=1e-4)
    np.testing.assert_allclose(to_numpy(first.moving_stddev), np.sqrt(far.var(0) + first.epsilon), rtol=1e-4)
    np.testing.assert_allclose(to_numpy(second.moving_mean), 0, atol=1e-5)
    np.testing.assert_allclose(to_numpy(second.moving_variance), far.var(0) / (far.var(0) + 1e-3), rtol=1e-4)
    assert first.renorm
