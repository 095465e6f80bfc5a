import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, raises_received, run_in_fresh_process, to_numpy
from keras import ops
from stochastic import training_calls

from keras_reg import Strength
from keras_reg.layers import NoisyBatchNormalization

EPSILON = 1e-3


def maps(kind, count, seed=0):
    """Populations of (count, 4, 3, 3) whose batch moments behave in different ways."""
    rng = np.random.default_rng(seed)
    if kind == "independent":
        return rng.normal(1, 2, (count, 4, 3, 3)).astype("float32")
    # One strong level for each example beside weaker noise: positions are far from independent.
    level = rng.normal(0, 1.5, (count, 1, 1, 3)) + rng.normal(0, 1, (count, 4, 1, 3))
    x = level + rng.normal(0, 0.7, (count, 4, 3, 3)) + 0.5
    return (np.maximum(x, 0) if kind == "relu" else x).astype("float32")


def used_moments(x, y):
    """The mean and variance per channel by which `y` was made from `x` (gamma 1, beta 0): y = (x - mean) * slope.

    `y` may hold many calls along a first axis of its own.
    """
    x = np.asarray(x, "float64").reshape(-1, x.shape[-1])
    y = np.asarray(y, "float64").reshape(-1, *x.shape)
    slope = y.std(1) / x.std(0)
    return (x.mean(0) - y.mean(1) / slope).squeeze(), (1 / slope**2 - EPSILON).squeeze()


def with_weights(layer, x, seed=3):
    """Builds the layer and gives it weights that nothing cancels with."""
    layer.build(x.shape)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in layer.get_weights()])
    return layer


# Statistics noise.


@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("kind", ["independent", "correlated", "relu"])
def test_statistics_are_those_of_real_sub_batches(kind, size):
    """Deviation of mean and variance, and their correlation, against NumPy moments of real sub-batches.

    The deviation of a deviation over 800 draws is its value times 0.025 for normal numbers, and up to twice that for
    the heavier tails here: 20 % and 0.15 are four of them. A Gaussian formula that takes positions as independent is
    off by factors of 1.5 to 3, and finds no correlation where it is 0.8 after the ReLU.
    """
    x = maps(kind, 200)
    layer = NoisyBatchNormalization(noise="statistics", virtual_batch_size=size, epsilon=EPSILON, seed=1)
    found = np.stack(used_moments(x, training_calls(layer, x, 800)), 1)  # (draws, 2, channels)
    batches = x[np.random.default_rng(5).integers(0, len(x), (6000, size))]
    expected = np.stack([batches.mean((1, 2, 3)), batches.var((1, 2, 3))], 1)
    for channel in range(3):
        f, e = found[:, :, channel], expected[:, :, channel]
        error = e.std(0) * np.sqrt(1 / len(f) + 1 / len(e))
        assert (np.abs(f.mean(0) - e.mean(0)) < 5 * error).all()
        np.testing.assert_allclose(f.std(0), e.std(0), rtol=0.2)
        assert abs(np.corrcoef(f.T)[0, 1] - np.corrcoef(e.T)[0, 1]) < 0.15


def test_channels_share_their_examples():
    """The moments of two channels move together as they do in real batches: here they are copies of each other."""
    x = np.repeat(maps("correlated", 50)[..., :1], 2, -1)
    layer = NoisyBatchNormalization(noise="statistics", virtual_batch_size=4, seed=1)
    y = training_calls(layer, x)
    np.testing.assert_array_equal(y[..., 0], y[..., 1])


def test_each_call_draws_again():
    x = maps("relu", 32)
    layer = NoisyBatchNormalization(noise="statistics", virtual_batch_size=4, seed=1)
    a, b = (used_moments(x, training_calls(layer, x)) for _ in range(2))
    assert (np.abs(a[0] - b[0]) > 1e-3).all() and (np.abs(a[1] - b[1]) > 1e-3).all()


def test_a_batch_of_equal_examples_has_no_noise():
    x = np.repeat(maps("correlated", 1), 8, 0)
    layer = NoisyBatchNormalization(noise="statistics", virtual_batch_size=4)
    assert_close(training_calls(layer, x), training_calls(keras.layers.BatchNormalization(), x), atol=1e-5)


def test_variance_far_from_zero():
    """Mean 3000, deviation 1: a variance as E[x^2] - E[x]^2 in float32 is off by about 1."""
    x = 3000 + np.random.default_rng(0).normal(size=(512, 2)).astype("float32")
    layer = NoisyBatchNormalization(noise="statistics", virtual_batch_size=256, epsilon=EPSILON, seed=0)
    mean, variance = used_moments(x, training_calls(layer, x))
    assert (np.abs(mean - 3000) < 5 / 16).all()
    assert (np.abs(variance - 1) < 5 * np.sqrt(2 / 256)).all()


def numpy_statistics(x, counts, mask=None):
    """Moments of the drawn examples, in float64."""
    w = np.ones(x.shape[:-1]) if mask is None else mask.astype("float64")
    w = w * counts.reshape(-1, *[1] * (w.ndim - 1))
    axes = tuple(range(x.ndim - 1))
    mean = (w[..., None] * x).sum(axes) / w.sum()
    return mean, (w[..., None] * (x - mean) ** 2).sum(axes) / w.sum()


def test_masked_positions_do_not_count():
    """Sequences of different lengths: the moments are those of the positions of whole sub-batches that count."""
    x = np.random.default_rng(0).normal(1, 2, (4, 7, 2)).astype("float32")
    mask = np.arange(7) < np.array([7, 3, 1, 0])[:, None]
    poisoned = np.where(mask[..., None], x, 1e6).astype("float32")
    layer = NoisyBatchNormalization(noise="statistics", virtual_batch_size=2, epsilon=EPSILON, momentum=0.0, seed=2)
    plain = keras.layers.BatchNormalization(epsilon=EPSILON, momentum=0.0)
    possible = [np.bincount(pair, minlength=4) for pair in np.ndindex(4, 4)]
    possible = [numpy_statistics(x, c, mask) for c in possible if c[:3].any()]
    possible.append(numpy_statistics(x, np.ones(4), mask))  # nothing but the empty example: as without noise
    for y in training_calls(layer, poisoned, 30, mask=mask):
        mean, variance = used_moments(x[mask], y[mask])
        assert min(np.abs(mean - m).max() + np.abs(variance - v).max() for m, v in possible) < 1e-3
    training_calls(plain, poisoned, mask=mask)
    assert_close(layer.get_weights(), plain.get_weights(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_every_axis_is_the_last_one_moved(axis):
    x = maps("correlated", 16)
    last = with_weights(NoisyBatchNormalization(noise="statistics", virtual_batch_size=4, seed=1), x)
    moved = np.moveaxis(x, -1, axis)
    layer = with_weights(NoisyBatchNormalization(noise="statistics", virtual_batch_size=4, seed=1, axis=axis), moved)
    y = training_calls(layer, moved)
    assert_close(np.moveaxis(y, axis, -1), training_calls(last, x), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_drawn_moments():
    """Oracle: central differences of the loss in float64 with the same draw, by NumPy."""
    x = maps("correlated", 5)[:, :2, :2]
    target = np.random.default_rng(1).normal(size=x.shape)
    variable = keras.Variable(x)

    def layer():
        return with_weights(NoisyBatchNormalization(noise="statistics", virtual_batch_size=3, seed=4), x)

    fresh = layer()
    weight = ops.convert_to_tensor(target.astype("float32"))
    found = gradients(lambda: ops.sum(fresh(variable, training=True) * weight), [variable])[0]
    again = layer()
    gamma, beta = (np.asarray(w, "float64") for w in again.get_weights()[:2])
    y = (training_calls(again, x) - beta) / gamma
    mean, variance = used_moments(x, y)
    draws = [np.bincount(t, minlength=5) for t in np.ndindex(5, 5, 5)]
    errors = [np.abs(np.concatenate(numpy_statistics(x, c)) - np.concatenate([mean, variance])).max() for c in draws]
    counts = draws[int(np.argmin(errors))]
    assert min(errors) < 1e-4

    def loss(values):
        mean, variance = numpy_statistics(values, counts)
        return (((values - mean) / np.sqrt(variance + EPSILON) * gamma + beta) * target).sum()

    expected = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-5
        expected[index] = (loss(x.astype("float64") + step) - loss(x.astype("float64") - step)) / 2e-5
    assert_close(found, expected.astype("float32"), rtol=1e-3, atol=1e-4)


# Output noise.


def test_output_noise_is_normal_of_the_given_deviation():
    """Differences from the plain layer, over gamma: 60000 numbers from N(0, 0.3^2), by Kolmogorov and Smirnov."""
    from scipy import stats

    x = maps("relu", 1667)
    layer = with_weights(NoisyBatchNormalization(stddev=0.3, seed=5), x)
    plain = with_weights(keras.layers.BatchNormalization(), x)
    gamma = layer.get_weights()[0]
    noise = (training_calls(layer, x) - training_calls(plain, x)) / gamma / 0.3
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(noise.size / 3)
    again = (training_calls(layer, x) - training_calls(plain, x)) / gamma / 0.3
    assert abs(np.corrcoef(noise.ravel(), again.ravel())[0, 1]) < 5 / np.sqrt(noise.size)


@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False}, {"axis": 1}])
def test_output_noise_goes_before_gamma(arguments):
    x = maps("correlated", 8)
    arguments = {"stddev": 0.3, "seed": 1, **arguments}
    unit, scaled = NoisyBatchNormalization(**arguments), NoisyBatchNormalization(**arguments)
    unit.build(x.shape)
    with_weights(scaled, x)
    values = {w.name: to_numpy(w) for w in scaled.weights}
    shape = [1, -1, 1, 1] if arguments.get("axis") == 1 else [-1]
    expected = training_calls(unit, x)
    if "gamma" in values:
        expected = expected * values["gamma"].reshape(shape)
    if "beta" in values:
        expected = expected + values["beta"].reshape(shape)
    assert_close(training_calls(scaled, x), expected, rtol=1e-5, atol=1e-5)


def test_without_noise_training_is_plain_to_the_bit():
    x = maps("relu", 8)
    layer, plain = NoisyBatchNormalization(stddev=0), keras.layers.BatchNormalization()
    np.testing.assert_array_equal(training_calls(layer, x), training_calls(plain, x))
    assert_close(layer.get_weights(), plain.get_weights(), rtol=0, atol=0)


# What both share with the plain layer.

NOISES = [{"stddev": 0.5}, {"noise": "statistics", "virtual_batch_size": 4}]


@pytest.mark.parametrize("shape", [(16, 5), (8, 4, 3, 5)])
@pytest.mark.parametrize("noise", NOISES)
def test_inference_equals_the_plain_layer_to_the_bit(noise, shape, dtype_policy):
    x = np.random.default_rng(0).normal(2, 3, shape).astype("float32")
    layer = with_weights(NoisyBatchNormalization(**noise), x)
    plain = with_weights(keras.layers.BatchNormalization(), x)
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(plain(x)))
    np.testing.assert_array_equal(to_numpy(layer(x, training=False)), to_numpy(plain(x, training=False)))
    layer.trainable = plain.trainable = False
    frozen = to_numpy(layer(x, training=True))
    np.testing.assert_array_equal(frozen, to_numpy(plain(x, training=True)))
    np.testing.assert_array_equal(frozen, to_numpy(layer(x)))


@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False, "scale": False}])
@pytest.mark.parametrize("noise", NOISES)
def test_weights_pass_both_ways(noise, arguments):
    x = maps("relu", 8)
    layer, plain = NoisyBatchNormalization(**noise, **arguments), keras.layers.BatchNormalization(**arguments)
    with_weights(layer, x), plain.build(x.shape)
    assert [w.name for w in layer.weights] == [w.name for w in plain.weights]
    plain.set_weights(layer.get_weights())
    other = NoisyBatchNormalization(**noise, **arguments)
    other.build(x.shape)
    other.set_weights(plain.get_weights())
    for a, b in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("noise", NOISES)
def test_moving_statistics_are_free_of_the_noise(noise, dtype_policy):
    layer, plain = NoisyBatchNormalization(**noise, momentum=0.7), keras.layers.BatchNormalization(momentum=0.7)
    x = maps("relu", 16)
    training_calls(layer, x, 3), training_calls(plain, x, 3)
    rtol = 1e-2 if dtype_policy == "bfloat16" else 2e-6  # the weights themselves are bfloat16
    assert_close(layer.get_weights(), plain.get_weights(), rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("noise", NOISES)
def test_low_precision_training_computes_in_float32(noise):
    """Deviation 2 at a mean of 600: second moments in float16 would overflow."""
    x = (600 + 2 * np.random.default_rng(0).normal(size=(64, 8, 8, 2))).astype("float16")
    keras.config.set_dtype_policy("mixed_float16")
    half = NoisyBatchNormalization(**noise, seed=1)
    y = training_calls(half, x)
    assert y.dtype == "float16"
    keras.config.set_dtype_policy("float32")
    full = NoisyBatchNormalization(**noise, seed=1)
    assert_close(y.astype("float32"), training_calls(full, x.astype("float32")), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("noise", NOISES)
def test_a_compiled_training_moves_the_weights_and_repeats_nothing(noise):
    x = maps("relu", 32)
    inputs = keras.Input((4, 3, 3))
    layer = NoisyBatchNormalization(**noise, seed=1)
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(layer(inputs))))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=BACKEND != "torch")
    losses = [model.train_on_batch(x, np.ones((32, 1), "float32")) for _ in range(3)]
    assert len({float(value) for value in losses}) == 3
    assert not np.allclose(layer.moving_mean, 0)


def test_a_strength_is_one_more_weight_at_the_end():
    x = maps("relu", 8)
    layer = NoisyBatchNormalization(stddev=Strength(0.5), seed=1)
    layer.build(x.shape)
    assert [w.name for w in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance", "stddev"]
    plain = training_calls(keras.layers.BatchNormalization(), x)
    number = training_calls(NoisyBatchNormalization(stddev=0.5, seed=1), x)
    assert_close(training_calls(layer, x), number, rtol=1e-6, atol=1e-6)
    layer.weights[-1].assign(0.0)
    assert_close(training_calls(layer, x), plain, rtol=1e-6, atol=1e-6)


def test_bad_arguments_that_depend_on_each_other():
    with raises_received("virtual_batch_size"):
        NoisyBatchNormalization(noise="statistics")
    with raises_received("stddev"):
        NoisyBatchNormalization(stddev=Strength(0.1), noise="statistics", virtual_batch_size=8)
    with raises_received("axis"):
        NoisyBatchNormalization(noise="statistics", virtual_batch_size=8, axis=-2).build((4, 3))


REPLICAS = """
import keras, numpy as np, tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_reg.layers import NoisyBatchNormalization

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = np.random.default_rng(0).normal(3, 2, (2, 64, 4)).astype("float32")
for arguments in ({"stddev": 1.0}, {"noise": "statistics", "virtual_batch_size": 4, "synchronized": True}):
    with strategy.scope():
        layer = NoisyBatchNormalization(**arguments, seed=1, momentum=0.0)
        layer.build((None, 4))
    values = strategy.experimental_distribute_values_from_function(
        lambda c: tf.constant(x[c.replica_id_in_sync_group] if "noise" in arguments else x[0])
    )
    run = tf.function(lambda v: strategy.run(lambda t: layer(t, training=True), [v]))
    one, two = (y.numpy() for y in strategy.experimental_local_results(run(values)))
    if "noise" not in arguments:
        one, two = one - one.mean(0), two - two.mean(0)
        assert np.abs(one - two).max() > 0.5, "the replicas draw the same noise"
    else:
        # Moments of both replicas, so that only the noise of each tells their slopes apart.
        np.testing.assert_allclose(layer.moving_mean, x.mean((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(layer.moving_variance, x.var((0, 1)), rtol=1e-4)
        slopes = [y.std(0) / v.std(0) for y, v in ((one, x[0]), (two, x[1]))]
        assert np.abs(slopes[0] - slopes[1]).min() > 1e-3
print("done")
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_replicas_draw_their_own_noise():
    assert "done" in run_in_fresh_process(REPLICAS)
