import json
import math
import warnings

import keras
import numpy as np
import pytest
from callbacks.helpers import Script, Stub, make_model
from harness import assert_close, raises_received
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_reg.callbacks import SmoothedEarlyStopping, WeightAverage

NAN, INF = math.nan, math.inf
CURVE = [3.0, 2.0, 2.5, 1.0, 1.75, 1.5, 0.5, 1.25, 2.0, 4.0]


def smoothed(seen, name="smoothed_val_loss"):
    return [logs[name] for logs in seen]


# What is logged -----------------------------------------------------------------------------------------------------


def test_ema_is_adam_s_bias_corrected_average():
    seen = smoothed(Stub().run(SmoothedEarlyStopping(beta=0.7, patience=99), CURVE))
    moment, expected = 0.0, []
    for step, value in enumerate(CURVE, start=1):
        moment = 0.7 * moment + 0.3 * value
        expected.append(moment / (1 - 0.7**step))
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


@pytest.mark.parametrize(("smoothing", "reference"), [("mean", np.mean), ("median", np.median)])
def test_windows_look_back_over_what_there_is(smoothing, reference):
    seen = smoothed(Stub().run(SmoothedEarlyStopping(smoothing=smoothing, window=4, patience=99), CURVE))
    expected = [reference(CURVE[max(0, end - 4) : end]) for end in range(1, len(CURVE) + 1)]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_degenerate_smoothings_are_the_raw_curve():
    for arguments in (
        {"beta": 0},
        {"smoothing": "mean", "window": 1},
        {"smoothing": "median", "window": 1},
        {"smoothing": None},
    ):
        assert smoothed(Stub().run(SmoothedEarlyStopping(patience=99, **arguments), CURVE)) == CURVE


def test_history_and_later_callbacks_see_the_smoothed_value(data, tmp_path):
    losses = [1.0, 0.5, 0.9, 0.6, 0.9, 0.9]
    path = tmp_path / "best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="smoothed_val_loss", mode="min", save_best_only=True, save_weights_only=True
    )
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="smoothed_val_loss", mode="min", patience=1, factor=0.5, min_delta=0
    )
    stop = SmoothedEarlyStopping(smoothing="mean", window=2, patience=99, restore_best_weights=False)
    weights = []
    model = make_model(keras.optimizers.SGD(0.125))
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    callbacks = [Script(val_loss=losses), stop, checkpoint, plateau, record]
    history = model.fit(*data, epochs=6, callbacks=callbacks, verbose=0).history
    means = [1.0, 0.75, 0.7, 0.75, 0.75, 0.9]
    np.testing.assert_allclose(history["smoothed_val_loss"], means)
    assert checkpoint.best == pytest.approx(0.7) and stop.best_epoch == 2
    # Better in epochs 1 and 2, so halved after 3, 4 and 5; the log of an epoch has the rate before.
    assert history["learning_rate"] == [0.125] * 4 + [0.0625, 0.03125]
    model.load_weights(path)
    assert_close(model.get_weights(), weights[2], rtol=0, atol=0)


# Decisions ----------------------------------------------------------------------------------------------------------

EIGHTHS = st.integers(-80, 80).map(lambda n: n / 8)
# Keras compares tensors. On some processors, TensorFlow takes numbers below 1e-38 for 0 then.
NUMBERS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.one_of(EIGHTHS, NUMBERS), min_size=1, max_size=12),
    min_delta=st.one_of(st.just(0.0), st.floats(0, 2)),
    patience=st.integers(0, 4),
    mode=st.sampled_from(["auto", "min", "max"]),
    baseline=st.one_of(st.none(), EIGHTHS),
    restore=st.booleans(),
    start=st.integers(0, 4),
)
def test_without_smoothing_it_decides_like_keras(values, min_delta, patience, mode, baseline, restore, start):
    from_keras, ours = [
        kind(
            min_delta=min_delta,
            patience=patience,
            mode=mode,
            baseline=baseline,
            restore_best_weights=restore,
            start_from_epoch=start,
            **arguments,
        )
        for kind, arguments in ((keras.callbacks.EarlyStopping, {}), (SmoothedEarlyStopping, {"smoothing": None}))
    ]
    stubs = [Stub(), Stub()]
    for stub, callback in zip(stubs, (from_keras, ours), strict=True):
        stub.trace = []
        stub.epochs = len(Stub().run(_Tracing(callback, stub.trace), values))
        callback.on_train_end()
    assert stubs[1].trace == stubs[0].trace
    assert stubs[1].epochs == stubs[0].epochs and stubs[1].stop_training == stubs[0].stop_training
    assert stubs[1].weights == stubs[0].weights


class _Tracing:
    """Passes everything on to a callback and notes its state after every epoch."""

    def __init__(self, callback, trace):
        self.callback, self.trace = callback, trace

    def __getattr__(self, name):
        return getattr(self.callback, name)

    def on_epoch_end(self, epoch, logs):
        self.callback.on_epoch_end(epoch, logs)
        callback = self.callback
        self.trace.append((callback.wait, callback.best, callback.best_epoch, callback.stopped_epoch))


def test_a_lucky_epoch_does_not_become_the_best():
    values = [1.0, 0.9, 0.1, 0.8, 0.7, 0.6, 0.65, 0.7, 0.8, 0.9]
    lucky = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    model = Stub()
    model.run(lucky, values)
    assert lucky.best_epoch == 2 and lucky.stopped_epoch == 5
    for smoothing in ("mean", "median"):
        stop, model = SmoothedEarlyStopping(smoothing=smoothing, window=3, patience=3), Stub()
        model.run(stop, values)
        stop.on_train_end()
        assert stop.stopped_epoch > 5 and model.weights == [np.array([float(stop.best_epoch)])]
    assert stop.best_epoch == 6


@pytest.mark.parametrize("mode", ["min", "max"])
def test_min_delta_is_absolute_or_relative(mode):
    sign = 1 if mode == "min" else -1
    values = [sign * value for value in (100, 95, 90.5, 90.4, 90.3, 90.2, 90.1, 89)]

    def best_epoch(**arguments):
        stop = SmoothedEarlyStopping(smoothing=None, patience=99, mode=mode, **arguments)
        Stub().run(stop, values)
        return stop.best_epoch

    assert best_epoch(min_delta=0.3) == 7 and best_epoch(min_delta=5.5) == 2 and best_epoch(min_delta=20) == 0
    assert best_epoch(min_delta=0.05, relative=True) == 2  # 100 to 95 is exactly 5 per cent, so not more
    assert best_epoch(min_delta=0.04, relative=True) == 2 and best_epoch(min_delta=0.01, relative=True) == 7
    assert best_epoch(min_delta=0.2, relative=True) == 0


def test_relative_min_delta_applies_to_the_baseline():
    stop = SmoothedEarlyStopping(smoothing=None, patience=2, baseline=10.0, min_delta=0.1, relative=True)
    Stub().run(stop, [9.5, 9.2, 8.0])
    assert stop.stopped_epoch == 1  # 9.2 is neither 10 % below 10 nor 10 % below 9.5


# Prechelt's criteria, written once more from the paper --------------------------------------------------------------


def _stops_by_gl(errors, alpha):
    for t in range(1, len(errors) + 1):
        optimum = np.min(errors[:t])
        if 100.0 * (errors[t - 1] / optimum - 1.0) > alpha:
            return t
    return None


def _stops_by_pq(errors, training, alpha, k):
    for t in range(k, len(errors) + 1, k):
        gl = 100.0 * (errors[t - 1] / np.min(errors[:t]) - 1.0)
        strip = np.asarray(training[t - k : t])
        progress = 1000.0 * (strip.sum() / (k * strip.min()) - 1.0)
        if gl > 0 and gl / progress > alpha:
            return t
    return None


def _stops_by_up(errors, s, k):
    """UP_s stops after epoch t iff UP_{s-1} stops after epoch t - k and E(t) > E(t - k)."""

    def stops(s, t):
        if t - k < 1 or t % k:
            return False
        return errors[t - 1] > errors[t - k - 1] and (s == 1 or stops(s - 1, t - k))

    return next((t for t in range(1, len(errors) + 1) if stops(s, t)), None)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    smoothing=st.sampled_from([None, "ema", "mean", "median"]),
    criterion=st.sampled_from(["generalization_loss", "progress_quotient", "successive_increases"]),
    strip=st.integers(2, 5),
    scale=st.sampled_from([0.1, 0.5, 1.0, 2.0]),
)
def test_prechelt_s_criteria(seed, smoothing, criterion, strip, scale):
    rng = np.random.default_rng(seed)
    epochs = np.arange(1, 41)
    errors = list(1 / epochs + 0.01 * epochs + 0.03 * rng.uniform(size=40))
    training = list(1 / epochs + 0.02 * rng.uniform(size=40) + 0.01)
    threshold = max(1, round(3 * scale)) if criterion == "successive_increases" else 5 * scale
    model = Stub()
    stop = SmoothedEarlyStopping(smoothing=smoothing, criterion=criterion, strip=strip, threshold=threshold, patience=1)
    seen = model.run(stop, errors, loss=training)
    # The oracle needs the whole smoothed curve; one that never stops logs it.
    curve = smoothed(Stub().run(SmoothedEarlyStopping(smoothing=smoothing, patience=99), errors))
    expected = {
        "generalization_loss": lambda: _stops_by_gl(curve, threshold),
        "progress_quotient": lambda: _stops_by_pq(curve, training, threshold, strip),
        "successive_increases": lambda: _stops_by_up(curve, threshold, strip),
    }[criterion]()
    assert (len(seen) if model.stop_training else None) == expected
    if expected:
        assert stop.stopped_epoch == expected - 1 and criterion in stop.stop_reason


def test_thresholds_by_default():
    def stopped(criterion, values, **others):
        stop, model = SmoothedEarlyStopping(smoothing=None, criterion=criterion, strip=2), Stub()
        model.run(stop, values, **others)
        return stop.stopped_epoch if model.stop_training else None

    assert stopped("generalization_loss", [100.0, 104.9, 105.5]) == 2
    # GL = 5 per cent, and the training loss of the last strip is 5 (then 4) per mille above its lowest.
    assert stopped("progress_quotient", [1.0, 1.0, 1.0, 1.05], loss=[1.0, 1.0, 1.0, 1.0101]) is None
    assert stopped("progress_quotient", [1.0, 1.0, 1.0, 1.05], loss=[1.0, 1.0, 1.0, 1.0099]) == 3
    assert stopped("successive_increases", [0, 1.0, 0, 2.0, 9, 3.0, 0, 4.0]) == 7
    assert stopped("successive_increases", [0, 1.0, 0, 2.0, 9, 1.5, 0, 4.0]) is None


def test_a_perfect_or_a_flat_training_curve_does_not_break_the_criteria():
    for criterion in ("generalization_loss", "progress_quotient"):
        stop, model = SmoothedEarlyStopping(smoothing=None, criterion=criterion, strip=1), Stub()
        model.run(stop, [0.0, 0.0, 0.5], loss=[0.0, 0.0, 0.0] if criterion != "progress_quotient" else [1.0, 1.0, 1.0])
        assert stop.stopped_epoch == 2 and stop.best_epoch == 0


def test_negative_errors_are_told_once_and_never_stop():
    stop, model = SmoothedEarlyStopping(smoothing=None, criterion="generalization_loss"), Stub()
    with pytest.warns(UserWarning, match="negative") as caught:
        model.run(stop, [-1.0, -2.0, 5.0, 9.0])
    assert len(caught) == 1 and not model.stop_training


# Values that are not finite -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_values_that_are_not_finite_never_become_the_best(bad, mode):
    sign = 1 if mode == "min" else -1
    stop, model = SmoothedEarlyStopping(mode=mode, patience=3), Stub()
    seen = smoothed(model.run(stop, [bad, sign * 3.0, bad, bad, sign * 2.0, sign * 1.0]))
    assert not model.stop_training and stop.best_epoch == 5
    without = smoothed(Stub().run(SmoothedEarlyStopping(mode=mode), [sign * 3.0, sign * 2.0, sign * 1.0]))
    assert [seen[1], *seen[4:]] == without  # the smoothing does not see them
    assert [seen[0], *seen[2:4]] == [sign * INF] * 3


@pytest.mark.parametrize("criterion", ["patience", "generalization_loss", "progress_quotient", "successive_increases"])
def test_values_that_are_not_finite_stop_after_the_patience_or_at_once(criterion):
    values, training = [3.0, 2.0, NAN, INF, NAN, 1.0], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    stop, model = SmoothedEarlyStopping(criterion=criterion, patience=3), Stub()
    model.run(stop, values, loss=training)
    assert stop.stopped_epoch == 4 and "not finite" in stop.stop_reason
    stop.on_train_end()
    assert model.weights == [1.0]
    stop, model = SmoothedEarlyStopping(criterion=criterion, patience=3, terminate_on_nan=True), Stub()
    model.run(stop, values, loss=training)
    assert stop.stopped_epoch == 2


def test_without_any_finite_value_the_weights_stay():
    stop, model = SmoothedEarlyStopping(patience=2), Stub()
    model.run(stop, [NAN, NAN, NAN])
    stop.on_train_end()
    assert stop.best is None and model.weights == [1.0] and stop.stopped_epoch == 1


# Weights ------------------------------------------------------------------------------------------------------------


class _Record(keras.callbacks.Callback):
    """The weights after every batch and after every epoch."""

    def __init__(self):
        super().__init__()
        self.batches, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.model.get_weights())


LOSSES = [3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("restore", [True, False])
def test_the_weights_of_the_best_epoch_come_back(data, capsys, restore):
    stop, record = SmoothedEarlyStopping(beta=0.1, patience=2, restore_best_weights=restore, verbose=1), _Record()
    model = make_model()
    model.fit(*data, epochs=8, batch_size=4, callbacks=[Script(val_loss=LOSSES), stop, record], verbose=0)
    assert stop.best_epoch == 2 and stop.stopped_epoch == 4
    assert_close(model.get_weights(), record.epochs[2 if restore else 4], rtol=0, atol=0)
    printed = capsys.readouterr().out
    assert "Epoch 5: early stopping, no better smoothed val_loss for 2 epoch(s)." in printed
    assert restore == ("Restoring the weights of epoch 3, the one with the best smoothed val_loss." in printed)


def test_best_is_named_raw_without_smoothing(capsys):
    stop = SmoothedEarlyStopping(smoothing=None, patience=1, verbose=1)
    Stub().run(stop, [1.0, 2.0])
    stop.on_train_end()
    assert "the best val_loss." in capsys.readouterr().out


def test_the_best_weights_come_back_without_an_early_stop(data):
    stop, record = SmoothedEarlyStopping(smoothing=None, patience=99), _Record()
    model = make_model()
    model.fit(*data, epochs=6, callbacks=[Script(val_loss=LOSSES), stop, record], verbose=0)
    assert stop.stop_reason is None
    assert_close(model.get_weights(), record.epochs[2], rtol=0, atol=0)


def _with_averages(kind):
    arguments = {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.8}
    if kind == "overwritten":
        return keras.optimizers.SGD(**arguments, ema_overwrite_frequency=4)
    if kind == "loss scale":
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(**arguments), initial_scale=1.0)
    if kind == "multi":
        if not hasattr(keras.optimizers, "MultiOptimizer"):
            pytest.skip("This Keras has no MultiOptimizer.")
        return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.SGD(**arguments)))
    return keras.optimizers.SGD(**arguments)


@pytest.mark.parametrize("kind", ["plain", "loss scale", "multi"])
def test_with_use_ema_the_model_ends_with_the_averages_of_the_best_epoch(data, kind):
    stop, record = SmoothedEarlyStopping(smoothing=None, patience=3), _Record()
    model = make_model(_with_averages(kind))
    model.fit(*data, epochs=8, batch_size=4, callbacks=[Script(val_loss=LOSSES), stop, record], verbose=0)
    assert stop.best_epoch == 2 and stop.stopped_epoch == 5
    averages = _averages(record.batches, momentum=0.8)
    assert_close(model.get_weights(), averages[3 * 3 - 1], rtol=1e-5, atol=1e-6)
    assert np.abs(averages[3 * 3 - 1][0] - record.epochs[2][0]).max() > 0.01  # not the raw weights of that epoch
    assert np.abs(averages[3 * 3 - 1][0] - averages[-1][0]).max() > 0.01  # nor the averages of the last


def _averages(weights, momentum):
    """The moving average after every step, which begins with the weights after the first."""
    average, result = weights[0], []
    for current in weights:
        average = [momentum * a + (1 - momentum) * w for a, w in zip(average, current, strict=True)]
        result.append(average)
    return result


def test_raw_weights_train_on_undisturbed_under_use_ema(data):
    """Looking at the averages in the best epochs changes nothing in the epochs after."""
    records = []
    for stop in (SmoothedEarlyStopping(patience=99), keras.callbacks.Callback()):
        records.append(_Record())
        model = make_model(_with_averages("overwritten"))
        callbacks = [Script(val_loss=LOSSES), stop, records[-1]]
        model.fit(*data, epochs=5, batch_size=4, shuffle=False, callbacks=callbacks, verbose=0)
    assert_close(records[0].batches, records[1].batches, rtol=0, atol=0)


def test_training_goes_on_from_restored_averages(data):
    """The optimizer's averages are those of the restored weights too, else the next `fit` would end far from them."""
    model = make_model(_with_averages("plain"))
    stop = SmoothedEarlyStopping(smoothing=None, patience=3)
    model.fit(*data, epochs=8, batch_size=4, callbacks=[Script(val_loss=LOSSES), stop], verbose=0)
    restored = model.get_weights()
    model.optimizer.learning_rate = 0.0
    model.fit(*data, batch_size=4, verbose=0)
    assert_close(model.get_weights(), restored, rtol=1e-6, atol=1e-6)


def test_with_swap_ema_weights(data):
    """Validation on the averages, and swapping on epochs too where SwapEMAWeights comes after."""
    for swap in (keras.callbacks.SwapEMAWeights(), keras.callbacks.SwapEMAWeights(swap_on_epoch=True)):
        stop, record = SmoothedEarlyStopping("score", smoothing=None, mode="min", patience=3), _Record()
        model = make_model(_with_averages("plain"))
        callbacks = [Script(score=LOSSES), stop, swap, record]
        callbacks = callbacks if swap.swap_on_epoch else [swap, *callbacks[:2], record]
        model.fit(*data, epochs=8, batch_size=4, validation_data=data, callbacks=callbacks, verbose=0)
        expected = _averages(record.batches, momentum=0.8)[3 * 3 - 1]
        assert_close(model.get_weights(), expected, rtol=1e-5, atol=1e-5)


# Which value, and which way is better -------------------------------------------------------------------------------


def test_auto_mode_knows_keras_metrics_and_losses(data):
    x, y = data
    model = make_model(loss="binary_crossentropy", metrics=["accuracy", "mae"])
    stops = [SmoothedEarlyStopping(name) for name in ("val_accuracy", "val_mae", "val_loss", "accuracy")]
    model.fit(x, y > 0, validation_data=(x, y > 0), callbacks=stops, verbose=0)
    assert [stop._direction for stop in stops] == ["max", "min", "min", "max"]


def test_auto_mode_knows_the_losses_of_many_outputs():
    inputs = keras.Input((2,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"})
    x, stop = np.ones((4, 2)), SmoothedEarlyStopping("val_b_loss")
    y = {"a": np.ones((4, 1)), "b": np.ones((4, 1))}
    model.fit(x, y, validation_data=(x, y), callbacks=[stop], verbose=0)
    assert stop._direction == "min"


def test_auto_mode_asks_where_it_cannot_know(data):
    with raises_received("mode='auto'", "monitor='score'"):
        make_model().fit(*data, callbacks=[Script(score=[1.0]), SmoothedEarlyStopping("score")], verbose=0)


def test_a_misspelt_monitor_is_told_after_the_first_epoch_with_what_there_is(data):
    model = make_model(metrics=["mae"])
    for monitor, validation in (("val_los", data), ("los", data), ("val_los", None)):
        epochs = []
        count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs, epochs=epochs: epochs.append(epoch))
        with raises_received(f"monitor={monitor!r}", "'loss'", "'mae'", "'val_loss'", "'val_mae'"):
            callbacks = [count, SmoothedEarlyStopping(monitor, mode="min")]
            model.fit(*data, validation_data=validation, epochs=3, callbacks=callbacks, verbose=0)
        assert epochs == [0]


def test_missing_validation_data_is_told_once(data):
    stop = SmoothedEarlyStopping(patience=1)
    with pytest.warns(UserWarning, match=r"'val_loss'.*validation_data.*'loss'") as caught:
        history = make_model().fit(*data, epochs=3, callbacks=[stop], verbose=0)
    assert [str(w.category.__name__) for w in caught].count("UserWarning") == 1 and len(history.epoch) == 3


def test_epochs_without_validation_do_not_count(data):
    stop = SmoothedEarlyStopping(smoothing=None, patience=2)
    with pytest.warns(UserWarning, match="validation_freq"):
        model = make_model(keras.optimizers.SGD(0.0))
        history = model.fit(*data, epochs=9, validation_data=data, validation_freq=2, callbacks=[stop], verbose=0)
    assert stop.best_epoch == 1 and stop.stopped_epoch == 5 and len(history.history["smoothed_val_loss"]) == 3


@pytest.mark.parametrize("criterion", ["generalization_loss", "progress_quotient", "successive_increases"])
def test_prechelt_s_criteria_are_for_errors(data, criterion):
    with raises_received("mode='max'"):
        SmoothedEarlyStopping("val_accuracy", criterion=criterion, mode="max")
    with raises_received("threshold="):
        SmoothedEarlyStopping(criterion=criterion, threshold=0 if criterion == "successive_increases" else -1)
    stop = SmoothedEarlyStopping("val_accuracy", criterion=criterion)
    with raises_received("mode='max'"):
        make_model(metrics=["accuracy"]).fit(*data, validation_data=data, callbacks=[stop], verbose=0)


# State, data, arguments ---------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.one_of(EIGHTHS.map(abs), st.sampled_from([NAN, INF])), min_size=2, max_size=14),
    cut=st.integers(1, 13),
    criterion=st.sampled_from(["patience", "generalization_loss", "progress_quotient", "successive_increases"]),
)
def test_a_saved_state_goes_on_like_an_uninterrupted_run(values, cut, criterion):
    arguments = {"criterion": criterion, "patience": 3, "strip": 2, "mode": "min"}
    training = [1.0 + 0.01 * (epoch % 3) for epoch in range(len(values))]
    whole, model = SmoothedEarlyStopping(**arguments), Stub()
    seen = model.run(whole, values, loss=training)
    cut = min(cut, len(seen) - 1)
    before, after, resumed = SmoothedEarlyStopping(**arguments), SmoothedEarlyStopping(**arguments), Stub()
    seen_twice = Stub().run(before, values[:cut], loss=training)
    state = before.state_dict()
    weights = state.pop("best_weights")
    after.load_state_dict({**json.loads(json.dumps(state)), "best_weights": weights})
    seen_twice += resumed.run(after, values[cut:], first_epoch=cut, loss=training[cut:])
    assert seen_twice == seen and resumed.stop_training == model.stop_training
    assert after.state_dict() == whole.state_dict()  # weights of one element compare like numbers


def test_a_state_of_something_else_is_refused():
    with raises_received("state=['wait']", "best_epoch"):
        SmoothedEarlyStopping().load_state_dict({"wait": 3})


def test_a_second_fit_starts_anew_and_a_loaded_state_lasts_for_one(data):
    stop = SmoothedEarlyStopping(smoothing=None, patience=2)
    for _ in range(2):
        model = make_model()
        history = model.fit(*data, epochs=9, callbacks=[Script(val_loss=[1.0, 2.0, 3.0]), stop], verbose=0)
        assert history.epoch == [0, 1, 2] and stop.stopped_epoch == 2
        assert history.history["smoothed_val_loss"] == [1.0, 2.0, 3.0]
    other = SmoothedEarlyStopping(smoothing=None, patience=2)
    other.load_state_dict(stop.state_dict())
    model.fit(*data, callbacks=[Script(val_loss=[4.0]), other], verbose=0)
    assert other.best == 1.0 and other.values == [1.0, 2.0, 3.0, 4.0]
    model.fit(*data, callbacks=[Script(val_loss=[4.0]), other], verbose=0)
    assert other.best == 4.0 and other.values == [4.0]


def test_two_of_them_stop_when_either_does(data):
    script = Script(val_a=[1.0] * 9, val_b=[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    stops = [SmoothedEarlyStopping(name, mode="min", patience=3) for name in ("val_a", "val_b")]
    history = make_model().fit(*data, epochs=9, callbacks=[script, *stops], verbose=0)
    assert len(history.epoch) == 4 and stops[0].stop_reason and not stops[1].stop_reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("smoothing", "gauss"),
        ("beta", 1.0),
        ("beta", -0.1),
        ("window", 0),
        ("criterion", "GL"),
        ("min_delta", -1),
        ("patience", 1.5),
        ("mode", "down"),
        ("baseline", "low"),
        ("start_from_epoch", -1),
        ("strip", 0),
        ("threshold", -1),
    ],
)
def test_bad_arguments(name, value):
    with raises_received(f"{name}={value!r}"):
        SmoothedEarlyStopping(**{name: value})


def test_config_goes_round():
    config = {"monitor": "val_mae", "smoothing": "median", "window": 3, "patience": 1, "threshold": 2}
    stop = SmoothedEarlyStopping(**config)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(stop))
    assert again.get_config() == stop.get_config() and config.items() <= again.get_config().items()


@pytest.mark.parametrize("swap, warns", [("end", True), ("validation", False)])
def test_restored_weights_and_an_average_at_the_end_exclude_each_other(swap, warns):
    model = make_model()
    callbacks = [WeightAverage(swap=swap), SmoothedEarlyStopping("loss")]
    for order in (callbacks, callbacks[::-1]):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=1, callbacks=order, verbose=0)
        assert any('`swap="validation"`' in str(one.message) for one in caught) == warns
