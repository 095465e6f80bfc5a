"""`DropConnect` and, where they are one, `WeightNoise`: the kernels of a training call are read off the outputs."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, jit, raises_received, to_numpy
from keras import layers, ops
from stochastic import training_calls

from keras_reg import Strength
from keras_reg.layers import DropConnect, WeightNoise

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(5, 6)).astype("float32")
IMAGES = RNG.normal(size=(5, 6, 5, 3)).astype("float32")
STEPS = RNG.normal(size=(5, 4, 3)).astype("float32")
LAYERS = {
    "dense": (lambda: layers.Dense(4, activation="tanh", bias_initializer="ones"), DENSE),
    "einsum": (lambda: layers.EinsumDense("ab,bc->ac", 4), DENSE),
    "conv1d": (lambda: layers.Conv1D(4, 2), STEPS),
    "conv": (lambda: layers.Conv2D(4, 3, padding="same"), IMAGES),
    "transposed": (lambda: layers.Conv2DTranspose(4, 3), IMAGES),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGES),
    "separable": (lambda: layers.SeparableConv2D(4, 3), IMAGES),
    "lstm": (lambda: layers.LSTM(4), STEPS),
    "bidirectional": (lambda: layers.Bidirectional(layers.GRU(3, return_sequences=True)), STEPS),
    "nested": (lambda: keras.Sequential([layers.Dense(4), layers.Dense(2)]), DENSE),
}
# JAX compiles each operation of an eager gradient.
SOME = ["dense", "separable"] if BACKEND == "jax" else ["dense", "conv", "depthwise", "separable", "lstm"]
WRAPPERS = {
    "drop": lambda layer, **k: DropConnect(layer, 0.4, **k),
    "noise": lambda layer, **k: WeightNoise(layer, 0.3, **k),
}


def kernels(layer):
    return [v for v in layer.weights if v.name.endswith("kernel")]


def built(name, wrapper, seed=1):
    make, x = LAYERS[name]
    layer = WRAPPERS[wrapper](make(), seed=seed)
    layer.build(x.shape)
    return layer, x


def call_with_kernels(layer, x, values):
    """Oracle: a plain copy of the wrapped layer that stores `values` as its kernels."""
    plain = type(layer.layer).from_config(layer.layer.get_config())
    plain.build(x.shape)
    plain.set_weights(layer.layer.get_weights())
    for kernel, value in zip(kernels(plain), values, strict=True):
        kernel.assign(value)
    return to_numpy(plain(x, training=True))


def kernel_of_each_call(wrapped, count, shape):
    """What the kernels of `count` calls were: a Dense layer without bias on the unit matrix returns its kernel."""
    layer = wrapped(layers.Dense(shape[1], use_bias=False, kernel_initializer="ones"))
    return training_calls(layer, np.eye(shape[0], dtype="float32"), count)


def test_weights_drop_at_the_rate_and_the_others_are_scaled():
    """60 calls with 1200 weights: every weight and every call on its own, within 5 standard errors."""
    found = kernel_of_each_call(lambda layer: DropConnect(layer, 0.3, seed=1), 60, (40, 30))
    np.testing.assert_allclose(np.unique(found), [0, 1 / 0.7], rtol=1e-6)
    dropped = (found == 0).reshape(60, -1)
    limit = 5 * np.sqrt(0.3 * 0.7)
    assert abs(dropped.mean() - 0.3) < limit / np.sqrt(dropped.size)
    assert (np.abs(dropped.mean(0) - 0.3) < limit / np.sqrt(60)).all()
    correlation = np.corrcoef(dropped)[np.triu_indices(60, 1)]
    assert np.abs(correlation).max() < 6 / np.sqrt(1200)


def test_noise_is_normal_with_the_given_deviation():
    from scipy import stats

    found = kernel_of_each_call(lambda layer: WeightNoise(layer, 0.3, seed=1), 60, (40, 30)).reshape(60, -1)
    assert stats.kstest((found.ravel() - 1) / 0.3, "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(found)[np.triu_indices(60, 1)]).max() < 6 / np.sqrt(1200)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", LAYERS)
def test_inference_uses_the_stored_weights_and_training_leaves_them(name, wrapper):
    layer, x = built(name, wrapper)
    before = layer.get_weights()
    stored = call_with_kernels(layer, x, kernels(layer))
    assert_close(layer(x), stored, rtol=1e-6)
    assert np.abs(training_calls(layer, x) - stored).max() > 1e-3
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert tuple(layer.compute_output_shape(x.shape)) == stored.shape


def spy(layer):
    """Records the kernels that the layer makes, in the order of its weights."""
    seen, disturb = [], layer.disturb
    layer.disturb = lambda *args: seen.append(disturb(*args)) or seen[-1]
    return seen


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", LAYERS)
def test_training_computes_with_the_disturbed_kernels(name, wrapper):
    """The call equals a plain layer that stores these kernels, each drawn on its own."""
    layer, x = built(name, wrapper)
    seen = spy(layer)
    y = to_numpy(layer(x, training=True))
    assert len(seen) == len(kernels(layer))
    assert_close(y, call_with_kernels(layer, x, to_numpy(seen)), rtol=1e-5, atol=1e-5)
    flat = [to_numpy(v).ravel()[:6] for v in seen]
    assert len({tuple(v == 0) + tuple(v) for v in flat}) == len(flat)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", SOME)
def test_gradients_are_those_at_the_disturbed_kernels(name, wrapper):
    """Oracle: the plain layer at these kernels; under `DropConnect` its gradient goes through mask / (1 - rate)."""
    layer, x = built(name, wrapper)
    seen = spy(layer)
    layer(x, training=True)
    disturbed = [to_numpy(v) for v in seen]
    same, _ = built(name, wrapper)
    same.set_weights(layer.get_weights())
    found = gradients(lambda: ops.sum(ops.square(same(x, training=True))), same.trainable_variables)
    plain = type(layer.layer).from_config(layer.layer.get_config())
    plain.build(x.shape)
    plain.set_weights(layer.layer.get_weights())
    for kernel, value in zip(kernels(plain), disturbed, strict=True):
        kernel.assign(value)
    expected = gradients(lambda: ops.sum(ops.square(plain(x, training=True))), plain.trainable_variables)
    factors = iter([(v != 0) / 0.6 if wrapper == "drop" else 1.0 for v in disturbed])
    for variable, a, b in zip(plain.trainable_variables, found, expected, strict=True):
        factor = next(factors) if variable.name.endswith("kernel") else 1.0
        assert np.abs(b).max() > 1e-3
        assert_close(a, (b * factor).astype("float32"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_kernel_has_a_draw_of_its_own(wrapper):
    """Two kernels of ones of the same shape: correlation of 2500 entries within 5 standard errors of 0."""
    dense = [layers.Dense(50, use_bias=False, kernel_initializer="ones") for _ in range(2)]
    layer = WRAPPERS[wrapper](keras.Sequential(dense), seed=1)
    layer.build((1, 50))
    seen = spy(layer)
    layer(np.ones((1, 50), "float32"), training=True)
    first, second = (to_numpy(v).ravel() for v in seen)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(2500)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_fit_moves_the_stored_weights(wrapper):
    """One step of SGD with noise on the kernel of y = w x: w moves by the gradient, not by the noise."""
    layer = WRAPPERS[wrapper](layers.Dense(1, use_bias=False, kernel_initializer="ones"))
    inputs = keras.Input((20,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=BACKEND == "jax")
    x, y = np.random.default_rng(3).normal(size=(8, 20)).astype("float32"), np.zeros((8, 1), "float32")
    losses = []
    for _ in range(4):
        model.reset_metrics()  # or an older Keras returns the mean of all steps
        losses.append(float(model.train_on_batch(x, y)))
    assert len(set(losses)) == 4
    np.testing.assert_array_equal(layer.get_weights()[0], 1)
    model.optimizer.learning_rate = 0.02
    for _ in range(60):
        model.train_on_batch(x, y)
    assert model.evaluate(x, y, verbose=0) < 0.1 * (x.sum(1) ** 2).mean()


def test_what_the_wrapped_layer_changes_or_adds_in_training_reaches_the_model():
    """Moving averages, seed states, activity and weight penalties; the penalty sees the stored kernel, once."""
    inner = keras.Sequential(
        [
            layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1), activity_regularizer="l2"),
            layers.BatchNormalization(momentum=0.0),
            layers.Dropout(0.5, seed=1),
        ]
    )
    wrapped = DropConnect(inner, 0.5, seed=1)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, wrapped(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=BACKEND == "jax")
    kernel = to_numpy(inner.layers[0].kernel)
    state = to_numpy(inner.layers[2].seed_generator.state).copy()
    loss = float(model.train_on_batch(DENSE, np.zeros((5, 3), "float32")))
    assert np.abs(to_numpy(inner.layers[1].moving_mean)).max() > 1e-3
    if BACKEND != "torch":  # counts in the state as well, by way of a device
        assert (to_numpy(inner.layers[2].seed_generator.state) != state).any()
    model.train_on_batch(DENSE, np.zeros((5, 3), "float32"))
    model(DENSE, training=True)
    losses = sorted(float(to_numpy(v.detach() if BACKEND == "torch" else v)) for v in model.losses)
    assert len(losses) == 2 and loss > 0
    assert min(abs(v - 0.1 * (kernel**2).sum()) for v in losses) < 1e-5


def test_masks_pass_through():
    steps, mask = STEPS, np.array([[1, 1, 0, 0]] * 5, bool)
    layer = DropConnect(layers.LSTM(3, return_sequences=True), 0.0)
    layer.build(steps.shape)
    np.testing.assert_array_equal(to_numpy(layer(steps, mask=mask)), to_numpy(layer.layer(steps, mask=mask)))
    inputs = keras.Input((4,), dtype="int32")
    masked = layers.Embedding(7, 3, mask_zero=True)(inputs)
    model = keras.Model(inputs, DropConnect(layers.GRU(3), 0.3, seed=1)(masked))
    padded = np.array([[1, 2, 0, 0], [3, 4, 0, 0]], "int32")
    tail = model(padded, training=True)
    short = keras.Model(inputs, model.layers[-1](model.layers[1](inputs)))
    assert tail.shape == (2, 3)
    assert_close(short(padded), model(padded), rtol=1e-6)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_dtypes(dtype_policy, wrapper):
    layer, x = built("conv", wrapper)
    y = layer(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == layer.layer.compute_dtype
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layers.Flatten()(layer(inputs)))
    model.compile("sgd", "mse")
    before = to_numpy(layer.layer.kernel).copy()
    assert np.isfinite(model.train_on_batch(x, np.ones((5, *model.output.shape[1:]), "float32")))
    kernel = layer.layer.kernel
    assert kernel is kernels(layer)[0] and kernel.trainable
    assert keras.backend.standardize_dtype(kernel.dtype) == layer.layer.variable_dtype
    change = np.abs(to_numpy(kernel) - before)  # one step of SGD(0.01), not the noise of 0.3
    assert 0 < change.max() < 0.1


def test_compiled_calls_differ():
    layer, x = built("conv", "drop")
    call = jit(lambda t: layer(t, training=True), layer, xla=True)
    x = ops.convert_to_tensor(x)
    assert np.abs(to_numpy(call(x)) - to_numpy(call(x))).max() > 1e-3


@pytest.mark.parametrize("cls", [DropConnect, WeightNoise])
def test_strength_and_rate_0(cls):
    make, x = LAYERS["dense"]
    layer = cls(make(), Strength(0.4), seed=1)
    y = training_calls(layer, x)
    assert np.abs(y - to_numpy(layer(x))).max() > 1e-3
    layer.weights[0].assign(0.0)
    assert_close(training_calls(layer, x), layer(x), rtol=1e-6)
    plain = cls(make(), 0)
    plain.build(x.shape)
    np.testing.assert_array_equal(to_numpy(plain(x, training=True)), to_numpy(plain(x)))


def test_a_layer_that_assigns_its_kernel_is_refused():
    """What it stores would be the disturbed kernel."""

    class Normalizing(keras.layers.Dense):
        def call(self, inputs, training=False):
            if training:
                self.kernel.assign(self.kernel / keras.ops.norm(self.kernel))
            return super().call(inputs)

    spectral = keras.layers.SpectralNormalization(keras.layers.Dense(4))
    for layer in (spectral, keras.layers.TimeDistributed(spectral)):
        with raises_received("must not contain a `SpectralNormalization`", "layer="):
            DropConnect(layer, 0.5)
    layer = DropConnect(Normalizing(4), 0.5)
    with raises_received("must not assign its kernel", "layer="):
        layer(np.ones((2, 3), "float32"), training=True)


def test_layers_without_a_kernel_are_refused():
    with raises_received("layer"):
        DropConnect(layers.ReLU(), 0.5).build((None, 3))
    with raises_received("layer"):
        WeightNoise("dense", 0.5)
