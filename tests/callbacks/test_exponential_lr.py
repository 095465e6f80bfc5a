import json

import keras
import numpy as np
import pytest
from callbacks.helpers import RatesOfSteps, make_model
from harness import BACKEND, fewer, raises_received

from keras_reg.callbacks import ExponentialLR

SGD = keras.optimizers.SGD


def rates_of(model, data, decay, **arguments):
    """Trains three batches an epoch; returns the rate of each epoch as logged."""
    arguments = {"epochs": 5, "batch_size": 4, "verbose": 0, **arguments}
    return model.fit(*data, callbacks=[decay], **arguments).history["learning_rate"]


class _Pull(keras.layers.Layer):
    """A weight of 0 on which the loss below has the gradient -1 at x = 1: each step adds the learning rate to it."""

    def build(self, shape):
        self.pulled = self.add_weight(shape=(), initializer="zeros", name="pulled")

    def call(self, x):
        return x * self.pulled


def pulled_model(optimizer, **arguments):
    model = keras.Sequential([keras.Input((1,)), _Pull(name="pull")])
    model.compile(optimizer, loss=lambda y, output: -output, **arguments)
    return model


def total_step(model, decay, epochs=3, steps=4, **arguments):
    """The sum of the learning rates that the compiled step really used, in `epochs` epochs of `steps` batches."""
    ones = np.ones((steps, 1), "float32")
    before = model.get_weights()[0]
    model.fit(ones, ones, epochs=epochs, batch_size=1, callbacks=[decay], verbose=0, **arguments)
    return float(model.get_weights()[0] - before)


def torch_rates(lr, gamma, count):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


# The rate -----------------------------------------------------------------------------------------------------------


def test_per_epoch_equals_torch(data):
    logged = rates_of(make_model(SGD(0.3)), data, ExponentialLR(0.9))
    np.testing.assert_allclose(logged, torch_rates(0.3, 0.9, 5), rtol=1e-6)
    used = total_step(pulled_model(SGD(0.3)), ExponentialLR(0.9), epochs=5, steps=2)
    np.testing.assert_allclose(used, 2 * sum(torch_rates(0.3, 0.9, 5)), rtol=1e-6)


def test_per_step_equals_torch_with_a_root_of_gamma(data):
    expected = torch_rates(0.3, 0.9 ** (1 / 3), 15)
    logged = rates_of(make_model(SGD(0.3)), data, ExponentialLR(0.9, per="step"))
    np.testing.assert_allclose(logged, expected[2::3], rtol=1e-6)
    used = total_step(pulled_model(SGD(0.3)), ExponentialLR(0.9, per="step"), epochs=5, steps=3)
    np.testing.assert_allclose(used, sum(expected), rtol=1e-6)


def test_warmup_and_floor_per_epoch(data):
    decay = ExponentialLR(0.5, warmup_epochs=3, min_learning_rate=0.1)
    logged = rates_of(make_model(SGD(0.8)), data, decay, epochs=8)
    np.testing.assert_allclose(logged, [0.2, 0.4, 0.6, 0.8, 0.4, 0.2, 0.1, 0.1], rtol=1e-6)


def test_warmup_and_floor_per_step():
    decay = ExponentialLR(0.25, warmup_epochs=1.5, min_learning_rate=0.25, per="step")
    used = total_step(pulled_model(SGD(1.0)), decay, epochs=3, steps=2)
    # Three steps of warm-up, then from 1 down by a factor of 4 an epoch, that is 2 a step, to the floor.
    np.testing.assert_allclose(used, 1 / 4 + 2 / 4 + 3 / 4 + 1 + 1 / 2 + 1 / 4, rtol=1e-6)


def test_an_initial_rate_replaces_the_optimizer_s(data):
    logged = rates_of(make_model(SGD(7.0)), data, ExponentialLR(0.5, initial_learning_rate=0.1))
    np.testing.assert_allclose(logged, 0.1 * 0.5 ** np.arange(5), rtol=1e-6)


def test_verbose_prints_the_rate(data, capsys):
    rates_of(make_model(SGD(0.5)), data, ExponentialLR(0.5, verbose=1), epochs=2)
    assert "Epoch 1: learning rate 0.5.\nEpoch 2: learning rate 0.25.\n" in capsys.readouterr().out


# Continuing ---------------------------------------------------------------------------------------------------------


def test_initial_epoch_continues(data):
    model, decay = make_model(SGD(0.8)), ExponentialLR(0.5)
    first = rates_of(model, data, decay, epochs=2)
    np.testing.assert_allclose(
        first + rates_of(model, data, decay, initial_epoch=2), 0.8 * 0.5 ** np.arange(5), rtol=1e-6
    )


def test_used_twice_it_starts_from_the_same_rate_again(data):
    model, decay = make_model(SGD(0.8)), ExponentialLR(0.5)
    assert rates_of(model, data, decay) == rates_of(model, data, decay)
    # A rate that was set by hand in between, or another model's, is a new start.
    model.optimizer.learning_rate = 0.4
    np.testing.assert_allclose(rates_of(model, data, decay), 0.4 * 0.5 ** np.arange(5), rtol=1e-6)
    np.testing.assert_allclose(rates_of(make_model(SGD(2.0)), data, decay), 2 * 0.5 ** np.arange(5), rtol=1e-6)
    # So is the rate of another optimizer that equals the last one of this callback.
    last = decay.learning_rates[0]
    np.testing.assert_allclose(rates_of(make_model(SGD(last)), data, decay), last * 0.5 ** np.arange(5), rtol=1e-6)


def test_a_rate_that_is_raised_by_hand_is_a_new_one(data):
    """Only reductions during a training are kept: a factor could be of any size, as at the end of a cosine."""
    model, decay = make_model(SGD(0.8)), ExponentialLR(0.5)
    rates_of(model, data, decay, epochs=2)
    model.optimizer.learning_rate = 3.0
    with pytest.warns(UserWarning, match="initial_learning_rate"):
        np.testing.assert_allclose(rates_of(model, data, decay, initial_epoch=2), 3 * 0.5 ** np.arange(2, 5), rtol=1e-6)


def test_a_rate_that_is_reduced_after_a_reload_is_reduced_once(data):
    whole = make_model(SGD(0.8)).fit(*data, epochs=5, callbacks=[ExponentialLR(0.5), Reduce()], verbose=0)
    model, decay = make_model(SGD(0.8)), ExponentialLR(0.5)
    rates_of(model, data, decay, epochs=1)
    again = ExponentialLR(0.5)
    again.load_state_dict(decay.state_dict())
    found = model.fit(*data, epochs=5, initial_epoch=1, callbacks=[again, Reduce()], verbose=0)
    np.testing.assert_allclose(found.history["learning_rate"], whole.history["learning_rate"][1:], rtol=1e-6)


class Reduce(keras.callbacks.Callback):
    """Divides the rate by ten at the end of the second epoch, as `ReduceLROnPlateau` may."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            rate = self.model.optimizer.learning_rate
            self.model.optimizer.learning_rate = float(keras.ops.convert_to_numpy(rate)) / 10


@pytest.mark.parametrize("initial", [None, 0.8])
def test_a_rate_that_another_callback_reduces_decays_further(data, initial):
    model, decay = make_model(SGD(0.8)), ExponentialLR(0.5, initial)
    found = model.fit(*data, epochs=5, callbacks=[decay, Reduce()], verbose=0).history["learning_rate"]
    expected = 0.8 * 0.5 ** np.arange(5) * [1, 1, 0.1, 0.1, 0.1]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("per", fewer(["epoch", "step"], ["step"]))
def test_after_a_reload(data, tmp_path, per):
    decay = ExponentialLR(0.5, per=per)
    whole = rates_of(make_model(SGD(0.8)), data, decay)
    model, decay = make_model(SGD(0.8)), ExponentialLR(0.5, per=per)
    first = rates_of(model, data, decay, epochs=2)
    model.save(tmp_path / "model.keras")

    def continued(decay):
        return rates_of(keras.saving.load_model(tmp_path / "model.keras"), data, decay, initial_epoch=2)

    np.testing.assert_allclose(first + continued(ExponentialLR(0.5, 0.8, per=per)), whole, rtol=1e-6)
    again = ExponentialLR(0.5, per=per)
    again.load_state_dict(json.loads(json.dumps(decay.state_dict())))
    np.testing.assert_allclose(first + continued(again), whole, rtol=1e-6)
    with pytest.warns(UserWarning, match="initial_learning_rate"):
        continued(ExponentialLR(0.5, per=per))


# Training loops -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution on PyTorch.")
@pytest.mark.parametrize(
    ("per", "expected"), [("epoch", 4 * 1.75), ("step", 2 * sum(0.5 ** (i / 2) for i in range(6)))]
)
def test_steps_per_execution(per, expected):
    model = pulled_model(SGD(1.0), steps_per_execution=2)
    np.testing.assert_allclose(total_step(model, ExponentialLR(0.5, per=per)), expected, rtol=1e-6)


def test_gradient_accumulation():
    """Two updates in four batches, with the rate of the epoch and not of the number of updates."""
    model = pulled_model(SGD(1.0, gradient_accumulation_steps=2))
    np.testing.assert_allclose(total_step(model, ExponentialLR(0.5)), 2 * 1.75, rtol=1e-6)


def test_loss_scale_optimizer():
    model = pulled_model(keras.optimizers.LossScaleOptimizer(SGD(1.0), initial_scale=64.0))
    decay = ExponentialLR(0.5)
    np.testing.assert_allclose(total_step(model, decay), 4 * 1.75, rtol=1e-6)
    assert decay.initial_learning_rates == [1.0] and float(model.optimizer.learning_rate) == 0.25


def _two_rates(by_function=False):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("This Keras has no MultiOptimizer.")
    small, large = SGD(0.1, name="small"), SGD(0.8, name="large")
    if by_function:
        return keras.optimizers.MultiOptimizer(lambda variable: small if "bias" in variable.path else large)
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(large, {".*bias": small}))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("by_function", fewer([False, True], [False]))
def test_multi_optimizer_keeps_its_ratios(data, wrapped, by_function):
    optimizer = _two_rates(by_function)
    if wrapped:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0)
    model, decay = make_model(optimizer), ExponentialLR(0.5, warmup_epochs=1, min_learning_rate=0.1)
    history = model.fit(*data, epochs=7, callbacks=[decay], verbose=0).history
    expected = np.array([0.4, 0.8, 0.4, 0.2, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(history["learning_rate_large"], expected, rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate_small"], expected / 8, rtol=1e-6)
    # The ratio survives the floor, so a model saved there can be continued by naming the highest rate.
    more = ExponentialLR(0.5, initial_learning_rate=1.6)
    history = model.fit(*data, initial_epoch=1, epochs=2, callbacks=[more], verbose=0).history
    np.testing.assert_allclose(history["learning_rate_large"] + history["learning_rate_small"], [0.8, 0.1], rtol=1e-6)


def test_without_a_known_number_of_steps_the_first_epoch_is_flat():
    def batches():
        for _ in range(10**6):
            yield np.ones((1, 1), "float32"), np.ones((1, 1), "float32")

    class FourSteps:
        def __iter__(self):
            return (batch for _, batch in zip(range(4), batches(), strict=False))

    decay, expected = ExponentialLR(0.5, per="step"), 4 + sum(0.5 ** (1 + step / 4) for step in range(4))
    tf = pytest.importorskip("tensorflow")
    signature = (tf.TensorSpec((1, 1)), tf.TensorSpec((1, 1)))
    dataset = tf.data.Dataset.from_generator(FourSteps().__iter__, output_signature=signature)
    model = pulled_model(SGD(1.0))
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(dataset, epochs=2, callbacks=[decay], shuffle=False, verbose=0)
    np.testing.assert_allclose(float(model.get_weights()[0]), expected, rtol=1e-6)
    assert decay.state_dict()["steps_per_epoch"] == 4


def test_batches_whose_ends_are_told_in_another_order_are_counted():
    """Keras tells the ends of batches from a pool of threads."""
    decay = ExponentialLR(0.5, per="step")
    decay.set_model(pulled_model(SGD(1.0)))
    decay.on_train_begin()
    decay.on_epoch_begin(0)
    for batch in (0, 1, 3, 2):
        decay.on_train_batch_end(batch)
    decay.on_epoch_end(0)
    assert decay.state_dict()["steps_per_epoch"] == 4


# Errors -------------------------------------------------------------------------------------------------------------


def test_a_schedule_in_the_optimizer_is_refused_with_advice(data):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    scaled = keras.optimizers.LossScaleOptimizer(SGD(schedule))
    for optimizer, name in (
        (SGD(schedule), "ExponentialDecay"),
        (scaled, "ExponentialDecay"),
        (SGD(lambda: 0.1), "__lambda__"),
    ):
        received = f"learning_rate={name!r}"
        with raises_received(received, "Compile with a number", "leave this callback out"):
            make_model(optimizer).fit(*data, callbacks=[ExponentialLR()], verbose=0)


def test_a_floor_above_the_rate_is_refused(data):
    with raises_received("min_learning_rate=1.0", "at most lr0, 0.5"):
        make_model(SGD(0.5)).fit(*data, callbacks=[ExponentialLR(min_learning_rate=1.0)], verbose=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 0),
        ("gamma", "0.9"),
        ("initial_learning_rate", 0.0),
        ("warmup_epochs", -1),
        ("min_learning_rate", -0.1),
        ("per", "batch"),
    ],
)
def test_bad_arguments(name, value):
    with raises_received(f"{name}={value!r}"):
        ExponentialLR(**{name: value})


def test_config_goes_round():
    decay = ExponentialLR(0.9, 0.1, 2, 1e-5, "step", 1)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decay))
    assert list(again.get_config().values()) == [0.9, 0.1, 2, 1e-5, "step", 1]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("initial", [None, 0.2])
def test_data_of_unknown_length_have_the_rates_of_the_same_data(initial):
    """Keras begins one batch more than there are in each epoch. The first epoch, whose length is unknown, is flat."""
    tf = pytest.importorskip("tensorflow")
    x, y = np.ones((12, 2), "float32"), np.ones((12, 1), "float32")
    logged, used = [], []
    for is_known in (True, False):
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        data = data if is_known else data.filter(lambda x, y: True)
        model, see = make_model(SGD(0.1)), RatesOfSteps()
        decay = ExponentialLR(0.5, per="step", initial_learning_rate=initial)
        logged.append(
            model.fit(data, epochs=4, shuffle=False, callbacks=[decay, see], verbose=0).history["learning_rate"]
        )
        used.append(see.rates)
    np.testing.assert_allclose(used[1][3:], used[0][3:], rtol=1e-5)
    np.testing.assert_allclose(logged[1][1:], logged[0][1:], rtol=1e-5)
