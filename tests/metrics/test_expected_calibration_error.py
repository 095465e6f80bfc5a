"""The error against a loop over bins in NumPy, in batches of uneven size."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, raises_received, to_numpy

from keras_reg import metrics

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(101, 4)).astype("float32") * 2
Y = RNG.integers(0, 4, 101)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference(confidence, hit, bins, weight=None):
    weight = np.ones(len(confidence)) if weight is None else weight
    error = 0.0
    for b in range(bins):
        here = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if here.any():
            share = weight[here].sum() / weight.sum()
            error += share * abs(
                np.average(hit[here], weights=weight[here]) - np.average(confidence[here], weights=weight[here])
            )
    return error


def in_batches(metric, *arrays):
    for rows in (slice(0, 64), slice(64, 100), slice(100, 101)):
        metric.update_state(*(array[rows] for array in arrays))
    return float(metric.result())


P = softmax(LOGITS)
CONFIDENCE, HIT = P.max(-1), (P.argmax(-1) == Y).astype("float64")


def test_ids_one_hot_labels_logits_and_weights():
    expected = reference(CONFIDENCE, HIT, 7)
    assert expected > 0.2
    for y in (Y, Y[:, None], np.eye(4)[Y]):
        assert in_batches(metrics.ExpectedCalibrationError(7), y, P) == pytest.approx(expected, rel=1e-5)
    weight = RNG.random(101)
    metric = metrics.ExpectedCalibrationError(7, from_logits=True)
    weighted = in_batches(metric, Y, LOGITS, weight)
    assert weighted == pytest.approx(reference(CONFIDENCE, HIT, 7, weight), rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0
    maps = metrics.ExpectedCalibrationError(7)
    maps.update_state(Y[:100].reshape(5, 4, 5), P[:100].reshape(5, 4, 5, 4), weight[:5])
    assert float(maps.result()) == pytest.approx(
        reference(CONFIDENCE[:100], HIT[:100], 7, np.repeat(weight[:5], 20)), rel=1e-5
    )


def test_one_output_is_the_probability_of_class_1():
    logits, y = LOGITS[:, :1], (Y > 1).astype("float32")
    p = 1 / (1 + np.exp(-logits[:, 0]))
    expected = reference(np.maximum(p, 1 - p), (p > 0.5) == y, 15)
    assert in_batches(metrics.ExpectedCalibrationError(from_logits=True), y[:, None], logits) == pytest.approx(
        expected, rel=1e-5
    )
    assert in_batches(metrics.ExpectedCalibrationError(), y, p) == pytest.approx(expected, rel=1e-5)


def test_the_larger_class_of_soft_labels_counts():
    hard, soft = (metrics.ExpectedCalibrationError(2) for _ in range(2))
    hard.update_state([1, 1, 0], [0.75, 0.75, 0.75])
    soft.update_state([0.9, 0.6, 0.3], [0.75, 0.75, 0.75])
    assert float(soft.result()) == float(hard.result()) == pytest.approx(1 / 12)


def test_bins_contain_their_upper_end():
    metric = metrics.ExpectedCalibrationError(2)
    metric.update_state([0, 1, 0], [[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    assert to_numpy(metric.counts).tolist() == [1, 2]
    assert float(metric.result()) == pytest.approx((0.5 + abs(1 - 1.75)) / 3)


def test_in_compiled_evaluation():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Softmax()])
    model.compile(loss="sparse_categorical_crossentropy", metrics=[metrics.ExpectedCalibrationError(7)])
    logs = model.evaluate(LOGITS, Y, batch_size=64, verbose=0, return_dict=True)
    assert logs["expected_calibration_error"] == pytest.approx(reference(CONFIDENCE, HIT, 7), rel=1e-5)


def test_labels_that_do_not_fit_are_refused():
    with raises_received("`y_true`", "y_pred=(101, 4)"):
        metrics.ExpectedCalibrationError().update_state(np.ones((101, 3)), P)
    with raises_received("sample_weight=(100,)", "predictions=(101,)"):
        metrics.ExpectedCalibrationError().update_state(Y, P, np.ones(100))


def test_callbacks_know_that_less_is_better():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "softmax")])
    model.compile(
        keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=[metrics.ExpectedCalibrationError()]
    )
    stop = keras.callbacks.EarlyStopping("val_expected_calibration_error", patience=1)
    model.fit(LOGITS, Y, epochs=4, validation_data=(LOGITS, Y), callbacks=[stop], verbose=0)
    assert stop.stopped_epoch == 1 and stop.monitor_op(0.1, 0.2)


def test_logits_are_not_taken_for_probabilities():
    logits = np.array([[5.0, -1.0], [0.0, 3.0], [0.5, 0.5]], "float32")
    metric = metrics.ExpectedCalibrationError()
    with raises_received("from_logits=True", "least=-1.0, most=5.0"):
        metric.update_state([0, 1, 1], logits)
    metric.update_state([0, 1, 1], logits, sample_weight=[0, 0, 1])  # what does not count may be anything
    assert_close(metric.result(), 0.5, rtol=1e-6)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Activation("linear")])
    model.compile(loss="mse", metrics=[metrics.ExpectedCalibrationError()], jit_compile=BACKEND == "jax")
    if BACKEND == "torch":
        with raises_received("from_logits=True", "least=-1.0"):
            model.evaluate(logits, np.eye(2)[[0, 1, 1]], verbose=0)
    else:
        assert np.isnan(model.evaluate(logits, np.eye(2)[[0, 1, 1]], verbose=0)[1])


def test_what_has_no_weight_may_be_no_number():
    p = np.array([[0.8, 0.2], [0.3, 0.7], [np.nan, np.nan]], "float32")
    metric = metrics.ExpectedCalibrationError()
    metric.update_state([0, 1, 0], p, [1.0, 1.0, 0.0])
    assert_close(metric.result(), 0.25)
