"""`regularize` works within one process: what cannot be saved can still be copied, or is refused in words."""

import warnings

import keras
import numpy as np
import pytest
from harness import assert_close, raises_received, to_numpy
from keras import layers, ops

from keras_reg import Strength
from keras_reg.surgery import regularize

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
STEPS = np.random.default_rng(1).normal(size=(4, 5, 6)).astype("float32")


class Doubled(layers.Layer):
    """Not registered anywhere."""

    def call(self, inputs):
        return 2 * inputs

    def compute_output_shape(self, input_shape):
        return input_shape


class NoConfig(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class HalfConfig(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs

    def get_config(self):
        return super().get_config()


def functional(x, *parts):
    inputs = outputs = keras.Input(x.shape[1:])
    for part in parts:
        outputs = part(outputs)
    return keras.Model(inputs, outputs)


def network():
    return functional(X, layers.Dense(4, name="first"), layers.BatchNormalization(), layers.Dense(2, name="head"))


FACTOR = 3.0
COPIED = {
    # The lambdas read names of this module: code alone would not do.
    "lambda": (lambda: functional(X, layers.Dense(4), layers.Lambda(lambda x: FACTOR * ops.tanh(x))), X),
    "lambda and shape": (
        lambda: functional(X, layers.Dense(4), layers.Lambda(lambda x: ops.sum(x, -1), output_shape=())),
        X,
    ),
    "sequential": (lambda: keras.Sequential([keras.Input((6,)), layers.Lambda(lambda x: FACTOR * x)]), X),
    "activation": (lambda: functional(X, layers.Dense(4, activation=lambda x: FACTOR * ops.tanh(x))), X),
    "wrapped": (lambda: functional(STEPS, layers.TimeDistributed(layers.Lambda(lambda x: FACTOR * ops.sin(x)))), STEPS),
    "in a model in a wrapper": (
        lambda: functional(
            STEPS, layers.TimeDistributed(functional(X, layers.Dense(3), layers.Lambda(lambda x: FACTOR * x)))
        ),
        STEPS,
    ),
    "of one's own, wrapped": (lambda: functional(STEPS, layers.TimeDistributed(Doubled())), STEPS),
}


@pytest.mark.filterwarnings("ignore:.*changes nothing")
@pytest.mark.parametrize("name", COPIED)
def test_what_cannot_be_loaded_is_copied_without_a_warning(name):
    make, x = COPIED[name]
    model = make()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*lambda")
        copy = regularize(model, kernel_l2=1e-3)
    assert_close(copy(x), model(x))


@pytest.mark.filterwarnings("ignore:.*changes nothing")
@pytest.mark.parametrize(("layer", "words"), [(NoConfig(lambda x: x), "get_config"), (HalfConfig(2), "HalfConfig")])
def test_layers_without_a_config_are_refused_by_name(layer, words):
    with raises_received(words):
        regularize(functional(X, layer), kernel_l2=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        *({name: "yes"} for name in ("penalize_biases", "penalize_normalization", "dry_run", "verbose")),
        *({name: 1} for name in ("penalize_biases", "penalize_normalization", "dry_run")),
        {"verbose": 2},
        *({name: value} for name in ("kernel_l1", "kernel_l2") for value in (-1, float("nan"), 10**400, "x", True)),
        *({name: 1.1} for name in ("dropout", "spatial_dropout", "drop_path")),
        {"drop_path": Strength(1.1)},
        *({"bn_noise": value} for value in ({"axis": 1}, {"seed": 1}, [0.1], 10**400, True)),
        {"seed": 0.5},
    ],
    ids=lambda bad: str(bad)[:40],
)
def test_arguments_are_checked(bad):
    with raises_received(*bad):
        regularize(network(), **bad)


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")  # behind a dropout of everything
def test_numbers_of_numpy_are_numbers():
    arguments = {
        "kernel_l1": np.float32(0.5),
        "kernel_l2": np.float64(0.25),
        "dropout": np.int64(1),
        "seed": np.int64(4),
    }
    copy = regularize(network(), **arguments, bn_noise=np.float32(0.5), penalize_biases=np.True_)
    first = copy.get_layer("first").get_config()
    penalty = {"l1": 0.5, "l2": 0.25}
    assert first["kernel_regularizer"]["config"] == first["bias_regularizer"]["config"] == penalty
    copy.compile("sgd", "mse")
    assert np.isfinite(copy.train_on_batch(X, np.zeros((4, 2), "float32")))


def test_single_weights_that_are_frozen_stay_frozen():
    model = network()
    model.get_layer("first").kernel.trainable = False
    model.get_layer("head").trainable = False
    copy = regularize(model, kernel_l2=1e-3, bn_noise=0.1)
    assert [v.trainable for v in copy.weights] == [v.trainable for v in model.weights]


@pytest.mark.parametrize("alpha", [None, 6])
def test_lora_stays(alpha):
    model = network()
    model.get_layer("first").enable_lora(2, lora_alpha=alpha)
    model.get_layer("first").lora_kernel_b.assign(np.ones((2, 4)))
    copy = regularize(model, kernel_l2=1e-3)
    assert_close(copy(X), model(X), rtol=1e-5)
    assert [v.path.split("/")[-1] for v in copy.trainable_weights] == [
        v.path.split("/")[-1] for v in model.trainable_weights
    ]


def test_lora_in_a_wrapper_keeps_its_scale():
    model = functional(STEPS, layers.TimeDistributed(layers.Dense(4)))
    inner = model.layers[-1].layer
    inner.enable_lora(2, lora_alpha=6)
    inner.lora_kernel_b.assign(np.ones((2, 4)))
    assert_close(regularize(model, kernel_l2=1e-3)(STEPS), model(STEPS), rtol=1e-5)


@pytest.mark.parametrize("mode", ["int8", "float8"])
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`:UserWarning")
def test_quantized_models(mode, capsys):
    """Integer kernels do not train, so that nothing says that they are penalized; those of float8 do."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, name="a"), layers.Dense(4, name="b")])
    model.quantize(mode)
    copy = regularize(model, kernel_l2=0.5, dropout=0.5, verbose=1)
    np.testing.assert_array_equal(to_numpy(copy.get_layer("a")(X)), to_numpy(model.get_layer("a")(X)))
    assert [w.dtype for w in copy.weights] == [w.dtype for w in model.weights] or mode == "float8"
    said = capsys.readouterr().out
    assert ("kernel penalized" in said) == (mode == "float8") == bool(copy.losses)
    assert ("it is quantized" in said) == (mode == "int8")


def test_the_original_stays_compiled():
    model = network()
    model.compile("sgd", "mse")
    assert not regularize(model).compiled and model.compiled
