"""`DropConnect` and `WeightNoise` take what their layer takes: several tensors, states, masks, by place and by name.

Oracles are the layer itself in inference, and in training a plain copy of it that stores the kernels of the call.
"""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, raises_received, to_numpy
from keras import layers, ops, tree

from keras_reg.layers import DropConnect, WeightNoise

RNG = np.random.default_rng(0)
STEPS = RNG.normal(size=(4, 5, 3)).astype("float32")
OTHERS = RNG.normal(size=(4, 6, 3)).astype("float32")
VECTORS = RNG.normal(size=(4, 3)).astype("float32")
STATE = RNG.normal(size=(4, 4)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class TwoInputs(layers.Layer):
    def build(self, first_shape, second_shape):
        self.first = self.add_weight(shape=(first_shape[-1], 2), name="first_kernel")
        self.second = self.add_weight(shape=(second_shape[-1], 2), name="second_kernel")

    def call(self, first, second):
        return ops.matmul(first, self.first) + ops.matmul(second, self.second)


@keras.saving.register_keras_serializable("tests")
class Composite(layers.Layer):
    """Without a `build`: Keras builds its parts when it is called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


attention = dict(num_heads=2, key_dim=3)
CALLS = {
    "two by place": (lambda: layers.MultiHeadAttention(**attention), (STEPS, OTHERS), {}),
    "two by name": (lambda: layers.MultiHeadAttention(**attention), (), {"query": STEPS, "value": OTHERS}),
    "a flag": (lambda: layers.MultiHeadAttention(**attention), (STEPS,), {"value": STEPS, "use_causal_mask": True}),
    "a state": (lambda: layers.GRU(4, return_state=True), (STEPS,), {"initial_state": STATE}),
    "states": (lambda: layers.LSTM(4, return_sequences=True), (STEPS,), {"initial_state": [STATE, STATE / 2]}),
    "four states": (
        lambda: layers.Bidirectional(layers.LSTM(4, return_state=True)),
        (STEPS,),
        {"initial_state": [STATE] * 4},
    ),
    "a mask": (lambda: layers.SimpleRNN(4), (STEPS,), {"mask": np.arange(5) < np.array([[2], [3], [4], [5]])}),
    "time": (lambda: layers.TimeDistributed(layers.Dense(2)), (STEPS,), {}),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", (5, 2)), (STEPS,), {}),
    "two of one's own": (TwoInputs, (VECTORS, STATE), {}),
    "composite": (Composite, (VECTORS,), {}),
}
# JAX compiles each operation of an eager call.
KERAS = tuple(map(int, keras.__version__.split(".")[:2]))
SOME = ["two by name", "states", "composite"] if BACKEND == "jax" else list(CALLS)


def kernels(layer):
    return [v for v in layer.weights if v.name.endswith("kernel")]


@pytest.mark.parametrize("name", SOME)
def test_inference_and_training(name):
    make, args, kwargs = CALLS[name]
    layer = DropConnect(make(), 0.5, seed=1)
    found = to_numpy(layer(*args, **kwargs))
    assert_close(found, to_numpy(layer.layer(*args, **kwargs)))
    seen, disturb = [], layer.disturb
    layer.disturb = lambda *args: seen.append(disturb(*args)) or seen[-1]
    trained = to_numpy(layer(*args, **kwargs, training=True))
    plain = make()
    plain(*args, **kwargs)
    plain.set_weights(layer.layer.get_weights())
    for kernel, value in zip(kernels(plain), seen, strict=True):
        kernel.assign(to_numpy(value))
    assert_close(trained, to_numpy(plain(*args, **kwargs)), rtol=1e-5, atol=1e-5)
    assert np.abs(tree.flatten(trained)[0] - tree.flatten(found)[0]).max() > 1e-3


def symbolic(x):
    return keras.Input(x.shape[1:], dtype=x.dtype.name) if isinstance(x, np.ndarray) else x


# Keras says so of any layer without a `build` that it loads.
@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer 'composite(_\\d+)?':UserWarning")
@pytest.mark.parametrize("name", SOME)
def test_models_save_load_and_train(name, tmp_path):
    make, args, kwargs = CALLS[name]
    args_in, kwargs_in = tree.map_structure(symbolic, (args, kwargs))
    outputs = WeightNoise(make(), 0.5, seed=1)(*args_in, **kwargs_in)
    inputs = [x for x in tree.flatten((args_in, kwargs_in)) if isinstance(x, keras.KerasTensor)]
    arrays = [x for x in tree.flatten((args, kwargs)) if isinstance(x, np.ndarray)]
    model = keras.Model(inputs, tree.flatten(outputs)[0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = model.predict(arrays, verbose=0)
    np.testing.assert_array_equal(loaded.predict(arrays, verbose=0), found)
    loaded.compile("sgd", "mse")
    assert np.isfinite(loaded.train_on_batch(arrays, np.zeros_like(found)))


def test_a_stateful_layer_keeps_its_state():
    """Under full drop the state of an LSTM is that of zero kernels: what a plain layer of zero kernels has."""
    layer, plain = DropConnect(layers.LSTM(4, stateful=True), 1.0), layers.LSTM(4, stateful=True)
    layer.build(STEPS.shape), plain.build(STEPS.shape)
    for each in (layer.layer, plain):
        each.cell.bias.assign(np.linspace(-1, 1, 16))
    for kernel in kernels(plain):
        kernel.assign(np.zeros(kernel.shape))
    layer(STEPS, training=True), plain(STEPS)
    for a, b in zip(layer.layer.states, plain.states, strict=True):
        assert np.abs(to_numpy(b)).max() > 0.1
        assert_close(a, b)


def test_within_time_distributed():
    outer = layers.TimeDistributed(DropConnect(layers.Dense(2), 0.5, seed=1))
    plain = to_numpy(outer(STEPS))
    assert_close(plain, to_numpy(outer.layer.layer(STEPS)))
    assert np.abs(to_numpy(outer(STEPS, training=True)) - plain).max() > 1e-3


def test_what_does_instead_is_said():
    with raises_received("Bidirectional(layer)"):
        layers.Bidirectional(DropConnect(layers.LSTM(4), 0.5))
    with raises_received("kernel"):
        DropConnect(layers.Embedding(4, 3), 0.5)(np.zeros((2, 3), "int32"))
    with raises_received("dtype"):
        WeightNoise(layers.Dense(4), 0.5, dtype="float16")


@pytest.mark.parametrize("bad", [(), (None,), ("x",), (3.0,), ([[1.0, 2.0]],), ({},)])
def test_calls_without_a_tensor(bad):
    with raises_received("inputs"):
        DropConnect(layers.Dense(4), 0.5)(*bad)


def test_a_list_of_tensors_for_a_layer_of_one():
    with pytest.raises(ValueError, match="expects 1 input"):
        WeightNoise(layers.Dense(4), 0.5)([VECTORS, VECTORS])


def test_at_rate_1_the_bias_is_left():
    layer = DropConnect(layers.Dense(4, bias_initializer="ones"), 1)
    np.testing.assert_array_equal(to_numpy(layer(VECTORS, training=True)), np.ones((4, 4)))


@pytest.mark.parametrize("mode", ["int8"] if BACKEND == "jax" or KERAS < (3, 11) else ["int8", "int4"])
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`:UserWarning")
def test_quantized_models_load(mode, tmp_path):
    """Integer kernels do not train, so that they are what they are in training too."""
    parts = [DropConnect(layers.Dense(16), 0.5), WeightNoise(layers.EinsumDense("ab,bc->ac", 8), 0.5)]
    model = keras.Sequential([keras.Input((3,)), *parts])
    model.quantize(mode)
    found = model.predict(VECTORS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(VECTORS, verbose=0), found)
    assert_close(loaded(VECTORS, training=True), found, rtol=1e-5)
