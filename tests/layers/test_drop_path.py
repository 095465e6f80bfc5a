import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, raises_received, to_numpy
from keras import ops
from stochastic import training_calls

from keras_reg import Strength
from keras_reg.layers import DropPath, drop_path_rates


def data(count, shape=(3, 2)):
    return np.random.default_rng(0).uniform(1, 2, (count, *shape)).astype("float32")


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, Strength(0.3)])
@pytest.mark.parametrize("shape", [(), (4,), (3, 2, 2)])
def test_whole_examples_drop_and_the_others_are_scaled(rate, shape):
    """The share that drops is within 5 standard errors of the rate."""
    x = data(4000, shape)
    y = training_calls(DropPath(rate, seed=1), x)
    number = getattr(rate, "value", rate)
    dropped = (y.reshape(4000, -1) == 0).all(1)
    np.testing.assert_allclose(y[~dropped], x[~dropped] / (1 - number), rtol=1e-6)
    assert abs(dropped.mean() - number) < 5 * np.sqrt(number * (1 - number) / 4000)


def test_examples_and_calls_are_independent():
    """Neighbours, and the same example in the next call: correlations within 5 standard errors of 0."""
    dropped = training_calls(DropPath(0.5, seed=1), data(3000, ()), 2) == 0
    limit = 5 / np.sqrt(3000)
    assert abs(np.corrcoef(dropped[0], dropped[1])[0, 1]) < limit
    assert abs(np.corrcoef(dropped[0, 1:], dropped[0, :-1])[0, 1]) < limit


def test_identity_in_inference_and_at_rate_0():
    x = ops.convert_to_tensor(data(5))
    for y in (DropPath(0.5)(x), DropPath(0.5)(x, training=False), DropPath(0)(x, training=True)):
        np.testing.assert_array_equal(to_numpy(y), to_numpy(x))


def test_what_is_dropped_is_gone_for_good():
    """Not even a NaN gets through."""
    y = training_calls(DropPath(0.5, seed=1), np.full((100, 2), np.nan, "float32"))
    kept = np.isnan(y).all(1)
    assert 20 < kept.sum() < 80 and (y[~kept] == 0).all()


@pytest.mark.parametrize("rate", [1, Strength(1.0)])
@pytest.mark.parametrize("mode", ["sample", "batch"])
def test_at_rate_1_nothing_is_left(rate, mode, dtype_policy):
    """As `keras.layers.Dropout(1.0)` and torchvision's: 0, with gradients of 0 and no NaN."""
    x = keras.Variable(data(5))
    layer = DropPath(rate, mode)
    assert (to_numpy(layer(to_numpy(x), training=True)) == 0).all()
    found = gradients(lambda: ops.sum(ops.square(layer(x * 1.0, training=True))), [x])[0]
    np.testing.assert_array_equal(found, np.zeros((5, 3, 2)))
    np.testing.assert_array_equal(to_numpy(layer(to_numpy(x))), to_numpy(ops.cast(x, layer.compute_dtype)))


def test_a_rate_near_1_in_half_precision_has_finite_gradients():
    """1 / (1 - rate) is beyond float16 here, which must not reach what is dropped."""
    x = keras.Variable(data(5))
    layer = DropPath(0.9999999, dtype="float16")
    found = gradients(lambda: ops.sum(layer(x * 1.0, training=True)), [x])[0]
    np.testing.assert_array_equal(found, np.zeros((5, 3, 2)))


def test_one_draw_for_the_whole_batch():
    """400 calls: all examples drop or none does, the share of calls within 5 standard errors of the rate."""
    x = data(4)
    layer = DropPath.from_config(DropPath(0.3, mode="batch", seed=1).get_config())
    found = training_calls(layer, x, 400)
    dropped = (found == 0).reshape(400, 4, -1)
    assert (dropped.all((1, 2)) | ~dropped.any((1, 2))).all()
    assert abs(dropped.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 400)
    np.testing.assert_allclose(found[~dropped[:, 0, 0]][0], x / 0.7, rtol=1e-6)


def test_gradients():
    x = keras.Variable(data(50))
    y = training_calls(DropPath(0.5, seed=1), to_numpy(x))
    layer = DropPath(0.5, seed=1)
    found = gradients(lambda: ops.sum(ops.square(layer(x, training=True))), [x])[0]
    assert_close(found, 2 * 2 * y, rtol=1e-6)


def test_dtypes(dtype_policy):
    layer = DropPath(Strength(0.5), seed=1)
    y = layer(data(50), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    assert set(np.unique(to_numpy(y) == 0)) == {True, False}


def test_a_strength_moves_without_a_new_compilation():
    layer = DropPath(Strength(0.5), seed=1)
    inputs = keras.Input((2,))
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Model(inputs, total(layer(inputs)))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=BACKEND == "jax")
    x, y = np.ones((200, 2), "float32"), np.full((200, 1), 2.0, "float32")
    assert model.train_on_batch(x, y) > 1
    layer.weights[0].assign(0.0)
    model.reset_metrics()  # or an older Keras returns the mean of both steps
    assert model.train_on_batch(x, y) == 0


def test_rates_grow_linearly():
    assert drop_path_rates(0.3, 4) == [0.0, 0.1, 0.2, 0.3]
    assert drop_path_rates(0.3, 1) == [0.3]
    assert drop_path_rates(Strength(0.2), 3) == [Strength(0.0), Strength(0.1), Strength(0.2)]
    np.testing.assert_allclose(drop_path_rates(0.17, 12), np.linspace(0, 0.17, 12), rtol=1e-9)
    for bad in ({"rate": 1.01, "depth": 3}, {"rate": -0.1, "depth": 3}):
        with raises_received("rate"):
            drop_path_rates(**bad)
    with raises_received("depth"):
        drop_path_rates(0.1, 0)
