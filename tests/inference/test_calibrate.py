"""The temperature against SciPy's minimizer, and the model and the diagram that are made with it."""

import json
import warnings

import keras
import numpy as np
import pytest
from harness import assert_close, raises_received, to_numpy

from keras_reg import inference, metrics, training

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(60, 4))).astype("float32")
Y = np.where(RNG.random(60) < 0.5, LOGITS.argmax(-1), RNG.integers(0, 4, 60))
SOFT = RNG.dirichlet(np.ones(4), 60)
BINARY = (RNG.random((60, 4)) < 0.5 / (1 + np.exp(-LOGITS)) + 0.2).astype("float32")
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy


def network(activation="linear"):
    return keras.Sequential([keras.Input((4,)), keras.layers.Activation(activation)])


def log_softmax(z):
    z = z.astype("float64") - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def nll(temperature, labels, weight=None):
    return -np.average((labels * log_softmax(LOGITS / temperature)).sum(-1), weights=weight)


def binary_nll(temperature):
    z = LOGITS.astype("float64") / temperature
    return np.mean(np.logaddexp(0, z) - BINARY * z)


@pytest.mark.parametrize("case", ["logits", "probabilities", "soft labels and weights", "independent"])
def test_the_temperature_is_that_of_scipy(case):
    optimize = pytest.importorskip("scipy.optimize")
    weight, activation, y, labels = None, "linear", Y, np.eye(4)[Y]
    if case == "probabilities":
        activation = "softmax"
    if case == "soft labels and weights":
        weight, y, labels = RNG.random(60), SOFT, SOFT
    model, value = network(activation), lambda temperature: nll(temperature, labels, weight)
    if case == "independent":
        model, value, y = network("sigmoid"), binary_nll, BINARY
    expected = optimize.minimize_scalar(value, bounds=(0.05, 100), method="bounded", options={"xatol": 1e-9}).x
    calibrated = inference.calibrate(model, (LOGITS, y) if weight is None else (LOGITS, y, weight))
    found = 1 / calibrated.get_layer("temperature").scale
    assert found == pytest.approx(expected, rel=1e-4) and abs(found - 1) > 0.1
    assert value(found) < value(1.0)
    outputs, before = to_numpy(calibrated(LOGITS)), to_numpy(model(LOGITS))
    np.testing.assert_array_equal(outputs.argmax(-1), before.argmax(-1))
    expected = {"linear": LOGITS / found, "softmax": np.exp(log_softmax(LOGITS / found))}
    expected["sigmoid"] = 1 / (1 + np.exp(-LOGITS / found))
    assert_close(outputs, expected[model.layers[-1].activation.__name__], rtol=1e-3, atol=1e-5)


def test_the_model_is_a_plain_one_and_is_compiled_alike(tmp_path):
    model = network("softmax")
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy", metrics.ExpectedCalibrationError()])
    calibrated = inference.calibrate(model, (LOGITS, Y))
    before, after = (m.evaluate(LOGITS, Y, verbose=0, return_dict=True) for m in (model, calibrated))
    assert after["loss"] < before["loss"] and after["accuracy"] == before["accuracy"]
    assert after["expected_calibration_error"] < before["expected_calibration_error"]
    # The settings of the inner model would be restored, and need the metric, with `compile=False`, too.
    assert "keras_reg" not in json.dumps(calibrated.get_config())
    plain = inference.calibrate(training.RegularizedModel(network("softmax")), (LOGITS, Y))
    assert "keras_reg" not in plain.to_json()
    plain.save(tmp_path / "calibrated.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras 3.10, about a loaded model with one input
        loaded = keras.saving.load_model(tmp_path / "calibrated.keras")(LOGITS)
    assert_close(loaded, calibrated(LOGITS), rtol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_of_low_precision_are_scaled_in_float32(activation):
    """In float16, the logarithms of many probabilities would be equal, and 1 - 1e-7 is 1."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation(activation, dtype="float16")])
    calibrated = inference.calibrate(model, (LOGITS, Y if activation == "softmax" else BINARY))
    scale = calibrated.get_layer("temperature").scale
    x = np.concatenate([LOGITS, np.full((1, 4), 20, "float32")])
    p = np.clip(to_numpy(model(x)).astype("float64"), 1e-7, np.float32(1 - 1e-7))
    expected = np.exp(log_softmax(scale * np.log(p)))
    if activation == "sigmoid":
        expected = 1 / (1 + (1 / p - 1) ** scale)
    assert_close(calibrated(x), expected, rtol=1e-4, atol=1e-7)


def test_saturated_probabilities_become_the_share_of_right_ones():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, [keras.layers.Activation("sigmoid")(inputs)])
    x, y = np.full((8, 1), 30, "float32"), np.array([1, 1, 1, 0, 1, 1, 1, 0])
    assert_close(inference.calibrate(model, (x, y))(x), np.full((8, 1), 0.75), rtol=1e-4)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, number):
        rows = slice(25 * number, 25 * number + 25)
        return LOGITS[rows], Y[rows]


def test_datasets():
    expected = inference.calibrate(network(), (LOGITS, Y)).get_layer("temperature").scale
    batches = [Batches()[0], Batches()[1], Batches()[2]]
    for data in (Batches(), batches, (batch for batch in batches)):
        found = inference.calibrate(network(), data).get_layer("temperature").scale
        assert found == pytest.approx(expected, rel=1e-6)
    column = np.ones((60, 1))  # weights as `fit` accepts them
    assert inference.calibrate(network(), (LOGITS, Y, column)).get_layer("temperature").scale == pytest.approx(expected)


def test_a_minimum_at_the_end_of_the_range():
    """All predictions are right: the likelihood grows without end."""
    found = inference.calibrate(network(), (LOGITS, LOGITS.argmax(-1)))
    assert 1 / found.get_layer("temperature").scale == pytest.approx(0.01, rel=1e-3)
    worst = inference.calibrate(network(), (LOGITS, LOGITS.argmin(-1)))
    assert 1 / worst.get_layer("temperature").scale == pytest.approx(100, rel=1e-3)


def test_the_diagram_has_the_accuracy_of_each_bin():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    ax = inference.reliability(network(), (LOGITS, Y), bins=8, from_logits=True)
    p = np.exp(log_softmax(LOGITS))
    place = np.ceil(p.max(-1) * 8) - 1  # one bin has one prediction
    hits = p.argmax(-1) == Y
    expected = {(b + 0.5) / 8: hits[place == b].mean() for b in range(8) if (place == b).any()}
    bars = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in ax.patches}
    assert_close(sorted(bars.items()), sorted(expected.items()), rtol=1e-5)
    metric = metrics.ExpectedCalibrationError(8, from_logits=True)
    metric.update_state(Y, LOGITS)
    assert f"{float(metric.result()):.3f}" in ax.get_title()
    assert inference.reliability(network("sigmoid"), (LOGITS, BINARY), ax=ax) is ax


class Endless(keras.utils.PyDataset):
    """A dataset whose number of batches is not known."""

    num_batches = None

    def __getitem__(self, index):
        return np.zeros((4, 3), "float32"), np.zeros(4, "int32")


def test_a_dataset_without_an_end_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    with raises_received("finite", "Endless"):
        inference.calibrate(model, Endless(), from_logits=True)


def test_the_mean_of_monte_carlo_is_calibrated_as_the_message_says():
    layers = [keras.layers.GaussianNoise(1e-6), keras.layers.Softmax()]
    drawing = inference.MonteCarlo(keras.Sequential([keras.Input((4,)), *layers]), samples=2, seed=0)
    with pytest.raises(ValueError, match=r"MonteCarlo.*\[\"mean\"\].*Received: outputs=\['entropy', 'mean'"):
        inference.calibrate(drawing, (LOGITS, Y))
    inputs = keras.Input((4,))
    mean = keras.Model(inputs, drawing(inputs)["mean"])
    scale = inference.calibrate(mean, (LOGITS, Y), from_logits=False).get_layer("temperature").scale
    expected = inference.calibrate(network("softmax"), (LOGITS, Y)).get_layer("temperature").scale
    assert scale == pytest.approx(expected, rel=1e-3)


def test_what_is_refused():
    regression = network()
    regression.compile("sgd", "mse")
    with raises_received("regression", "loss="):
        inference.calibrate(regression, (LOGITS, Y))
    with raises_received("(x, y)", "from_logits='ndarray'"):
        inference.calibrate(network(), LOGITS, Y)
    for data in (3, (LOGITS,), [], (LOGITS[:0], Y[:0])):
        with raises_received("`data`", "data="):
            inference.calibrate(network(), data)
    with raises_received("`data`", "labels=59"):
        inference.calibrate(network(), (LOGITS, Y[:-1]))
    for labels in (Y + 1, Y - 1, np.ones((60, 3))):
        with raises_received("Labels", "y="):
            inference.calibrate(network(), (LOGITS, labels))
    with raises_received("weights", "sum=0"):
        inference.calibrate(network(), (LOGITS, Y, np.zeros(60)))
    for outputs in (np.nan, np.inf):
        with raises_received("NaN or infinite", "outputs="):
            inference.calibrate(network(), (np.where(LOGITS > 0, outputs, LOGITS), Y))
    with raises_received("weights=(59,)"):
        inference.calibrate(network(), (LOGITS, Y, np.ones(59)))
    with raises_received("batches (x, y)", "batch="):
        inference.calibrate(network(), [LOGITS, Y])


def test_classes_that_the_loss_ignores_do_not_count():
    labels = np.where(np.arange(60) % 3 == 0, 255, Y)
    model = network()
    model.compile("sgd", CROSSENTROPY(from_logits=True, ignore_class=255))
    expected = inference.calibrate(network(), (LOGITS[labels < 255], Y[labels < 255]), from_logits=True)
    found = inference.calibrate(model, (LOGITS, labels))
    assert_close(found.get_layer("temperature").scale, expected.get_layer("temperature").scale, rtol=1e-5)
    weights = (labels < 255).astype("float32")
    weighted = inference.calibrate(network(), (LOGITS, labels, weights), from_logits=True)
    assert_close(weighted.get_layer("temperature").scale, expected.get_layer("temperature").scale, rtol=1e-5)
    title = inference.reliability(model, (LOGITS, labels)).get_title()
    assert title == inference.reliability(network(), (LOGITS[labels < 255], Y[labels < 255])).get_title()
