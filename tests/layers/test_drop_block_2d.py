import keras
import numpy as np
import pytest
from harness import assert_close, gradients, jit, only, to_numpy
from keras import ops
from scipy import ndimage
from stochastic import training_calls

from keras_reg import Strength
from keras_reg.layers import DropBlock2D

SHAPES = [
    (14, 14, 7),
    (10, 6, 3),
    (9, 13, 4),
    (8, 8, 7),
    (5, 4, 7),
    (1, 9, 2),
    (12, 3, 5),
    (6, 6, 1),
]  # the last: block


def ones(count, height, width, channels):
    return np.ones((count, height, width, channels), "float32")


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
@pytest.mark.parametrize(("height", "width", "block"), SHAPES)
def test_the_share_of_dropped_units_is_the_rate(height, width, block, rate):
    """Over 8000 independent maps, within 5 standard errors as measured between maps: below 0.03 everywhere."""
    y = training_calls(DropBlock2D(rate, block, seed=1), ones(500, height, width, 16))
    shares = (y == 0).mean((1, 2)).ravel()
    error = shares.std() / np.sqrt(shares.size)
    assert error < 0.006
    assert abs(shares.mean() - rate) < 5 * error


@pytest.mark.parametrize(("height", "width", "block"), SHAPES[:5])
def test_the_expectation_of_every_unit_is_kept(height, width, block):
    """Mean over 8000 maps of each position, border and middle, within 5 standard errors of 1."""
    y = training_calls(DropBlock2D(0.3, block, seed=2), ones(500, height, width, 16))
    y = np.moveaxis(y, -1, 1).reshape(8000, height, width)
    assert (np.abs(y.mean(0) - 1) < 5 * y.std(0) / np.sqrt(8000)).all()


@pytest.mark.parametrize(("height", "width", "block"), SHAPES)
def test_what_drops_is_a_union_of_whole_blocks(height, width, block):
    """Oracle: the morphological opening by a block, of scipy. Blocks start at each position equally often."""
    y = training_calls(DropBlock2D(0.2, block, seed=3), ones(200, height, width, 4))
    shape = (min(block, height), min(block, width))
    for dropped in np.moveaxis(y == 0, -1, 1).reshape(-1, height, width)[:200]:
        opened = ndimage.binary_opening(dropped, np.ones(shape)) if dropped.any() else dropped
        np.testing.assert_array_equal(opened, dropped)


def test_blocks_start_everywhere_alike():
    """At a low rate nearly every map has one block or none: chi-square over the 8 x 4 positions."""
    from scipy import stats

    y = training_calls(DropBlock2D(0.02, 3, seed=4), ones(2000, 10, 6, 8))
    dropped = np.moveaxis(y == 0, -1, 1).reshape(-1, 10, 6)
    single = dropped[dropped.sum((1, 2)) == 9]
    starts = single.reshape(len(single), -1).argmax(1)
    counts = np.bincount(starts, minlength=60).reshape(10, 6)
    assert counts[8:].sum() == counts[:, 4:].sum() == 0
    assert stats.chisquare(counts[:8, :4].ravel()).pvalue > 1e-4


def test_channels_have_their_own_blocks_or_share_them():
    own = training_calls(DropBlock2D(0.5, 3, seed=1), ones(50, 8, 8, 4)) == 0
    shared = training_calls(DropBlock2D(0.5, 3, per_channel=False, seed=1), ones(50, 8, 8, 4)) == 0
    assert (own[..., 0] != own[..., 1]).any()
    assert (shared == shared[..., :1]).all()
    assert (shared[0] != shared[1]).any()


@pytest.mark.parametrize("per_channel", [True, False])
def test_channels_first(per_channel):
    arguments = {"rate": 0.3, "block_size": 3, "per_channel": per_channel, "seed": 1}
    y = training_calls(DropBlock2D(**arguments, data_format="channels_first"), np.ones((200, 4, 9, 6), "float32"))
    dropped = y == 0
    shares = dropped.mean((2, 3)) if per_channel else dropped[:, :1].mean((2, 3))
    assert abs(shares.mean() - 0.3) < 5 * shares.std() / np.sqrt(shares.size)
    assert (dropped == dropped[:, :1]).all() != per_channel
    for one in dropped[:20].reshape(-1, 9, 6):
        np.testing.assert_array_equal(ndimage.binary_opening(one, np.ones((3, 3))), one)


def test_identity_in_inference_and_at_rate_0():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype("float32")
    for y in (DropBlock2D(0.5, 3)(x), DropBlock2D(0.0, 3)(x, training=True)):
        np.testing.assert_array_equal(to_numpy(y), x)


@pytest.mark.parametrize(("height", "width", "block"), [(14, 10, 7), (5, 4, 7)])
def test_a_strength_is_solved_for_as_the_number_is(height, width, block):
    x = ones(20, height, width, 4)
    number = training_calls(DropBlock2D(0.3, block, seed=1), x)
    layer = DropBlock2D(Strength(0.3), block, seed=1)
    assert_close(training_calls(layer, x), number, rtol=1e-5)
    layer.weights[0].assign(0.0)
    np.testing.assert_array_equal(training_calls(layer, x), x)


@only("tensorflow", why="Others know every size when they compile.")
@pytest.mark.parametrize("block", [3, 7])
def test_sizes_unknown_to_the_graph(block):
    import tensorflow as tf

    for sizes in ([None] * 4, [None, None, 6, 4], [None, 10, None, 4]):
        sizes[3] = 4
        layer, same = DropBlock2D(0.3, block, seed=1), DropBlock2D(0.3, block, seed=1)
        call = tf.function(lambda t, layer=layer: layer(t, training=True), input_signature=[tf.TensorSpec(sizes)])
        x = ones(20, 10, 6, 4)
        assert_close(call(x), tf.function(lambda t, layer=same: layer(t, training=True))(x), rtol=1e-5)


def test_gradients_and_what_is_dropped_is_gone_for_good():
    values = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype("float32")
    y = training_calls(DropBlock2D(0.3, 3, seed=1), values)
    x, layer = keras.Variable(values), DropBlock2D(0.3, 3, seed=1)
    found = gradients(lambda: ops.sum(layer(x, training=True)), [x])[0]
    assert_close(found * values, y, rtol=1e-5)
    poisoned = training_calls(DropBlock2D(0.3, 3, seed=1), np.full_like(values, np.nan))
    np.testing.assert_array_equal(np.isnan(poisoned), y != 0)


def test_dtypes(dtype_policy):
    layer = DropBlock2D(0.3, 3, seed=1)
    y = layer(ones(8, 8, 8, 2), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    keras.config.set_dtype_policy("float32")
    full = DropBlock2D(0.3, 3, seed=1)(ones(8, 8, 8, 2), training=True)
    assert_close(y, full, rtol=1e-2 if dtype_policy == "bfloat16" else 1e-3)


def test_extreme_rates_stay_finite():
    keras.config.set_dtype_policy("mixed_float16")
    x = np.zeros((8, 14, 10, 4), "float32")
    for rate in (0.99, Strength(0.99)):
        np.testing.assert_array_equal(training_calls(DropBlock2D(rate, 7), x), x)
    # A gradient of inf * 0 would be NaN, also where `where` takes the other side.
    variable, layer = keras.Variable(x, dtype="float16"), DropBlock2D(0.99, 7)
    assert np.isfinite(gradients(lambda: ops.sum(layer(variable, training=True)), [variable])[0]).all()


def test_compiled_calls_differ():
    layer = DropBlock2D(0.3, 3, seed=1)
    call = jit(lambda t: layer(t, training=True), layer)
    x = ops.convert_to_tensor(ones(4, 8, 8, 2))
    assert (to_numpy(call(x)) != to_numpy(call(x))).any()


@pytest.mark.parametrize("shape", [(14, 12, 7, 10), (6, 9, 7, 10), (8, 5, 9, 2)])
def test_blocks_of_two_sides(shape):
    """The share within 5 standard errors of the rate; what drops is a union of blocks of `block_size`."""
    height, width, *sides = shape
    y = training_calls(DropBlock2D(0.4, tuple(sides), seed=1), ones(500, height, width, 8))
    shares = (y == 0).mean((1, 2)).ravel()
    assert abs(shares.mean() - 0.4) < 5 * shares.std() / np.sqrt(shares.size)
    block = np.ones((min(sides[0], height), min(sides[1], width)))
    for dropped in np.moveaxis(y == 0, -1, 1).reshape(-1, height, width)[:100]:
        opened = ndimage.binary_opening(dropped, block) if dropped.any() else dropped
        np.testing.assert_array_equal(opened, dropped)
    mean = np.moveaxis(y, -1, 1).reshape(-1, height, width)
    assert (np.abs(mean.mean(0) - 1) < 5 * mean.std(0) / np.sqrt(len(mean))).all()


def test_equal_sides_are_one_number():
    x = ones(20, 8, 9, 2)
    one, pair = (training_calls(DropBlock2D(0.3, size, seed=1), x) for size in (3, (3, 3)))
    np.testing.assert_array_equal(one, pair)
    assert DropBlock2D(0.3, np.array([7, 10])).block_size == [7, 10]


@pytest.mark.parametrize("strength", [False, True])
def test_rates_near_1_are_met(strength):
    """On maps whose units are covered most unequally. 3000 maps; at 0.999 some 600 units of 600,000 are kept."""
    rate = Strength(0.999) if strength else 0.999
    y = training_calls(DropBlock2D(rate, (5, 7), seed=1), ones(300, 10, 20, 10))
    kept = (y != 0).sum((1, 2)).ravel()
    assert abs(kept.mean() - 0.2) < 5 * kept.std() / np.sqrt(3000)


@pytest.mark.parametrize("rate", [1.0, Strength(1)])
def test_at_rate_1_nothing_is_left(rate, dtype_policy):
    x = keras.Variable(np.full((3, 6, 5, 2), 7.0, "float32"))
    layer = DropBlock2D(rate, (2, 3))
    assert (to_numpy(layer(to_numpy(x), training=True)) == 0).all()
    found = gradients(lambda: ops.sum(ops.square(layer(x * 1.0, training=True))), [x])[0]
    np.testing.assert_array_equal(found, np.zeros(x.shape))
