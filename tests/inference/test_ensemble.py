"""Combined outputs against NumPy, as a plain model that is saved and loaded."""

import functools
import json
import warnings

import keras
import numpy as np
import pytest
from harness import assert_close, raises_received, to_numpy

from keras_reg import inference, losses, training

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.arange(6) % 3


def members(count=3, activation=None, units=3):
    keras.utils.set_random_seed(1)
    found = []
    for _ in range(count):
        dense = keras.layers.Dense(units, activation, kernel_initializer=keras.initializers.RandomNormal(0, 1))
        found.append(keras.Sequential([keras.Input((4,)), dense], name="equal"))
    return found


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits_of(models):
    return np.stack([X.astype("float64") @ to_numpy(m.weights[0]) + to_numpy(m.weights[1]) for m in models])


def normalized(p):
    return p / p.sum(-1, keepdims=True)


COMBINED = {
    "mean": lambda p, w: np.einsum("m,mnk->nk", w, p),
    "logits": lambda p, w: normalized(np.exp(np.einsum("m,mnk->nk", w, np.log(p)))),
    "vote": lambda p, w: np.einsum("m,mnk->nk", w, np.eye(3)[p.argmax(-1)]),
    "median": lambda p, w: normalized(np.median(p, 0)),
}


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("combine", COMBINED)
def test_outputs_are_combined_in_their_form(combine, activation):
    models, given = members(activation=activation), None if combine == "median" else [1, 2, 0]
    weights = np.array([1, 2, 0]) / 3
    found = to_numpy(inference.ensemble(models, combine, given, from_logits=activation is None)(X))
    found = softmax(found) if activation is None else found
    assert_close(found, COMBINED[combine](softmax(logits_of(models)), weights), rtol=1e-4, atol=1e-6)


def test_one_output_and_a_regression():
    models = members(4, units=1)  # the median of the probabilities is not that of the logits
    z = logits_of(models)
    p = 1 / (1 + np.exp(-z))
    for combine, expected in (("mean", p.mean(0)), ("vote", (p > 0.5).mean(0)), ("median", np.median(p, 0))):
        found = to_numpy(inference.ensemble(models, combine, from_logits=True)(X)).astype("float64")
        assert_close(1 / (1 + np.exp(-found)), expected, rtol=1e-4, atol=1e-6)
    for model in models:
        model.compile("sgd", "mse")
    assert_close(inference.ensemble(models)(X), z.mean(0), rtol=1e-4, atol=1e-5)
    assert_close(inference.ensemble(models, "median")(X), np.median(z, 0), rtol=1e-4, atol=1e-5)
    with raises_received("regression", "merge='vote'"):
        inference.ensemble(models, "vote")


def constant(*rows, activation=None, dtype="float32"):
    """Models whose outputs are the same for every input."""
    found = []
    for row in rows:
        dense = keras.layers.Dense(len(row), activation, dtype=dtype)
        found.append(keras.Sequential([keras.Input((4,)), dense]))
        found[-1].set_weights([np.zeros((4, len(row))), np.array(row)])
    return found


def test_ties_and_even_numbers():
    """Of equal outputs, the first class is predicted, and a probability of 1/2 is no vote."""
    votes = to_numpy(inference.ensemble(constant([2, 2, 0], [0, 3, 1]), "vote", from_logits=True)(X))[0]
    assert_close(softmax(votes), np.array([0.5, 0.5, 0]), atol=1e-6)
    rows = [[0.0], [0.3], [1.0], [-1.0], [-0.4]]
    for activation in (None, "sigmoid"):
        found = inference.ensemble(constant(*rows, activation=activation), "vote", from_logits=activation is None)
        share = to_numpy(found(X))[0]
        assert_close(1 / (1 + np.exp(-share)) if activation is None else share, np.array([0.4]), atol=1e-6)
    found = inference.ensemble(constant(*rows[1:], activation="sigmoid"), "median", from_logits=False)
    assert_close(found(X)[0], np.array([(1 / (1 + np.exp(0.4)) + 1 / (1 + np.exp(-0.3))) / 2]), rtol=1e-5)
    p = softmax(np.array([[3.0, 0, 0], [0, 2, 1], [1, 1, 0], [-1, 0, 2]]))
    found = inference.ensemble(constant(*np.log(p).tolist(), activation="softmax"), "median", from_logits=False)
    assert_close(found(X)[0], normalized(np.median(p, 0)), rtol=1e-5)


def test_sums_do_not_overflow_in_half_precision():
    models = constant([6e4], [6e4], dtype="float16")
    for model in models:
        model.compile("sgd", "mse")
    np.testing.assert_allclose(to_numpy(inference.ensemble(models)(X))[0], 6e4, rtol=1e-3)


def test_it_is_one_plain_model(tmp_path):
    """Its loss is never above the mean loss (Jensen), it is saved as one model, and it shares its weights."""
    models = members()
    for model in models:
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    combined = inference.ensemble(models)
    loss, accuracy = combined.evaluate(X, Y, verbose=0)
    assert loss <= np.mean([model.evaluate(X, Y, verbose=0)[0] for model in models])
    assert accuracy == pytest.approx((softmax(logits_of(models)).mean(0).argmax(-1) == Y).mean())
    models[1].compile("sgd", losses.LabelSmoothingCrossentropy(0.1, from_logits=True))
    different = keras.models.clone_model(models[0])
    different.name = "different"
    different.compile("sgd", losses.LabelSmoothingCrossentropy(0.1, from_logits=True))
    # The settings of the members would be restored, and need this package, with `compile=False`, too.
    assert "keras_reg" not in json.dumps(inference.ensemble([models[0], models[1], different]).get_config())
    assert "keras_reg" not in combined.to_json() and [model.name for model in models] == ["equal"] * 3
    inference.ensemble(models).save(tmp_path / "ensemble.keras")  # without an evaluation
    with warnings.catch_warnings(record=True) as warned:  # Keras 3.10, about a loaded model with one input
        warnings.simplefilter("always")
        loaded = to_numpy(keras.saving.load_model(tmp_path / "ensemble.keras")(X))
    assert not any("optimizer" in str(warning.message) for warning in warned)
    assert_close(loaded, combined(X), rtol=1e-5)
    averaged = members(1)[0]
    averaged.set_weights([np.mean(w, 0) for w in zip(*(model.get_weights() for model in models), strict=True)])
    assert_close(inference.ensemble(models, "logits")(X), averaged(X), rtol=1e-4, atol=1e-5)
    models[0].weights[0].assign(2 * to_numpy(models[0].weights[0]))  # weights are shared
    assert abs(to_numpy(combined(X)) - loaded).max() > 1e-3


def test_networks_of_equal_names_and_several_inputs_in_regularized_models():
    def member():
        inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((1,), name="b")}
        outputs = keras.layers.Dense(3, "softmax")(keras.layers.Concatenate()([inputs["a"], inputs["b"]]))
        return training.RegularizedModel(keras.Model(inputs, [outputs], name="equal"))

    models, x = [member(), member()], {"a": X[:, :3], "b": X[:, 3:]}
    combined = inference.ensemble(models)
    assert "keras_reg" not in combined.to_json()
    assert_close(combined(x), np.mean([to_numpy(model(x)) for model in models], 0), rtol=1e-5)


def test_what_is_refused():
    models = members(2, "softmax")
    with raises_received("must be a list", "models="):
        inference.ensemble(*models)
    for names, received in ((["a"], "outputs=['a']"), (["a", "b"], "outputs=['a', 'b']")):
        inputs = keras.Input((4,))
        named = keras.Model(inputs, {name: keras.layers.Dense(3, "softmax", name=name)(inputs) for name in names})
        with raises_received("keras.Model(model.input, model.outputs[0])", received):
            inference.ensemble([named, named])
    for given in ([], None, models[0], ["resnet"]):
        with raises_received("model"):
            inference.ensemble(given)
    with raises_received("probabilities", "outputs="):
        logits = members(1)[0]
        logits.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        inference.ensemble([models[0], logits])
    with raises_received("one shape", "shapes="):
        inference.ensemble([models[0], members(1, "softmax", units=2)[0]])
    with raises_received("inputs of the first", "models="):
        other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "softmax")])
        inference.ensemble([models[0], other])
    for weights in ([1], [0, 0], [-1, 2], "even", [1, float("nan")]):
        with raises_received("member_weights="):
            inference.ensemble(models, member_weights=weights)
    with raises_received("median", "member_weights="):
        inference.ensemble(models, "median", [1, 2])
    with raises_received("`combine`"):
        inference.ensemble(models, "max")
    with raises_received("from_logits", "loss=None"):
        inference.ensemble(members(2))


def test_inputs_are_matched_by_name():
    def member(*order):
        inputs = {name: keras.Input((1,), name=name) for name in ("left", "right")}
        output = keras.layers.Subtract()([inputs["left"], inputs["right"]])
        made = keras.Model([inputs[name] for name in order], output)
        made.compile("sgd", "mse")
        return made

    left, right = np.full((2, 1), 3.0), np.full((2, 1), 1.0)
    combined = inference.ensemble([member("left", "right"), member("right", "left")])
    assert_close(combined.predict([left, right], verbose=0), left - right)
    assert_close(combined.predict({"left": left, "right": right}, verbose=0), left - right)


def test_a_model_whose_optimizer_or_loss_keras_cannot_copy():
    class Constant(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    model = members(1)[0]
    for optimizer, loss in (
        (keras.optimizers.SGD(Constant()), "mse"),
        ("sgd", functools.partial(keras.losses.huber, delta=2.0)),
    ):
        model.compile(optimizer, loss)
        assert inference.ensemble([model, model], from_logits=True).predict(X, verbose=0).shape == (6, 3)
