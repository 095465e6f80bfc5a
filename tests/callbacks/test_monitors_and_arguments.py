"""What all callbacks share: monitored values, directions, thresholds, copies, what is printed, arguments."""

import copy
import fractions
import logging
import math
import pickle

import keras
import numpy as np
import pytest
from callbacks.helpers import Script, Stub, make_model
from harness import BACKEND, raises_received, slow_on

import keras_reg
from keras_reg.callbacks import (
    DivergenceStop,
    ExponentialLR,
    GradientHistograms,
    SmoothedEarlyStopping,
    StrengthSchedule,
    WeightAverage,
    persist,
)

# Monitored values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.array([2.0]), np.array([[2.0]]), np.float16(2), [2.0], 2])
def test_a_value_of_one_element_is_a_number(value):
    stop, diverged = SmoothedEarlyStopping("val_loss", smoothing=None), DivergenceStop(monitor="val_loss")
    for callback in (stop, diverged):
        Stub().run(callback, [value], loss=[value])
    assert stop.best == 2.0 and diverged.first == 2.0
    assert isinstance(stop.best, float) and stop.training_losses == [2.0]


@pytest.mark.parametrize("value", [np.array([1.0, 2.0]), np.zeros(0), "low", None])
def test_a_value_that_is_not_one_number_is_refused(value):
    for callback in (SmoothedEarlyStopping("score", mode="max"), DivergenceStop(monitor="score")):
        callback.set_model(Stub())
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        with raises_received("monitor='score'", "a single number"):
            callback.on_epoch_end(0, {"score": value})


def test_f1_score_of_one_class(data):
    x, y = data
    score = keras.metrics.F1Score(threshold=0.5)
    stop = SmoothedEarlyStopping("val_f1_score", patience=1)
    y = (y > 0).astype("float32")
    make_model(metrics=[score]).fit(x, y, validation_data=(x, y), epochs=2, callbacks=[stop], verbose=0)
    assert 0 <= stop.best <= 1


# Absolute thresholds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_a_threshold_that_is_reached_stops(mode, sign):
    def run(values, **arguments):
        stop, model = SmoothedEarlyStopping(smoothing=None, mode=mode, patience=3, **arguments), Stub()
        Stub.run(model, stop, [sign * value for value in values])
        return stop, model

    stop, model = run([3.0, 2.0, 1.0, 0.5], stopping_threshold=sign * 1.0)  # reached, not passed
    assert stop.stopped_epoch == 2 and stop.best_epoch == 2 and model.stop_training
    assert stop.stop_reason == f"val_loss is {sign * 1.0:g} and has reached {sign * 1.0:g}"
    stop, model = run([3.0, 4.0, 4.1, 2.0], divergence_threshold=sign * 4.0)  # worse, not as bad
    assert stop.stopped_epoch == 2 and stop.best_epoch == 0 and "worse than" in stop.stop_reason
    stop, model = run([9.0, 1.0], divergence_threshold=sign * 4.0)
    assert stop.stopped_epoch == 0 and model.stop_training
    stop, model = run([9.0, 5.0, 3.0], divergence_threshold=sign * 4.0, start_from_epoch=2)
    assert not model.stop_training
    stop, model = run([1.0, 2.0, 2.0, 2.0], stopping_threshold=sign * 0.5, divergence_threshold=sign * 9.0)
    assert stop.stopped_epoch == 3 and "no better" in stop.stop_reason


def test_thresholds_look_at_the_smoothed_value_and_work_under_every_criterion():
    stop = SmoothedEarlyStopping(smoothing="mean", window=2, criterion="generalization_loss", stopping_threshold=1.0)
    Stub().run(stop, [4.0, 0.5, 1.5, 0.1], loss=[1.0] * 4)
    assert stop.stopped_epoch == 2 and stop.stop_reason == "smoothed val_loss is 1 and has reached 1"


def test_thresholds_that_contradict():
    with raises_received("stopping_threshold=2.0", "divergence_threshold=1.0"):
        SmoothedEarlyStopping(mode="min", stopping_threshold=2.0, divergence_threshold=1.0)
    stop = SmoothedEarlyStopping("val_loss", stopping_threshold=2.0, divergence_threshold=1.0)
    with raises_received("mode='min'"):
        Stub().run(stop, [1.0])
    SmoothedEarlyStopping(mode="max", stopping_threshold=2.0, divergence_threshold=1.0)


def test_a_divergence_that_is_an_error(data, tmp_path):
    """No `on_train_end` runs, so the backup stays."""
    values, ended = Script(loss=[1.0, 2.0, 9.0, 1.0]), []
    end = keras.callbacks.LambdaCallback(on_train_end=ended.append)
    callbacks = persist([values, DivergenceStop(raise_error=True), end], tmp_path / "backup")
    with pytest.raises(RuntimeError, match="Epoch 3: training diverged, loss is 9, above 3 times its first value 1"):
        make_model().fit(*data, epochs=4, callbacks=callbacks, verbose=0)
    assert not ended and (tmp_path / "backup").exists()


# Copies ---------------------------------------------------------------------------------------------------------------


def all_callbacks():
    return [
        SmoothedEarlyStopping("loss", patience=2),
        ExponentialLR(0.5, per="step"),
        DivergenceStop(per="step"),
        GradientHistograms(bins=8),
        WeightAverage(decay=0.5),
        StrengthSchedule(math.exp),
    ]


def schedule(epoch):
    return 1 / (1 + epoch)


@slow_on("tensorflow", "jax")
@pytest.mark.filterwarnings("ignore:`SmoothedEarlyStopping` restores the best weights")
def test_copies_before_and_after_a_run_belong_to_no_model(data):
    dropout = keras_reg.layers.DropPath(keras_reg.Strength(0.2))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), dropout])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    callbacks = [*all_callbacks()[:-1], StrengthSchedule(schedule)]
    for used in (False, True):
        if used:
            model.fit(*data, epochs=2, callbacks=callbacks, verbose=0)
        for callback in callbacks:
            for made in (copy.deepcopy(callback), copy.copy(callback), pickle.loads(pickle.dumps(callback))):
                assert made is not callback and made.model is None
                if not isinstance(callback, StrengthSchedule):
                    assert made.get_config() == callback.get_config()
                    np.testing.assert_equal(made.state_dict(), callback.state_dict())
                again = make_model(run_eagerly=BACKEND == "tensorflow")  # which spends its time on tracing
                made.layers = [dropout] if isinstance(made, StrengthSchedule) else None
                again.fit(*data, epochs=1, callbacks=[made], verbose=0)
    copied = copy.deepcopy(callbacks[3])
    copied.history["gradients"].clear()
    assert len(callbacks[3].history["gradients"]) == 2


def test_a_state_is_not_moved_by_training_on(data):
    gradients = GradientHistograms(bins=8, weights=False)
    model = make_model()
    model.fit(*data, callbacks=[gradients], verbose=0)
    state = gradients.state_dict()
    again = GradientHistograms(bins=8, weights=False)
    again.load_state_dict(state)
    model.fit(*data, callbacks=[again], verbose=0)
    assert len(again.history["gradients"]) == 2 and len(state["history"]["gradients"]) == 1
    assert len(gradients.history["gradients"]) == 1


def test_a_copy_of_a_schedule_moves_the_same_layers():
    layer = keras_reg.layers.DropPath(keras_reg.Strength(0.2))
    made = copy.deepcopy(StrengthSchedule(lambda epoch: 0.5, layer))
    made.set_model(make_model())
    made.on_train_begin()
    made.on_epoch_begin(0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.weights[0]), 0.1, rtol=1e-6)


# What is printed ------------------------------------------------------------------------------------------------------


def test_without_interactive_logging_nothing_is_printed(data, capsys, caplog):
    def fit():
        stop = SmoothedEarlyStopping("loss", smoothing=None, patience=1, verbose=1)
        callbacks = [Script(loss=[1.0, 2.0, 9.0]), stop, ExponentialLR(0.5, verbose=1)]
        make_model().fit(*data, epochs=3, callbacks=[*callbacks, DivergenceStop(1.5)], verbose=0)
        return capsys.readouterr().out

    shown = fit()
    assert all(word in shown for word in ("early stopping", "Restoring", "learning rate", "diverged"))
    keras.config.disable_interactive_logging()
    try:
        with caplog.at_level(logging.INFO, "keras_reg"):
            assert fit() == ""
    finally:
        keras.config.enable_interactive_logging()
    assert "\n".join(caplog.messages) == shown.strip()


# Arguments ------------------------------------------------------------------------------------------------------------

HUGE = 10**400
BAD = {
    SmoothedEarlyStopping: {
        "monitor": [None, 3, "", b"loss", ["loss"]],
        "smoothing": ["lowess", 1, True],
        "beta": [1, -0.1, math.nan, HUGE, "0.5", True, None],
        "window": [0, 1.5, "3", True],
        "criterion": ["GL", None, 1],
        "min_delta": [-1, math.inf, HUGE, "0", None, False],
        "relative": ["yes", 1, None],
        "patience": [-1, 1.0, True, "5", None],
        "mode": ["up", None, 1],
        "baseline": [math.nan, "low", True, HUGE, [1.0]],
        "restore_best_weights": ["no", 0, None],
        "start_from_epoch": [-1, 0.5, None],
        "verbose": ["yes", None, -1, 0.5],
        "strip": [0, None, 2.5],
        "threshold": [-1, "high", math.nan, True],
        "terminate_on_nan": [1, "no", None],
        "stopping_threshold": [math.nan, math.inf, "low", True, HUGE],
        "divergence_threshold": [math.nan, -math.inf, "high", False, HUGE],
    },
    DivergenceStop: {
        "factor": [1, 0, -3, math.nan, math.inf, HUGE, "3", True, None],
        "monitor": [None, 3, ""],
        "per": ["batch", None, 1],
        "verbose": ["yes", None],
        "raise_error": ["no", 1, None],
    },
    ExponentialLR: {
        "gamma": [0, -1, math.nan, math.inf, HUGE, "0.9", True, None],
        "initial_learning_rate": [0, -1, math.nan, "0.1", True],
        "warmup_epochs": [-1, math.nan, "3", True, None],
        "min_learning_rate": [-1, math.nan, "0", False, None],
        "per": ["batch", None],
        "verbose": ["yes", None],
    },
    GradientHistograms: {
        "log_dir": [3, ""],
        "every": [0, "step", 1.5, None, True, -2],
        "bins": [7, 9, 0, 64.0, "64", None, HUGE],
        "include": [1, [], [1], b"*"],
        "norms": ["yes", 1, None],
        "weights": ["no", 0, None],
        "probe": [1, "xy", (1,), [1, 2, 3, 4]],
    },
    StrengthSchedule: {"schedule": [0.5, None, "exp"], "layers": [1, "all", [1], [None], {}]},
}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{str(value)[:12]}")
        for kind, arguments in BAD.items()
        for name, values in arguments.items()
        for value in values
    ],
)
def test_bad_arguments_are_named(kind, name, value):
    arguments = {"schedule": math.exp} if kind is StrengthSchedule else {}
    with raises_received(f"`{name}`"):
        kind(**{**arguments, name: value})


def test_numbers_of_numpy_become_python_s():
    stop = SmoothedEarlyStopping(
        patience=np.int64(3), beta=np.float32(0.5), relative=np.True_, verbose=np.int8(1), monitor=np.str_("loss"),
        baseline=fractions.Fraction(1, 2), stopping_threshold=np.float64(0.25), restore_best_weights=np.False_,
    )  # fmt: skip
    gradients = GradientHistograms(
        every=np.int32(2), bins=np.int64(16), norms=np.False_, include=np.array(["*"]).tolist()
    )
    for made in (stop, DivergenceStop(np.int16(4), raise_error=np.True_), ExponentialLR(np.float64(0.5)), gradients):
        again = type(made).from_config(made.get_config())
        for name, value in made.get_config().items():
            assert type(value) in (int, float, bool, str, list, type(None)), name
            assert getattr(again, name) == value
    assert stop.patience == 3 and stop.relative is True and stop.restore_best_weights is False and stop.baseline == 0.5
    assert gradients.every == 2 and gradients.norms is False


def test_one_layer_is_a_list_of_one(data):
    layer = keras_reg.layers.DropPath(keras_reg.Strength(0.2))
    make_model().fit(*data, callbacks=[StrengthSchedule(lambda epoch: 0.5, layer)], verbose=0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.weights[0]), 0.1, rtol=1e-6)


def test_measure_says_what_it_needs(data):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    gradients = GradientHistograms(bins=8)
    with raises_received("compiled=False", "`model.compile"):
        gradients.measure(network, *data)
    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    unbuilt.compile("sgd", "mse")
    with raises_received("built=False"):
        gradients.measure(unbuilt, *data)
    for model in (None, "network", keras.layers.Dense(1)):
        with raises_received("`model` must be a `keras.Model`"):
            gradients.measure(model, *data)
    with raises_received("step='first'"):
        gradients.measure(make_model(), *data, step="first")
    network.compile("sgd", "mse")
    assert gradients.measure(network, *data)["global_norm"] > 0
