import json
import math

import keras
import numpy as np
import pytest
from callbacks.helpers import Stub, make_model
from harness import raises_received

from keras_reg.callbacks import DivergenceStop


def stopped_after(values, **arguments):
    """The number of epochs after which it stops, or `None`, and its reason."""
    stop, model = DivergenceStop(verbose=0, **arguments), Stub()
    seen = model.run(stop, values, monitor=arguments.get("monitor", "loss"))
    assert stop.diverged == model.stop_training == (stop.stop_reason is not None)
    return (len(seen) if model.stop_training else None), stop.stop_reason


def test_it_stops_above_the_factor_times_the_first_value():
    assert stopped_after([2.0, 1.0, 6.0, 5.9, 6.01, 1.0]) == (5, "loss is 6.01, above 3 times its first value 2")
    assert stopped_after([2.0, 1.0, 6.0, 5.9, 6.01], factor=4) == (None, None)
    assert stopped_after([1.0, 1.2], factor=1.1, monitor="val_loss")[0] == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_it_stops_at_a_value_that_is_not_finite(value):
    assert stopped_after([2.0, value]) == (2, f"loss is {value}")
    assert stopped_after([value, 2.0]) == (1, f"loss is {value}")


def test_costs_that_start_at_zero_or_below():
    assert stopped_after([-2.0, -1.0, 1.9, 2.0])[0] is None
    assert stopped_after([-2.0, 2.01])[0] == 2
    assert stopped_after([0.0, 100.0, math.inf])[0] == 3


@pytest.fixture
def exploding():
    """A model whose residual is multiplied by -5.25 with every step, and data of one sample a batch."""
    model = make_model(keras.optimizers.SGD(0.625))
    x = np.tile(np.array([[2.0, 0.0]], "float32"), (6, 1))
    return model, x, np.zeros((6, 1), "float32")


def test_per_step_stops_in_the_middle_of_the_epoch(exploding, capsys):
    model, x, y = exploding
    batches = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(logs["loss"]))
    stop = DivergenceStop(per="step")
    model.fit(x, y, epochs=3, batch_size=1, callbacks=[stop, count], verbose=0)
    # The losses are 4, 110.25, ..., and their mean after the second batch is 57.125.
    assert batches == [4.0, 57.125] and stop.first == 4.0
    assert (stop.stopped_epoch, stop.stopped_step) == (0, 1)
    assert (
        "Epoch 1, step 2: training diverged, loss is 57.125, above 3 times its first value 4."
        in capsys.readouterr().out
    )


def test_per_epoch_stops_after_the_epoch_and_does_not_look_at_batches(exploding, capsys):
    model, x, y = exploding
    stop = DivergenceStop()
    history = model.fit(x, y, epochs=3, batch_size=3, callbacks=[stop], verbose=0)
    assert history.epoch == [0, 1] and (stop.stopped_epoch, stop.stopped_step) == (1, None)
    assert "Epoch 2: training diverged, loss is" in capsys.readouterr().out
    # Keras reads the logs from the device after every batch if a callback has this method.
    assert DivergenceStop.on_train_batch_end is keras.callbacks.Callback.on_train_batch_end


def test_a_run_that_converges_is_left_alone(data):
    for per in ("epoch", "step"):
        stop = DivergenceStop(per=per)
        history = make_model().fit(*data, epochs=4, batch_size=12, callbacks=[stop], verbose=0)
        assert len(history.epoch) == 4 and not stop.diverged


def test_a_second_fit_starts_anew_and_a_saved_state_goes_on(exploding):
    model, x, y = exploding
    stop = DivergenceStop(verbose=0)
    for _ in range(2):
        model.set_weights([np.ones((2, 1)), np.zeros(1)])
        model.fit(x, y, epochs=3, batch_size=3, callbacks=[stop], verbose=0)
        assert stop.stopped_epoch == 1
    state = {**stop.state_dict(), "stop_reason": None, "stopped_epoch": None}
    again = DivergenceStop(verbose=0)
    again.load_state_dict(json.loads(json.dumps(state)))
    Stub().run(again, [4 * stop.first], monitor="loss", first_epoch=5)
    assert again.first == stop.first and again.stopped_epoch == 5


def test_a_misspelt_monitor_is_told_at_once(data):
    for per, seen in (("step", 0), ("epoch", 3)):
        batches = []
        count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs, seen=batches: seen.append(batch))
        with raises_received("monitor='lost'", "'loss'"):
            make_model().fit(
                *data, batch_size=4, epochs=2, callbacks=[DivergenceStop(monitor="lost", per=per), count], verbose=0
            )
        assert len(batches) == seen


def test_missing_validation_data_is_told_once(data):
    with pytest.warns(UserWarning, match="validation_data"):
        make_model().fit(*data, epochs=2, callbacks=[DivergenceStop(monitor="val_loss")], verbose=0)


@pytest.mark.parametrize(("name", "value"), [("factor", 1), ("factor", math.nan), ("per", "batch")])
def test_bad_arguments(name, value):
    with raises_received(f"{name}={value!r}"):
        DivergenceStop(**{name: value})
    with raises_received("monitor='val_loss'"):
        DivergenceStop(monitor="val_loss", per="step")


def test_config_goes_round():
    stop = DivergenceStop(2.0, "mae", "step", 0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(stop))
    assert list(again.get_config().values()) == [2.0, "mae", "step", 0, False]
