"""Averaged weights against NumPy, and the greedy choice against the recipe of the paper."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, only, raises_received, to_numpy

import keras_reg
from keras_reg import inference, layers, training

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 3)).astype("float32")
KERNEL = np.array([[1.0], [-2.0], [0.5]], "float32")
Y = X @ KERNEL
EAGER = BACKEND == "tensorflow"  # which takes seconds to compile what runs a few times
BATCHES = [(X[:5], Y[:5]), (X[5:], Y[5:])]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return BATCHES[index]


def linear(*errors, loss="mse", metrics=("mae",)):
    """Models whose kernel is off by a multiple of one direction."""
    models = []
    for error in errors:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        if loss:
            model.compile("sgd", loss, metrics=list(metrics), run_eagerly=EAGER)
        kernel = KERNEL + error * np.array([[1.0], [1.0], [1.0]], "float32")
        model.layers[-1].set_weights([kernel, np.zeros(1, "float32")])
        models.append(model)
    return models


def error_of(model):
    return float(model.get_weights()[0][0, 0] - KERNEL[0, 0])


def test_the_mean_of_all_equals_numpy_and_a_linear_ensemble():
    models = linear(0.5, -0.1, 0.3)
    before = [[to_numpy(variable).copy() for variable in model.variables] for model in models]
    found = inference.soup(models, greedy=False)
    for weight, arrays in zip(found.get_weights(), zip(*(m.get_weights() for m in models), strict=True), strict=True):
        assert_close(weight, np.mean(np.array(arrays, "float64"), 0), rtol=1e-7, atol=1e-8)
    assert_close(found(X), inference.ensemble(models)(X), rtol=1e-5)
    assert found.evaluate(X, Y, verbose=0, return_dict=True).keys() == {"loss", "mae"}
    found.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=EAGER)
    found.fit(X, Y, verbose=0)  # shares no weight
    for model, values in zip(models, before, strict=True):
        assert all(map(np.array_equal, [to_numpy(variable) for variable in model.variables], values))
    (single,) = linear(0.5)
    assert_close(inference.soup([single], (X, Y)).get_weights(), single.get_weights(), rtol=0, atol=0)


def test_the_scale_of_lora_is_kept():
    (model,) = linear(0.5)
    model.layers[-1].enable_lora(2, lora_alpha=6)
    model.layers[-1].lora_kernel_b.assign(np.ones((2, 1)))
    assert_close(inference.soup([model], (X, Y))(X), model(X), rtol=1e-6)


@pytest.mark.parametrize("data", [(X, Y), [X, Y, np.ones(12)], Batches()], ids=["arrays", "weights", "dataset"])
def test_greedy_adds_in_the_order_of_the_metric_what_does_not_hurt(data, capsys):
    """Errors of opposite sign cancel: -0.3 helps 0.2, then 1.0 hurts, and -0.8 and 1.2 hurt too."""
    models = linear(-0.8, 0.2, 1.0, -0.3, 1.2)
    found = inference.soup(models, data, verbose=1)
    assert error_of(found) == pytest.approx(-0.05, abs=1e-6)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"Model {number}" for number in (2, 4, 1, 3, 5)]
    assert ["in the soup" in line for line in lines] == [True, True, False, False, False]


def test_the_best_model_is_kept_as_it_is_if_the_others_hurt():
    models = linear(0.5, float("nan"), 0.1, 0.4)
    assert_close(inference.soup(models, (X, Y)).get_weights(), models[2].get_weights(), rtol=0, atol=0)
    same = linear(0.25, 0.25)
    same[1].layers[-1].bias.assign([0.0])
    assert error_of(inference.soup([*same, *same], (X, Y), metric="mae")) == pytest.approx(0.25, abs=1e-6)


def test_the_metric_and_its_direction():
    """Of two classes by the sign of the output."""
    y = (Y > 0).astype("float32")
    models = linear(3.0, 0.1, -0.2, loss=keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
    options = {"threshold": 0.0, "name": "hits"}
    by_name = inference.soup(models, (X, y), metric=keras.metrics.BinaryAccuracy(**options))
    assert abs(error_of(by_name)) < 0.3
    worst = inference.soup(models, (X, y), metric=keras.metrics.BinaryAccuracy(**options), mode="min")
    assert error_of(worst) > 1
    assert by_name.evaluate(X, y, verbose=0, return_dict=True).keys() == {"loss", "accuracy"}

    def distance(y_true, y_pred):
        return keras.ops.abs(y_true - y_pred)

    models = linear(0.5, 0.1, loss=distance, metrics=[distance])
    assert error_of(inference.soup(models, (X, Y))) == pytest.approx(0.1, abs=1e-6)


def test_several_outputs_and_weighted_examples():
    """Each output has an error of its own, so the first output chooses other models than the second one."""

    def model(error, other):
        inputs = keras.Input((3,))
        outputs = {name: keras.layers.Dense(1, use_bias=False, name=name)(inputs) for name in ("first", "second")}
        found = keras.Model(inputs, outputs)
        losses, metrics = dict.fromkeys(outputs, "mse"), {name: ["mae"] for name in outputs}
        found.compile("sgd", losses, metrics=metrics, loss_weights={"first": 1.0, "second": 1e-4}, run_eagerly=EAGER)
        found.set_weights([KERNEL + error, KERNEL + other])
        return found

    def errors(soup):
        return [float(weight[0, 0] - KERNEL[0, 0]) for weight in soup.get_weights()]

    models, y = [model(0.1, 0.8), model(1.0, -0.5), model(-0.2, 3.0)], {"first": Y, "second": Y}
    of_second = {"first": np.zeros(12), "second": np.ones(12)}
    assert_close(errors(inference.soup(models, (X, y))), [-0.05, 1.9], atol=1e-5)
    assert_close(errors(inference.soup(models, (X, y), metric="second_mae")), [0.55, 0.15], atol=1e-5)
    assert_close(errors(inference.soup(models, (X, y, of_second))), [0.55, 0.15], atol=1e-5)
    with raises_received("name of a metric of one of them", "metric='mean_absolute_error'"):
        inference.soup(models, (X, y), metric=keras.metrics.MeanAbsoluteError())


def test_what_may_differ_and_what_is_not_averaged():
    """Random layers, seeds, a strength; a normalization with its derived numbers, and the network in a model around."""

    def normalization():
        layer = keras.layers.Normalization()
        layer.adapt(X)
        return layer

    def model(*parts):
        return keras.Sequential([keras.Input((3,)), normalization(), keras.layers.Dense(2, "relu"), *parts])

    strong = layers.DropPath(keras_reg.Strength(0.3), seed=3)
    first = model(keras.layers.Dropout(0.5, seed=1), strong, keras.layers.Dense(1))
    second = model(keras.layers.Dropout(0.0), keras.layers.Dense(1))
    third = training.RegularizedModel(model(keras.layers.GaussianNoise(0.2), keras.layers.Dense(1)), layers.MixUp())
    networks = [first, second, third.model]
    found = inference.soup([first, second, third], greedy=False)
    hidden, last = (
        [np.mean(arrays, 0) for arrays in zip(*(each.layers[number].get_weights() for each in networks), strict=True)]
        for number in (1, -1)
    )
    assert_close(found.layers[1].get_weights(), hidden, rtol=1e-6)
    outputs = np.maximum((X - X.mean(0)) / X.std(0) @ hidden[0] + hidden[1], 0) @ last[0] + last[1]
    assert_close(found(X), outputs, rtol=1e-4, atol=1e-5)
    (strength,) = [weight for weight in found.weights if hasattr(weight, "strength")]
    assert_close(strength, 0.3)


def test_statistics_are_refreshed_for_each_mean():
    def made(error, shift):
        parts = [keras.Input((3,)), keras.layers.Dense(3), keras.layers.BatchNormalization(momentum=0.5)]
        model = keras.Sequential([*parts, keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=EAGER)
        kernel = np.eye(3, dtype="float32") * shift
        model.layers[0].set_weights([kernel, np.zeros(3, "float32")])
        scale = np.abs(shift) * X.std(0)
        model.layers[1].set_weights([X.std(0), X.mean(0), shift * X.mean(0), scale**2 - 1e-3])
        model.layers[2].set_weights([KERNEL + error, np.zeros(1, "float32")])
        return model

    models = [made(0.3, 2.0), made(-0.2, 0.5)]
    found = inference.soup(models, (X, Y), data=X)
    assert_close(found.layers[1].moving_variance, (1.25 * X).var(0), rtol=1e-4)
    assert found.evaluate(X, Y, verbose=0) < min(model.evaluate(X, Y, verbose=0) for model in models)
    averaged = inference.soup(models, greedy=False)
    both = [model.layers[1].get_weights()[3] for model in models]
    assert_close(averaged.layers[1].moving_variance, np.mean(both, 0), rtol=1e-6)


@only("tensorflow", "jax", why="They keep it as such; NumPy has no bfloat16 of PyTorch.")
def test_half_precision_is_averaged_without_rounding_twice():
    models = []
    for value in (1.0, 1.0078125, 1.015625):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype="bfloat16")])
        model.set_weights([np.full((3, 1), value, "float32"), np.zeros(1)])
        models.append(model)
    assert_close(inference.soup(models, greedy=False).weights[0], np.full((3, 1), 1.0078125), rtol=0, atol=0)


def test_what_is_refused():
    models = linear(0.1, 0.2)
    for given in ([], None, models[0], ["resnet"], (model for model in models)):
        with raises_received("`models`"):
            inference.soup(given, (X, Y))
    with raises_received("built"):
        inference.soup([keras.Sequential([keras.layers.Dense(1)])], greedy=False)

    def network(*parts):
        return keras.Sequential([keras.Input((3,)), *parts])

    dense = keras.layers.Dense
    for other in (
        network(dense(1, use_bias=False)),
        network(dense(2)),
        network(dense(1, "relu")),
        network(dense(1), keras.layers.LeakyReLU()),
        network(dense(3), dense(1)),
    ):
        with raises_received("same architecture", "models="):
            inference.soup([models[0], other], (X, Y))

    class Counting(keras.layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.count = self.add_weight(shape=(), dtype="int32", trainable=False, initializer="zeros", name="count")

    tables = [network(Counting(1)), network(Counting(1))]
    tables[1].layers[0].count.assign(3)
    with raises_received("integer weights"):
        inference.soup(tables, greedy=False)
    with raises_received("compiled with a loss"):
        inference.soup(linear(0.1, loss=None), (X, Y))
    for data in (None, X, (X,), (X, None), (X[:0], Y[:0]), iter(BATCHES), [X, Y, None, None], "data"):
        with raises_received("`validation_data`"):
            inference.soup(models, data)
    with raises_received("`metric` must be one of 'loss', 'mae'", "metric='accuracy'"):
        inference.soup(models, (X, Y), metric="accuracy")
    for metric in (1, "", keras.metrics.Mean):
        with raises_received("`metric`"):
            inference.soup(models, (X, Y), metric=metric)

    def odd(y_true, y_pred):
        return y_pred

    with raises_received('`mode="auto"` needs a `metric`', "metric='odd'"):
        inference.soup(models, (X, Y), metric=keras.metrics.MeanMetricWrapper(odd, name="odd"))
    with raises_received("finite", "loss="):
        inference.soup(linear(float("nan")), (X, Y))
    with raises_received("`data`"):
        inference.soup(models, (X, Y), data=X[:0])
