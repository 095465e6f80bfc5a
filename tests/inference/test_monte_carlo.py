"""Passes with random layers against closed forms, and what they leave alone."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, raises_received, to_numpy

import keras_reg
from keras_reg import inference, layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype("float32")
RATE, STDDEV = 0.4, 0.3
PASSES, ROWS = 40, 150  # 6000 draws: a variance of normal numbers is known to 1.8 %


def state(model):
    """All numbers that a model holds. Arrays of PyTorch may share memory with their variable."""
    return [np.array(to_numpy(variable)) for variable in model.variables]


def assert_unchanged(model, before):
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, to_numpy(variable))


def linear_network():
    """Batch normalization with statistics far from those of the batch, dropout, noise, and one linear layer."""
    keras.utils.set_random_seed(2)
    inside = [keras.layers.Dropout(RATE, name="dropped"), keras.layers.GaussianNoise(STDDEV, name="noisy")]
    parts = [keras.layers.BatchNormalization(), *inside, keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.layers[0].set_weights([RNG.uniform(0.5, 2, 6) for _ in range(4)])
    model.layers[-1].set_weights([RNG.normal(size=(6, 1)), RNG.normal(size=1)])
    return model


@pytest.mark.parametrize("chosen", ["all", "dropout", ["noisy"]])
def test_mean_and_variance_of_a_linear_layer(chosen):
    """Under inverted dropout at rate q: q / (1 - q) sum w^2 x^2; under noise on the inputs: stddev^2 |w|^2."""
    model = linear_network()
    before = state(model)
    found = inference.MonteCarlo(model, PASSES, chosen, seed=1)(np.repeat(X, ROWS, 0))
    found = {name: to_numpy(value).reshape(4, ROWS) for name, value in found.items()}
    assert sorted(found) == ["mean", "variance"]
    assert_unchanged(model, before)
    gamma, beta, mean, variance = (to_numpy(weight).astype("float64") for weight in model.layers[0].weights)
    x = gamma * (X - mean) / np.sqrt(variance + 1e-3) + beta
    w = to_numpy(model.layers[-1].kernel)[:, 0].astype("float64")
    expected = np.zeros(4)
    if chosen in ("all", "dropout"):
        expected = expected + RATE / (1 - RATE) * (x**2 @ w**2)
    if chosen != "dropout":
        expected = expected + STDDEV**2 * (w @ w)
    errors = (found["mean"].mean(1) - model.predict(X, verbose=0)[:, 0]) / np.sqrt(expected / (PASSES * ROWS))
    assert abs(errors).max() < 4
    assert_close(found["variance"].mean(1), expected, rtol=0.08)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_entropy_and_mutual_information(activation):
    """With two passes and two classes, mean and variance tell both probabilities: mean +- sqrt(variance / 2)."""
    keras.utils.set_random_seed(2)
    units = 1 if activation == "sigmoid" else 2
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(units, activation), keras.layers.Flatten()]
    )
    loss = "binary_crossentropy" if units == 1 else keras.losses.SparseCategoricalCrossentropy(activation is None)
    model.compile("sgd", loss)
    found = to_numpy(inference.MonteCarlo(model, 2, seed=1).predict(2 * X, batch_size=3, verbose=0))
    p = found["mean"][:, 0].astype("float64")
    around = np.sqrt(found["variance"][:, 0] / 2)
    assert around.max() > 0.1

    def entropy(p):
        p = np.clip(p, 1e-9, 1 - 1e-9)
        return -p * np.log(p) - (1 - p) * np.log(1 - p)

    assert found["entropy"].shape == (4,) and found["mutual_information"].min() >= 0
    assert_close(found["entropy"], entropy(p), rtol=1e-4, atol=1e-5)
    information = entropy(p) - (entropy(p - around) + entropy(p + around)) / 2
    assert_close(found["mutual_information"], information, rtol=1e-3, atol=1e-5)


def test_outputs_without_a_last_axis_are_one_number_per_example():
    parts = [keras.layers.Dropout(0.5), keras.layers.Dense(1, "sigmoid"), keras.layers.Reshape(())]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile("sgd", "binary_crossentropy")
    drawing = inference.MonteCarlo(model, 2, seed=1)
    assert {spec.shape for spec in drawing(keras.Input((6,))).values()} == {(None,)}
    found = {name: to_numpy(value) for name, value in drawing(X).items()}
    assert {value.shape for value in found.values()} == {(4,)}
    p = found["mean"].astype("float64")
    assert_close(found["entropy"], -p * np.log(p) - (1 - p) * np.log(1 - p), rtol=1e-4)


IMAGES = RNG.random((6, 6, 5, 3), "float32")
Y = np.arange(6) % 3


def test_each_random_layer_draws_and_nothing_is_moved():
    keras.utils.set_random_seed(2)
    images = keras.Input((6, 5, 3))
    x = layers.FractionalMaxPooling2D(1.3, name="pooled")(images)
    x = layers.DropConnect(keras.layers.Dense(8), 0.5, name="connected")(keras.layers.Flatten()(x))
    x = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.5, name="inner")])(x)
    x = layers.DropPath(keras_reg.Strength(0.5), name="path")(x)
    model = keras.Model(images, layers.WeightNoise(keras.layers.Dense(3), 0.5, name="weights")(x))
    before, ours = state(model), [layer for layer in model.layers if hasattr(layer, "random")]
    positions = [layer.random.position() for layer in ours]
    if BACKEND == "torch":
        import torch

        drawn = torch.get_rng_state()
    for name in ("pooled", "connected", "inner", "path", "weights"):
        assert to_numpy(inference.MonteCarlo(model, 6, [name], seed=1)(IMAGES)["variance"]).max() > 1e-6, name
    inner = to_numpy(inference.MonteCarlo(model, 2, ["inner"], seed=1)(IMAGES)["variance"])
    assert_close(inference.MonteCarlo(model, 2, ["inner"], seed=1)(IMAGES)["variance"], inner)
    assert_unchanged(model, before)
    assert [layer.random.position() for layer in ours] == positions
    if BACKEND == "torch":
        assert (drawn == torch.get_rng_state()).all()
    model.get_layer("path").weights[0].assign(0.0)  # the strength that a schedule has reached
    assert to_numpy(inference.MonteCarlo(model, 2, ["path"])(IMAGES)["variance"]).max() == 0


def test_evaluate_uses_the_mean_and_batches_differ(tmp_path):
    keras.utils.set_random_seed(2)
    parts = [keras.layers.Flatten(), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((6, 5, 3)), *parts, keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    before = state(model)
    predicted, evaluated = (inference.MonteCarlo(model, 3, seed=5) for _ in range(2))
    evaluated.evaluate(IMAGES[:3], Y[:3], verbose=0)  # builds the metrics
    predicted.predict(IMAGES[:3], verbose=0)
    evaluated.save_assets(tmp_path)
    predicted.load_assets(tmp_path)  # continues with the same random numbers
    p = predicted.predict(IMAGES, batch_size=3, verbose=0)["mean"].astype("float64")
    found = evaluated.evaluate(IMAGES, Y, batch_size=3, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(-np.log(p[np.arange(6), Y]).mean(), rel=1e-4)
    assert found["accuracy"] == pytest.approx((p.argmax(-1) == Y).mean())
    first, second = np.split(predicted.predict(np.tile(IMAGES[:3], (2, 1, 1, 1)), batch_size=3, verbose=0)["mean"], 2)
    assert abs(first - second).max() > 1e-4
    assert_unchanged(model, before)


def test_dropout_within_recurrent_layers_and_attention_and_masks():
    keras.utils.set_random_seed(2)
    tokens = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 4, mask_zero=True)(tokens)
    x = keras.layers.MultiHeadAttention(2, 2, dropout=0.5, name="attention")(x, x)
    x = keras.layers.LSTM(3, dropout=0.5, name="recurrent")(x)
    model = keras.Model(tokens, keras.layers.Dense(2, "softmax")(x))
    before, drawing = state(model), inference.MonteCarlo(model, 2)
    assert to_numpy(drawing(np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]]))["variance"]).max() > 1e-8
    assert len(drawing.weights) == len(model.weights)
    assert_unchanged(model, before)


def test_a_regression_that_is_not_compiled_may_end_in_any_layer():
    images, dense = keras.Input((6,)), keras.layers.Dense
    dropped = keras.layers.Dropout(0.5)(images)
    added = keras.Model(images, keras.layers.Add()([dense(2)(dropped), dense(2)(images)]))
    for outputs in (added.output, dense(2)(dropped) + dense(2)(images), dense(2, "softplus")(dropped)):
        found = inference.MonteCarlo(keras.Model(images, outputs), 2)(keras.Input((6,)))
        assert {name: spec.shape for name, spec in found.items()} == {"mean": (None, 2), "variance": (None, 2)}
    found = inference.MonteCarlo(keras.Model(images, dense(2, "softmax")(dropped)), 2)(keras.Input((6,)))
    assert "entropy" in found
    added.compile("sgd", lambda y, output: keras.ops.maximum(0.9 * (y - output), 0.1 * (output - y)))
    with raises_received('For a regression, compile the model with a loss of Keras, such as "mse"', "loss=<function"):
        inference.MonteCarlo(added, 2)(images)
    added.compile("sgd", "mse")
    assert "entropy" not in inference.MonteCarlo(added, 2)(images)


def test_low_precision():
    with_policy = keras.dtype_policies.get("mixed_float16")
    parts = [keras.layers.Dense(8, dtype=with_policy), keras.layers.BatchNormalization(dtype=with_policy)]
    parts += [keras.layers.Dropout(0.5, dtype=with_policy), keras.layers.Dense(3, dtype=with_policy)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    before = state(model)
    found = inference.MonteCarlo(model, 3, from_logits=True)(X)
    assert all(keras.backend.standardize_dtype(value.dtype) == "float32" for value in found.values())
    assert_close(to_numpy(found["mean"]).sum(-1), np.ones(4), rtol=1e-5)
    assert_unchanged(model, before)


def test_what_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    subclassed = Subclassed()
    subclassed(X)
    with raises_received("Functional", "Subclassed"):
        inference.MonteCarlo(subclassed)
    plain = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    with raises_received("random numbers", "random_layers='all'"):
        inference.MonteCarlo(plain)
    pooled = keras.Sequential([keras.Input((6, 5, 3)), layers.FractionalMaxPooling2D(1.3)])
    with raises_received("random numbers", "random_layers='dropout'"):
        inference.MonteCarlo(pooled, random_layers="dropout")
    model = linear_network()
    with raises_received("dropped", "random_layers=['dense"):
        inference.MonteCarlo(model, random_layers=["noisy", model.layers[-1].name])
    noisy = keras.Sequential(
        [keras.Input((6,)), layers.NoisyBatchNormalization(name="both"), keras.layers.Dropout(0.5)]
    )
    noisy.compile("sgd", "mse")
    with raises_received("batch normalization", "random_layers='both'"):
        inference.MonteCarlo(noisy, random_layers=["both"])
    assert_close(inference.MonteCarlo(noisy, 2)(np.zeros((2, 6)))["mean"], np.zeros((2, 6)))
    named = keras.Model(model.inputs, {"size": model.outputs[0]})
    with raises_received("`model` must have one output, which is not in a dict", "outputs=['size']"):
        inference.MonteCarlo(named)
    inference.MonteCarlo(keras.Model(named.input, named.outputs[0]))  # what the error proposes
    augmented = keras.Sequential([keras.Input((6, 5, 3)), layers.RandomFlip()])
    with raises_received("random numbers"):
        inference.MonteCarlo(augmented)


def test_probabilities_in_float64_stay_so():
    if BACKEND == "jax":
        pytest.skip("JAX computes in float32 unless it is told otherwise.")
    parts = [keras.layers.Dropout(0.5, dtype="float64"), keras.layers.Dense(3, "softmax", dtype="float64")]
    passes = inference.MonteCarlo(keras.Sequential([keras.Input((4,), dtype="float64"), *parts]), samples=3)
    found = passes(np.ones((2, 4)))
    spec = passes.compute_output_spec(keras.KerasTensor((2, 4), "float64"))
    dtypes = {name: keras.backend.standardize_dtype(value.dtype) for name, value in found.items()}
    assert dtypes == {name: value.dtype for name, value in spec.items()}
    assert dtypes["mean"] == "float64"
