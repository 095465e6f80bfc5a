import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, jit, raises_received, to_numpy
from keras import ops
from stochastic import training_calls

from keras_reg.layers import GhostBatchNormalization


def maps(count, seed=0, shape=(4, 3, 2)):
    return np.random.default_rng(seed).normal(1, 2, (count, *shape)).astype("float32")


def with_weights(layer, x, seed=3):
    layer.build(x.shape)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in layer.get_weights()])
    return layer


def plain_on(part, **arguments):
    return training_calls(with_weights(keras.layers.BatchNormalization(**arguments), part), part)


@pytest.mark.parametrize(("count", "size"), [(12, 4), (10, 4), (9, 4), (7, 3), (5, 1)])
@pytest.mark.parametrize("shape", [(5,), (4, 3, 2)])
def test_each_part_is_normalized_as_a_batch_of_its_own(count, size, shape, dtype_policy):
    """Oracle: `keras.layers.BatchNormalization` on each part, the last one smaller."""
    x = maps(count, shape=shape)
    y = training_calls(with_weights(GhostBatchNormalization(size), x), x)
    expected = np.concatenate([plain_on(x[i : i + size]) for i in range(0, count, size)])
    tolerance = {"float32": 1e-5, "mixed_float16": 2e-3, "bfloat16": 2e-2}[dtype_policy]
    assert_close(y, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_every_axis(axis):
    x = maps(10, shape=(5, 3, 4))
    y = training_calls(with_weights(GhostBatchNormalization(4, axis=axis), x), x)
    expected = np.concatenate([plain_on(x[i : i + 4], axis=axis) for i in (0, 4, 8)])
    assert_close(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"scale": False}, {"center": False}, {"scale": False, "center": False}])
def test_without_scale_or_center(arguments):
    x = maps(6)
    y = training_calls(with_weights(GhostBatchNormalization(3, **arguments), x), x)
    assert_close(y, np.concatenate([plain_on(x[i : i + 3], **arguments) for i in (0, 3)]), rtol=1e-5, atol=1e-5)


def test_one_part_is_the_plain_layer_to_the_bit():
    for size in (8, 20):
        x = maps(8)
        layer, plain = (with_weights(c, x) for c in (GhostBatchNormalization(size), keras.layers.BatchNormalization()))
        np.testing.assert_array_equal(training_calls(layer, x), training_calls(plain, x))
        assert_close(layer.get_weights(), plain.get_weights(), rtol=0, atol=0)


def test_inference_and_frozen_are_the_plain_layer_to_the_bit(dtype_policy):
    x = maps(8)
    layer, plain = (with_weights(c, x) for c in (GhostBatchNormalization(4), keras.layers.BatchNormalization()))
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(plain(x)))
    layer.trainable = False
    np.testing.assert_array_equal(to_numpy(layer(x, training=True)), to_numpy(plain(x)))


@pytest.mark.parametrize("count", [12, 10])
def test_moving_statistics_make_one_step_of_the_means_over_the_parts(count):
    """A step goes as far as the plain layer's; parts count by their size."""
    x = maps(count)
    layer = GhostBatchNormalization(4, momentum=0.9)
    training_calls(layer, x)
    parts = [x[i : i + 4].astype("float64") for i in range(0, count, 4)]
    share = np.array([len(p) for p in parts])[:, None] / count
    mean = (share * [p.mean((0, 1, 2)) for p in parts]).sum(0)
    variance = (share * [p.var((0, 1, 2)) for p in parts]).sum(0)
    assert_close(layer.moving_mean, (0.1 * mean).astype("float32"), rtol=1e-5)
    assert_close(layer.moving_variance, (0.9 + 0.1 * variance).astype("float32"), rtol=1e-5)


def test_equal_parts_move_as_the_plain_layer():
    x = np.tile(maps(4), (8, 1, 1, 1))
    layer, plain = GhostBatchNormalization(4, momentum=0.7), keras.layers.BatchNormalization(momentum=0.7)
    training_calls(layer, x, 3), training_calls(plain, x, 3)
    assert_close(layer.get_weights(), plain.get_weights(), rtol=1e-5, atol=1e-6)


def test_variance_far_from_zero():
    x = 3000 + np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    y = training_calls(GhostBatchNormalization(16), x)
    np.testing.assert_allclose(y.reshape(4, 16, 2).std(1), 1, atol=2e-2)


def test_masked_positions_do_not_count():
    """Sequences of different lengths; the third part is masked as a whole."""
    x = np.random.default_rng(0).normal(1, 2, (6, 7, 2)).astype("float32")
    mask = np.arange(7) < np.array([7, 3, 1, 4, 0, 0])[:, None]
    poisoned = np.where(mask[..., None], x, 1e6).astype("float32")
    layer = GhostBatchNormalization(2, momentum=0.0)
    y = training_calls(layer, poisoned, mask=mask)
    parts = [x[i : i + 2][mask[i : i + 2]].astype("float64") for i in (0, 2)]
    for i, part in enumerate(parts):
        expected = (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3)
        assert_close(y[2 * i : 2 * i + 2][mask[2 * i : 2 * i + 2]], expected.astype("float32"), rtol=1e-4, atol=1e-4)
    mean = (10 * parts[0].mean(0) + 5 * parts[1].mean(0)) / 15
    assert_close(layer.moving_mean, mean.astype("float32"), rtol=1e-4)


def test_gradients_stay_within_a_part():
    """Oracle: the gradients of the plain layer on each part."""
    x = maps(6)
    weight = ops.convert_to_tensor(maps(6, seed=1))
    variable = keras.Variable(x)
    layer = with_weights(GhostBatchNormalization(4), x)
    found = gradients(lambda: ops.sum(layer(variable, training=True) * weight), [variable])[0]
    for rows in (slice(0, 4), slice(4, 6)):
        part = keras.Variable(x[rows])
        plain = with_weights(keras.layers.BatchNormalization(), x[rows])
        expected = gradients(
            lambda part=part, plain=plain, rows=rows: ops.sum(plain(part, training=True) * weight[rows]), [part]
        )
        assert_close(found[rows], expected[0], rtol=1e-4, atol=1e-4)


def test_a_compiled_call_takes_every_batch_size():
    layer = GhostBatchNormalization(4)
    layer.build((None, 4, 3, 2))
    call = jit(lambda t: layer(t, training=True), layer, dynamic_batch=True)
    for count in (10, 8, 3, 1):
        x = maps(count)
        assert_close(call(ops.convert_to_tensor(x)), training_calls(GhostBatchNormalization(4), x), atol=1e-5)


def test_fit_and_weights_pass_both_ways():
    layer = GhostBatchNormalization(4)
    inputs = keras.Input((4, 3, 2))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(layer(inputs))))
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    model.fit(maps(10), np.ones((10, 1), "float32"), batch_size=10, verbose=0)
    plain = keras.layers.BatchNormalization()
    plain.build((None, 4, 3, 2))
    plain.set_weights(layer.get_weights())
    np.testing.assert_array_equal(to_numpy(plain(maps(3))), to_numpy(layer(maps(3))))
    layer.set_weights(plain.get_weights())


def test_bad_arguments_of_the_plain_layer():
    with raises_received("axis"):
        GhostBatchNormalization(axis=0).build((4, 3))
    for name in ("synchronized", "renorm"):
        with raises_received(name):
            GhostBatchNormalization(**{name: True})
