"""The rates of `SnapshotEnsemble` against the closed form and PyTorch, and its members against the recorded weights."""

import copy
import pickle

import keras
import numpy as np
import pytest
from callbacks.helpers import RatesOfSteps, make_model
from callbacks.persisted_training import At
from harness import BACKEND, raises_received, to_numpy

from keras_reg import inference, layers, training
from keras_reg.callbacks import SnapshotEnsemble, persist

SGD = keras.optimizers.SGD
ONES = np.ones((4, 1), "float32")


class Rates(keras.callbacks.Callback):
    """The learning rate of each step, and the weights at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.rates, self.weights = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(to_numpy(self.model.optimizer.learning_rate)))

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


class Sum(keras.layers.Layer):
    """A weight to which each step adds the learning rate, with the loss below."""

    def build(self, shape):
        self.sum = self.add_weight(shape=(), initializer="zeros", name="sum")

    def call(self, x):
        return x * self.sum


def adding(optimizer, **arguments):
    model = keras.Sequential([keras.Input((1,)), Sum()])
    model.compile(optimizer, loss=lambda y, output: -output, **arguments)
    return model


def closed_form(lr0, steps, cycles):
    """The rates of all steps as in the paper."""
    length = -(-steps // cycles)
    t = np.arange(1, steps + 1)
    return lr0 / 2 * (np.cos(np.pi * np.mod(t - 1, length) / length) + 1)


def torch_rates(lr0, steps, cycles):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, steps // cycles)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def fit(model, data, *callbacks, epochs=6, **arguments):
    """Three batches per epoch."""
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(*data, epochs=epochs, callbacks=[*callbacks], **options).history


def test_rates_members_and_the_rate_afterwards(data):
    model, snapshots, seen = make_model(SGD(0.3), metrics=["mae"]), SnapshotEnsemble(2), Rates()
    history = fit(model, data, snapshots, seen)
    np.testing.assert_allclose(seen.rates, closed_form(0.3, 18, 2), rtol=1e-5)
    np.testing.assert_allclose(history["learning_rate"], closed_form(0.3, 18, 2)[2::3], rtol=1e-5)
    assert snapshots.epochs == [2, 5]
    assert float(to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.3)
    members = snapshots.models()
    for member, epoch in zip(members, snapshots.epochs, strict=True):
        for weight, expected in zip(member.get_weights(), seen.weights[epoch], strict=True):
            np.testing.assert_array_equal(weight, expected)
    combined = inference.ensemble(members)
    mean = np.mean([to_numpy(member(data[0])) for member in members], 0)
    np.testing.assert_allclose(to_numpy(combined(data[0])), mean, rtol=1e-5, atol=1e-6)
    assert combined.evaluate(*data, verbose=0, return_dict=True).keys() == {"loss", "mae"}
    before = snapshots.models()[1].get_weights()
    members[1].compile("sgd", "mse")
    fit(members[1], data, epochs=1)  # which changes neither the trained model nor the kept weights
    assert all(map(np.array_equal, before, snapshots.models()[1].get_weights()))
    assert all(map(np.array_equal, model.get_weights(), seen.weights[-1]))
    for copied in (copy.deepcopy(snapshots), pickle.loads(pickle.dumps(snapshots))):
        assert copied.get_config() == snapshots.get_config() and copied.epochs == [2, 5]
        with raises_received("epochs=[2, 5]"):
            copied.models()  # it belongs to no model
    again = fit(model, data, snapshots)  # starts anew from the same rate
    assert again["learning_rate"] == history["learning_rate"] and snapshots.epochs == [2, 5]


def test_members_keep_what_layers_have_found_in_data():
    x = np.arange(40, dtype="float32")[:, None] % 7
    bins = keras.layers.Discretization(num_bins=4)
    bins.adapt(x)
    model = keras.Sequential([keras.Input((1,)), bins, keras.layers.Embedding(4, 1), keras.layers.Flatten()])
    model.compile(SGD(0.1), "mse")
    snapshots = SnapshotEnsemble(1)
    model.fit(x, x, epochs=1, callbacks=[snapshots], verbose=0)
    np.testing.assert_array_equal(snapshots.models()[0].predict(x, verbose=0), model.predict(x, verbose=0))


def test_equals_torch():
    np.testing.assert_allclose(closed_form(0.3, 18, 3), torch_rates(0.3, 18, 3), rtol=1e-6)


def test_cycles_that_do_not_divide_the_epochs_end_with_an_epoch(data):
    snapshots, seen = SnapshotEnsemble(3, initial_learning_rate=0.2), Rates()
    snapshots.first_epoch = 2  # as in the second phase of a `TransferLearner`
    fit(make_model(SGD(7.0)), data, snapshots, seen, initial_epoch=2, epochs=7)
    expected = [closed_form(0.2, 3 * epochs, 1) for epochs in (1, 2, 2)]
    np.testing.assert_allclose(seen.rates, np.concatenate(expected), rtol=1e-5)
    assert snapshots.epochs == [2, 4, 6]


def test_the_epochs_that_fit_runs_are_divided(data):
    snapshots, seen = SnapshotEnsemble(2), Rates()
    fit(make_model(SGD(0.2)), data, snapshots, seen, initial_epoch=10, epochs=14)
    np.testing.assert_allclose(seen.rates, closed_form(0.2, 12, 2), rtol=1e-5)
    assert snapshots.epochs == [11, 13]
    with raises_received("at most the number of epochs, 1", "cycles=2"):
        fit(make_model(SGD(7.0)), data, snapshots, initial_epoch=10, epochs=11)


def test_accumulated_scaled_and_executed_steps():
    """The rates that the compiled step used, as their sum."""
    rates = closed_form(1.0, 8, 2)
    made = {
        "accumulation": (adding(SGD(1.0, gradient_accumulation_steps=2)), rates[1::2]),
        "loss scale": (adding(keras.optimizers.LossScaleOptimizer(SGD(1.0), initial_scale=64.0)), rates),
    }
    if BACKEND != "torch":  # where Keras has no steps_per_execution
        made["execution"] = adding(SGD(1.0), steps_per_execution=2), np.repeat(rates[::2], 2)
    for name, (model, expected) in made.items():
        snapshots = SnapshotEnsemble(2)
        model.fit(ONES, ONES, batch_size=1, epochs=2, callbacks=[snapshots], verbose=0)
        np.testing.assert_allclose(model.get_weights()[0], expected.sum(), rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(snapshots.models()[0].get_weights()[0], expected[: len(expected) // 2].sum(), 1e-5)


def test_several_optimizers_and_averaged_weights(data):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("This Keras has no MultiOptimizer.")
    small, large = SGD(0.1, name="small"), SGD(0.2, use_ema=True, ema_momentum=0.5, name="large")
    optimizer = keras.optimizers.MultiOptimizer(lambda variable: small if "bias" in variable.path else large)
    model, snapshots = make_model(optimizer), SnapshotEnsemble(2)
    history = fit(model, data, snapshots)
    snapshots.epochs.clear()  # a copy
    assert snapshots.epochs == [2, 5]
    np.testing.assert_allclose(history["learning_rate_large"], closed_form(0.2, 18, 2)[2::3], rtol=1e-5)
    np.testing.assert_allclose(history["learning_rate_small"], closed_form(0.1, 18, 2)[2::3], rtol=1e-5)
    for weight, expected in zip(snapshots.models()[1].get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_half_precision_and_the_printed_rate(tmp_path, capsys):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype="bfloat16")])
    model.compile(SGD(0.5), "mse", run_eagerly=BACKEND == "tensorflow")
    snapshots = SnapshotEnsemble(1, verbose=1)
    model.fit(ONES, ONES, epochs=1, callbacks=persist([snapshots], tmp_path), verbose=0)
    assert "Epoch 1: learning rate 0.5." in capsys.readouterr().out
    kept = snapshots.kept["weights"][0]
    assert [array.dtype.name for array in kept] == ["float32"] * 2  # NumPy's files have no bfloat16
    np.testing.assert_array_equal(kept[0], np.asarray(to_numpy(snapshots.models()[0].weights[0]), "float32"))


def test_a_regularized_model_gives_networks():
    """With the numbers that a normalization derives from its weights, and a loss that is not registered."""
    normalization = keras.layers.Normalization()
    normalization.adapt(np.array([[3.0], [5.0], [9.0], [2.0]], "float32"))
    network = keras.Sequential([keras.Input((1,)), normalization, keras.layers.Dense(3)])
    model = training.RegularizedModel(network, layers.MixUp(0.4, seed=1))
    model.compile(SGD(0.1), lambda y, output: keras.ops.mean((y - output) ** 2, -1))
    snapshots = SnapshotEnsemble(1)
    model.fit(ONES, np.eye(4, 3, dtype="float32"), batch_size=2, epochs=2, callbacks=[snapshots], verbose=0)
    (member,) = snapshots.models()
    assert isinstance(member, keras.Sequential) and not member.compiled
    np.testing.assert_allclose(to_numpy(member(2 * ONES)), to_numpy(network(2 * ONES)), rtol=1e-6)


def test_several_named_outputs_and_weighted_examples():
    """The members are those of the recorded weights, and a score of the last one is that of the model."""
    inputs = {name: keras.Input((1,), name=name) for name in ("left", "right")}
    hidden = keras.layers.Concatenate()(list(inputs.values()))
    outputs = {
        "kind": keras.layers.Dense(2, kernel_initializer="zeros", name="kind")(hidden),
        "size": keras.layers.Dense(1, name="size")(hidden),
    }
    model, snapshots, seen = keras.Model(inputs, outputs), SnapshotEnsemble(2), Rates()
    losses = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}
    metrics = {"kind": ["accuracy"], "size": ["mae"]}
    model.compile(SGD(0.1), losses, {"kind": 1.0, "size": 0.5}, metrics, run_eagerly=BACKEND == "tensorflow")
    x, y = dict.fromkeys(inputs, ONES), {"kind": np.array([0, 1, 0, 0]), "size": 2 * ONES}
    weights = {"kind": np.array([0.0, 1.0, 0.0, 0.0]), "size": np.ones(4)}
    model.fit(x, y, 2, 4, sample_weight=weights, callbacks=[snapshots, seen], verbose=0)
    members = snapshots.models()
    for member, epoch in zip(members, (1, 3), strict=True):
        assert all(map(np.array_equal, member.get_weights(), seen.weights[epoch]))
    score, last = (
        each.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True) for each in (model, members[1])
    )
    assert last == score and score.keys() == {"loss", "kind_loss", "kind_accuracy", "size_loss", "size_mae"}
    assert to_numpy(members[1](x)["kind"])[0].argmax() == 1  # the only class with a weight


class Killed(Exception):
    pass


def killed():
    raise Killed


def test_resumes_with_the_members_that_are_complete(data, tmp_path):
    def run(folder, *others):
        model, snapshots = make_model(SGD(0.3, momentum=0.9), run_eagerly=BACKEND == "tensorflow"), SnapshotEnsemble(2)
        history = fit(model, data, *persist([snapshots, *others], folder), epochs=4)
        return [model.get_weights(), *(member.get_weights() for member in snapshots.models())], history, snapshots

    expected, history, _ = run(tmp_path / "whole", At(0, lambda: None))
    with pytest.raises(Killed):
        run(tmp_path / "backup", At(3, killed))
    found, resumed, snapshots = run(tmp_path / "backup", At(0, lambda: None))
    assert resumed == history and snapshots.epochs == [1, 3]
    for one, other in zip(found, expected, strict=True):
        assert all(map(np.array_equal, one, other))


def test_what_is_refused(data):
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with raises_received("`SnapshotEnsemble` needs", "learning_rate='CosineDecay'"):
        fit(make_model(SGD(schedule)), data, SnapshotEnsemble(2))
    with raises_received("at most the number of epochs, 2", "cycles=3"):
        fit(make_model(), data, SnapshotEnsemble(3), epochs=2)
    snapshots = SnapshotEnsemble(1)
    with raises_received("epochs=[]"):
        snapshots.models()

    class Own(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.dense = keras.layers.Dense(units)

        def call(self, x):
            return self.dense(x)

    class WithConfig(Own):
        def get_config(self):
            return {"units": 1}

    model = WithConfig(1)
    model.compile("sgd", "mse")
    fit(model, data, snapshots, epochs=1)
    np.testing.assert_array_equal(to_numpy(snapshots.models()[0](data[0])), to_numpy(model(data[0])))
    model = Own(1)
    model.compile("sgd", "mse")
    fit(model, data, snapshots, epochs=1)
    with raises_received("create the model again"):
        snapshots.models()


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_each_cycle_starts_again_with_data_of_unknown_length():
    tf = pytest.importorskip("tensorflow")
    x, y = np.ones((12, 2), "float32"), np.ones((12, 1), "float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).filter(lambda x, y: True)
    model, see = make_model(keras.optimizers.SGD(0.1)), RatesOfSteps()
    model.fit(data, epochs=4, shuffle=False, callbacks=[SnapshotEnsemble(2), see], verbose=0)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(6) / 6))
    np.testing.assert_allclose(see.rates[6:], cosine, rtol=1e-5)
    np.testing.assert_allclose(see.rates[3:6], cosine[3:], rtol=1e-5)
