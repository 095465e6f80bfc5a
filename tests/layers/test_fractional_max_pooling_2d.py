import itertools
import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, jit, only, raises_received, to_numpy
from keras import ops
from scipy import stats
from stochastic import training_calls

from keras_reg.layers import FractionalMaxPooling2D


def ramps(height, width):
    """Two channels, the number of the row and that of the column: their maxima are the ends of the regions."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([rows, columns], -1)[None].astype("float32")


def ends(height, width, count, **arguments):
    """The boundaries a_1, ..., a_n = size (exclusive ends) of rows and of columns, drawn `count` times."""
    y = training_calls(FractionalMaxPooling2D(**arguments), ramps(height, width), count)[:, 0]
    assert (y[..., 0] == y[:, :, :1, 0]).all() and (y[..., 1] == y[:, :1, :, 1]).all()
    return y[:, :, 0, 0].astype(int) + 1, y[:, 0, :, 1].astype(int) + 1


def of_the_paper(size, count):
    """Every sequence ceil(alpha (i + u)) - 1 that starts at 0: u steps through (0, 1 / alpha], in exact fractions."""
    alpha = Fraction(size, count)
    us = [Fraction(2 * k + 1, 2 * count) / alpha for k in range(count)]
    return [tuple(math.ceil(alpha * (i + u)) - 1 for i in range(1, count + 1)) for u in us]


SIDES = [(14, 1.5), (25, math.sqrt(2)), (17, 1.2), (32, 1.44), (12, 2), (9, 1), (10, 1.9)]


@pytest.mark.parametrize(("size", "ratio"), SIDES)
def test_pseudo_random_regions_are_those_of_the_paper(size, ratio):
    """And all of them come, alike often: chi-square over the distinct sequences."""
    count = int(size / ratio)
    expected = of_the_paper(size, count)
    rows, columns = ends(size, size, 300, pool_ratio=ratio, seed=1)
    for sequences in (rows, columns):
        found = [tuple(s) for s in sequences.tolist()]
        assert set(found) <= set(expected)
        distinct = sorted(set(expected))
        observed = [found.count(s) for s in distinct]
        weights = np.array([expected.count(s) for s in distinct]) / len(expected)
        if len(distinct) > 1:
            assert stats.chisquare(observed, weights * 300).pvalue > 1e-4


@pytest.mark.parametrize("pseudo_random", [True, False])
@pytest.mark.parametrize(("size", "ratio"), SIDES)
def test_regions_cover_the_side_in_steps_of_one_or_two(size, ratio, pseudo_random):
    rows, _ = ends(size, size, 60, pool_ratio=ratio, pseudo_random=pseudo_random, seed=2)
    steps = np.diff(rows, axis=1, prepend=0)
    assert rows.shape[1] == int(size / ratio)
    assert (rows[:, -1] == size).all()
    assert steps.min() >= 1 and steps.max() <= (3 if size > 2 * rows.shape[1] else 2)


def test_random_steps_come_in_every_order_alike():
    """8 rows to 5: three steps of 2 and two of 1, in 10 orders. Chi-square over 2000 draws."""
    rows, columns = ends(8, 8, 2000, pool_ratio=1.6, pseudo_random=False, seed=1)
    orders = list(itertools.product([1, 2], repeat=5))
    orders = [o for o in orders if sum(o) == 8]
    for sequences in (rows, columns):
        found = [tuple(s) for s in np.diff(sequences, axis=1, prepend=0).tolist()]
        assert stats.chisquare([found.count(o) for o in orders]).pvalue > 1e-4


def test_rows_and_columns_are_drawn_on_their_own():
    """There are 13 sequences, equally likely, so one in 13 calls has the same one twice."""
    rows, columns = ends(17, 17, 200, pool_ratio=1.3, seed=1)
    assert len(np.unique(rows, axis=0)) == 13
    assert stats.binomtest(int((rows == columns).all(1).sum()), 200, 1 / 13).pvalue > 1e-4


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("pseudo_random", [False, True])
def test_maxima_over_the_regions(pseudo_random, overlapping, dtype_policy):
    """Oracle: NumPy, over the regions that the same seed gives on ramps."""
    x = np.random.default_rng(0).normal(size=(3, 13, 10, 2)).astype("float32")
    arguments = {"pool_ratio": (1.4, 1.7), "pseudo_random": pseudo_random, "seed": 3}
    rows, columns = (e[0] for e in ends(13, 10, 1, **arguments))
    y = training_calls(FractionalMaxPooling2D(**arguments, overlapping=overlapping), x)
    x = to_numpy(ops.cast(x, keras.config.dtype_policy().compute_dtype))
    more = int(overlapping)
    for i, j in np.ndindex(len(rows), len(columns)):
        top, left = (0 if i == 0 else rows[i - 1]), (0 if j == 0 else columns[j - 1])
        region = x[:, top : rows[i] + more, left : columns[j] + more]
        np.testing.assert_array_equal(y[:, i, j], region.max((1, 2)))


@only("tensorflow", why="The oracle is TensorFlow's own operation.")
@pytest.mark.parametrize("overlapping", [False, True])
def test_same_shapes_and_kinds_of_regions_as_tensorflow(overlapping):
    """TensorFlow's random sequences hold the same steps; its pooling by them equals ours by ours, by ramps."""
    import tensorflow as tf

    for size, ratio in SIDES[:4]:
        x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
        theirs, rows, _ = tf.nn.fractional_max_pool(x, [1, ratio, ratio, 1], False, overlapping, seed=1)
        layer = FractionalMaxPooling2D(ratio, pseudo_random=False, overlapping=overlapping, seed=1)
        assert layer(x, training=True).shape == theirs.shape
        ours, _ = ends(size, size, 1, pool_ratio=ratio, pseudo_random=False, seed=1)
        assert sorted(np.diff(rows.numpy())) == sorted(np.diff(ours[0], prepend=0))


def test_channels_first():
    x = np.random.default_rng(0).normal(size=(3, 9, 14, 2)).astype("float32")
    arguments = {"pool_ratio": (1.4, 1.7), "overlapping": True, "seed": 3}
    last = training_calls(FractionalMaxPooling2D(**arguments), x)
    first = training_calls(FractionalMaxPooling2D(**arguments, data_format="channels_first"), np.moveaxis(x, -1, 1))
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), last)


@pytest.mark.parametrize("pseudo_random", [True, False])
def test_inference_is_one_fixed_pooling(pseudo_random):
    """By one of the paper's sequences, whichever way the layer trains."""
    layer = FractionalMaxPooling2D(1.5, pseudo_random=pseudo_random)
    y = to_numpy(layer(ramps(14, 14)))
    np.testing.assert_array_equal(y, to_numpy(layer(ramps(14, 14))))
    assert tuple((y[0, :, 0, 0] + 1).astype(int)) in of_the_paper(14, 9)
    np.testing.assert_array_equal(y[0, :, 0, 0], y[0, 0, :, 1])


def test_ratio_2_is_max_pooling_and_ratio_1_the_identity():
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype("float32")
    y = FractionalMaxPooling2D(2)(x, training=True)
    np.testing.assert_array_equal(to_numpy(y), to_numpy(keras.layers.MaxPooling2D()(x)))
    np.testing.assert_array_equal(to_numpy(FractionalMaxPooling2D(1)(x, training=True)), x)


def test_sizes():
    """33 / 1.1 is 30, which floats miss; a side is never empty."""
    assert FractionalMaxPooling2D(1.1).compute_output_shape((None, 33, None, 4)) == (None, 30, None, 4)
    assert FractionalMaxPooling2D((1.5, 2)).compute_output_shape((2, 1, 1, 4)) == (2, 1, 1, 4)
    np.testing.assert_array_equal(to_numpy(FractionalMaxPooling2D(1.9)(ramps(3, 1), training=True)), ramps(3, 1)[:, 2:])


@pytest.mark.parametrize("training", [False, True])
def test_a_side_whose_products_exceed_32_bits(training):
    """Audio as (batch, time, 1, channels)."""
    x = np.arange(90000, dtype="float32").reshape(1, -1, 1, 1)
    y = to_numpy(FractionalMaxPooling2D((1.5, 1), seed=1)(x, training=training))[0, :, 0, 0]
    assert len(y) == 60000 and y[-1] == 89999 and set(np.diff(y, prepend=-1)) == {1, 2}


def test_gradients_go_to_the_maxima():
    x = np.random.default_rng(0).permutation(8 * 7).reshape(1, 8, 7, 1).astype("float32")
    variable = keras.Variable(x)
    layer = FractionalMaxPooling2D(1.5, overlapping=True, seed=1)
    y = training_calls(FractionalMaxPooling2D(1.5, overlapping=True, seed=1), x)
    found = gradients(lambda: ops.sum(layer(variable, training=True)), [variable])[0]
    values, times = np.unique(y, return_counts=True)
    expected = np.zeros(56, "float32")
    expected[values.astype(int)] = times
    assert_close(found, expected[x.astype(int)], atol=1e-6)


@pytest.mark.parametrize("pseudo_random", [True, False])
def test_compiled_training(pseudo_random):
    layer = FractionalMaxPooling2D(1.3, pseudo_random=pseudo_random, seed=1)
    inputs = keras.Input((17, 17, 2))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(layer(inputs))))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=BACKEND != "torch")
    x = np.random.default_rng(0).normal(size=(4, 17, 17, 2)).astype("float32")
    losses = {float(model.train_on_batch(x, np.zeros((4, 1), "float32"))) for _ in range(3)}
    assert len(losses) == 3


@only("tensorflow", why="Others know every size when they compile.")
@pytest.mark.parametrize("pseudo_random", [True, False])
def test_sizes_unknown_to_the_graph(pseudo_random):
    import tensorflow as tf

    for size, ratio in SIDES:
        layer, same = (FractionalMaxPooling2D(ratio, pseudo_random, seed=1) for _ in range(2))
        spec = tf.TensorSpec([None, None, None, 2])
        call = tf.function(lambda t, layer=layer: layer(t, training=True), input_signature=[spec])
        expected = jit(lambda t, layer=same: layer(t, training=True))(ramps(size, size))
        np.testing.assert_array_equal(to_numpy(call(ramps(size, size))), to_numpy(expected))
    for count in (480, 960, 1800):  # 1.1 times this is a side whose quotient float32 does not represent
        image, layer = np.zeros((1, count * 11 // 10, 1, 2), "float32"), FractionalMaxPooling2D((1.1, 1), pseudo_random)
        assert tf.function(layer, input_signature=[spec])(image).shape[1] == count == layer(image).shape[1]


@pytest.mark.parametrize("bad", [0.5, 2.5, (1.5,), (1.5, 3), "half", None, float("nan")])
def test_bad_ratios(bad):
    with raises_received("pool_ratio"):
        FractionalMaxPooling2D(bad)


@only("tensorflow", "torch", why="JAX has no float64 here")
def test_float64_keeps_its_digits():
    """Pixels that float32 cannot tell apart, and NaN: each is in some region, so that the largest comes out."""
    x = 1 + np.random.default_rng(0).permutation(30).reshape(1, 6, 5, 1) * 1e-12
    y = to_numpy(FractionalMaxPooling2D(2, dtype="float64")(ops.cast(x, "float64"), training=True))
    assert y.dtype == "float64" and y.max() == x.max() and np.isin(y, x).all()
    x[0, 3, 2, 0] = np.nan
    assert np.isnan(to_numpy(FractionalMaxPooling2D(2, dtype="float64")(ops.cast(x, "float64")))).any()
