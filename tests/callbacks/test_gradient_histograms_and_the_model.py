"""`GradientHistograms` leaves the model alone: between steps, when it is saved, after errors, on several devices."""

import json

import keras
import numpy as np
import pytest
from callbacks.helpers import make_model
from harness import BACKEND, assert_close, fewer, only, run_in_fresh_process, slow_on, to_numpy

from keras_reg.callbacks import GradientHistograms, persist
from keras_reg.layers import DropPath, MixUp
from keras_reg.training import RegularizedModel


def regular_model(optimizer="adam", **arguments):
    """With everything that a step moves besides the weights: moving statistics, seeds, metrics."""
    keras.utils.set_random_seed(2)
    layers = [
        keras.Input((2,)),
        keras.layers.Dense(8, name="dense"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dropout(0.5, seed=1, name="dropout"),
        keras.layers.Dense(1, name="output"),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", metrics=["mae"], **arguments)
    return model


def state(model):
    return to_numpy([v.value for v in [*model.variables, *model.optimizer.variables]])


class Watch(keras.callbacks.Callback):
    """Calls a function wherever a callback has a say."""

    def __init__(self, function):
        super().__init__()
        for name in ("epoch_begin", "epoch_end", "train_batch_begin", "train_batch_end", "test_batch_end", "train_end"):
            setattr(self, f"on_{name}", lambda *_, name=name, **__: function(name))


def test_everybody_sees_the_users_own_optimizer_and_step(data):
    model = regular_model()
    optimizer, seen = model.optimizer, set()

    def look(place):
        seen.add(place)
        assert model.optimizer is optimizer
        if place != "train_batch_begin":
            assert model.train_function is plain

    model.make_train_function()
    plain = model.train_function
    model.fit(
        *data,
        batch_size=4,
        epochs=2,
        validation_data=data,
        callbacks=[GradientHistograms(every=1), Watch(look)],
        verbose=0,
    )
    assert len(seen) == 6 and model.train_function is plain and model.optimizer is optimizer
    assert int(optimizer.iterations) == 6


def test_training_with_a_probe_is_training_without(data):
    def train(*callbacks):
        model = regular_model()
        history = model.fit(*data, batch_size=4, epochs=2, validation_data=data, callbacks=callbacks, verbose=0)
        return state(model), history.history

    callback = GradientHistograms(every=2, probe=data)
    found, logs = train(callback)
    expected, expected_logs = train()
    assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert_close(logs, expected_logs, rtol=1e-5)
    assert [(record["epoch"], record["step"]) for record in callback.history["probe"]] == [(0, 0), (0, 2), (1, 4)]


def test_measuring_changes_nothing_and_a_model_may_be_trained_or_not(data):
    model, callback = regular_model(), GradientHistograms()
    before = state(model)
    first = callback.measure(model, *data)
    assert_close(state(model)[: len(model.variables)], before[: len(model.variables)], rtol=0, atol=0)
    model.fit(*data, batch_size=12, verbose=0)
    optimizer, before, plain = model.optimizer, state(model), model.train_function
    second = callback.measure(model, *data, step=1)
    again = callback.measure(model, *data, sample_weight=np.full(12, 2.0), step=2)
    assert_close(state(model), before, rtol=0, atol=0)
    assert model.optimizer is optimizer and model.train_function is plain
    assert callback.history["probe"] == [first, second, again] and first["global_norm"] != second["global_norm"]
    # The same dropout, since the seed was put back; the loss is a mean with weights that are all 2.
    np.testing.assert_allclose(again["global_norm"], 2 * second["global_norm"], rtol=1e-4)


def test_a_second_fit_compiles_nothing_and_starts_a_new_history(data):
    model, callback, traced = make_model(), GradientHistograms(every=2), []

    class Traced(keras.losses.MeanSquaredError):
        def call(self, y_true, y_pred):
            traced.append(1)
            return super().call(y_true, y_pred)

    model.compile("sgd", Traced())
    model.fit(*data, batch_size=4, callbacks=[callback], verbose=0)
    calls = len(traced)
    model.fit(*data, batch_size=4, callbacks=[callback], verbose=0)
    assert len(traced) - calls == (3 if BACKEND == "torch" else 0)
    assert [record["step"] for record in callback.history["gradients"]] == [4]  # the optimizer goes on counting
    assert model.optimizer.iterations == 6


def test_steps_that_are_not_watched_are_not_waited_for(data, monkeypatch):
    reads, original = [], keras.ops.convert_to_numpy
    monkeypatch.setattr(keras.ops, "convert_to_numpy", lambda x: reads.append(1) or original(x))
    counts = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: counts.append(len(reads)))
    make_model().fit(*data, batch_size=2, callbacks=[GradientHistograms(), count], verbose=0)
    assert len(counts) == 6 and len(set(counts)) == 1 and counts[0] > 0


def test_there_is_one_forward_pass_a_step(data):
    calls = []

    @keras.saving.register_keras_serializable(package="tests")
    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    model = keras.Sequential([keras.Input((2,)), Counted(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(*data, batch_size=4, verbose=0)
    calls.clear()
    model.fit(*data, batch_size=4, epochs=2, callbacks=[GradientHistograms(every=1)], verbose=0)
    assert len(calls) == 6


# Errors.


class Stop(Exception):
    pass


def fail_at(place, error):
    def look(where):
        if where == place:
            raise error

    return Watch(look)


def interrupted_data(data, error):
    yield from (tuple(array[i : i + 4] for array in data) for i in (0, 4))
    raise error


@pytest.mark.filterwarnings("ignore:Exception ignored in. <function CallbackList.__del__")  # Keras 3.10, by itself
@pytest.mark.parametrize("error", fewer([Stop, KeyboardInterrupt], [Stop]))
@pytest.mark.parametrize("place", ["train_batch_begin", "train_batch_end", "epoch_end", "data", "step"])
def test_after_an_error_the_model_trains_on_as_if_nothing_had_been(data, place, error):
    def run(*callbacks):
        model = make_model(keras.optimizers.SGD(0.1, momentum=0.9), loss=loss, run_eagerly=place == "step")
        optimizer, x, y = model.optimizer, *data
        more = [fail_at(place, error)] if place not in ("data", "step") else []
        arguments = {"x": x, "y": y, "batch_size": 4}
        if place == "data":
            arguments = {"x": interrupted_data(data, error), "steps_per_epoch": 3}
        broken[:] = [place == "step"]
        # TensorFlow gives what happens in a generator another name.
        with pytest.raises(BaseException if place == "data" else error):
            model.fit(**arguments, epochs=2, callbacks=[*callbacks, *more], shuffle=False, verbose=0)
        broken[:] = [False]
        assert model.optimizer is optimizer
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        assert type(model.train_function).__module__.split(".")[0] != "keras_reg"
        model.train_on_batch(x, y)
        return state(model)

    def loss(y_true, y_pred):
        if broken[0]:
            raise error
        return keras.losses.mean_squared_error(y_true, y_pred)

    broken = [False]
    assert_close(run(GradientHistograms(every=1)), run(), rtol=1e-5, atol=1e-6)


def test_the_same_callback_goes_on_after_an_error(data):
    model, callback = make_model(), GradientHistograms(every=1)
    with pytest.raises(Stop):
        model.fit(*data, batch_size=4, callbacks=[callback, fail_at("train_batch_begin", Stop)], verbose=0)
    model.fit(*data, batch_size=4, callbacks=[callback], verbose=0)
    assert [record["batch"] for record in callback.history["gradients"]] == [0, 1, 2]


# Saving.


@slow_on("tensorflow", "jax")
def test_what_is_saved_in_the_middle_loads_without_this_package(data, tmp_path):
    model = regular_model(keras.optimizers.Adam(0.1))
    outputs = {}

    def keep(place):
        if place == "train_batch_end":
            outputs[len(outputs)] = to_numpy(model(data[0])), int(model.optimizer.iterations)

    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "{batch}.keras"), save_freq=1)
    weights = keras.callbacks.ModelCheckpoint(str(tmp_path / "{batch}.weights.h5"), save_freq=1, save_weights_only=True)
    callbacks = [GradientHistograms(every=1), checkpoint, weights, Watch(keep)]
    model.fit(*data, batch_size=4, callbacks=callbacks, verbose=0)
    np.save(tmp_path / "x.npy", data[0])
    printed = run_in_fresh_process(f"""
        import sys
        sys.modules["keras_reg"] = None
        import json, keras, numpy as np
        model = keras.saving.load_model(r"{tmp_path / "2.keras"}")
        x = np.load(r"{tmp_path / "x.npy"}")
        before = keras.ops.convert_to_numpy(model(x)).tolist()
        iterations, count = int(model.optimizer.iterations), len(model.optimizer.variables)
        model.fit(x, x[:, :1], verbose=0)
        model.load_weights(r"{tmp_path / "1.weights.h5"}")
        print(json.dumps([before, iterations, count, keras.ops.convert_to_numpy(model(x)).tolist()]))
    """)
    before, iterations, count, earlier = json.loads(printed.splitlines()[-1])
    assert_close(np.array(before), outputs[1][0], rtol=1e-5)
    assert_close(np.array(earlier), outputs[0][0], rtol=1e-5)
    assert iterations == outputs[1][1] == 2 and count == len(model.optimizer.variables)


# State.


def test_state_goes_on_after_a_restart(data, tmp_path):
    def run(epochs, callback, error=None):
        model = regular_model()
        more = [] if error is None else [keras.callbacks.LambdaCallback(on_epoch_begin=error)]
        more = [*persist([callback], tmp_path), *more]
        model.fit(*data, batch_size=4, epochs=epochs, callbacks=more, shuffle=False, verbose=0)
        return callback.history

    def stop(epoch, logs):
        if epoch == 1:  # of five steps, the fourth is next: a new count would start with the third
            raise Stop

    whole = run(3, GradientHistograms(every=2))
    with pytest.raises(Stop):
        run(3, GradientHistograms(every=2), stop)
    resumed = run(3, GradientHistograms(every=2))
    for kind in ("gradients", "weights"):
        assert (
            [record["step"] for record in resumed[kind]]
            == [record["step"] for record in whole[kind]]
            == [0, 2, 4, 6, 8]
        )
        for one, other in zip(resumed[kind], whole[kind], strict=True):
            np.testing.assert_allclose(one["global_norm"], other["global_norm"], rtol=1e-5)
            for path, found in one["variables"].items():
                np.testing.assert_array_equal(found["counts"], other["variables"][path]["counts"])


def test_two_of_them_in_one_fit(data):
    each, first = GradientHistograms(every=1, include="*kernel"), GradientHistograms(every=2, bins=10)
    make_model().fit(*data, batch_size=4, callbacks=[each, first], verbose=0)
    assert [record["step"] for record in each.history["gradients"]] == [0, 1, 2]
    assert [record["step"] for record in first.history["gradients"]] == [0, 2]
    for record in first.history["gradients"]:
        found = each.history["gradients"][record["step"]]["variables"]["dense/kernel"]
        np.testing.assert_allclose(found["norm"], record["variables"]["dense/kernel"]["norm"], rtol=1e-6)
        assert len(record["variables"]) == 2


def test_the_step_of_an_regularized_model(data):
    def train(*callbacks):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((1, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1, name="dense")]
        model = RegularizedModel(keras.Sequential(layers, name="inner"), MixUp(0.4, seed=1))
        model.compile("adam", "mse")
        x, y = data
        model.fit(x.reshape(12, 1, 2, 1), y, batch_size=4, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
        return model.get_weights()

    callback = GradientHistograms(every=2)
    assert_close(train(callback), train(), rtol=1e-5, atol=1e-6)
    records = callback.history["gradients"]
    assert [record["step"] for record in records] == [0, 2, 4]
    assert set(records[0]["variables"]) == {"inner/dense/kernel", "inner/dense/bias"}


def test_a_step_that_does_not_use_the_optimizer_is_told(data):
    class Idle(keras.Model):
        def train_step(self, *arguments):
            return self.test_step(arguments[0]) if len(arguments) == 1 else ({}, arguments[0])

    inputs = keras.Input((2,))
    model = Idle(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="saw no gradient"):
        model.fit(*data, callbacks=[GradientHistograms()], verbose=0)


# Several devices.


@only("jax", why="keras.distribution is JAX's.")
def test_data_parallel():
    run_in_fresh_process(
        """
        import keras, numpy as np, jax
        from harness import gradients
        from keras_reg.callbacks import GradientHistograms

        assert jax.device_count() == 8
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(32, 3)).astype("float32"), rng.normal(size=(32, 2)).astype("float32")
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(2)])
        for optimizer in (
            keras.optimizers.Adam(0.1, clipnorm=1e-3), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
        ):
            model.compile(optimizer, "mse")
            callback = GradientHistograms(every=2, probe=(x[:16], y[:16]))
            truth = gradients(lambda: model.compute_loss(x[:16], y[:16], model(x[:16])), model.trainable_variables)
            model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[callback])
            found = callback.history["gradients"][0]["variables"].values()
            np.testing.assert_allclose([f["norm"] for f in found], [np.linalg.norm(g) for g in truth], rtol=1e-5)
            assert [r["step"] for r in callback.history["gradients"]] == [0, 2] and model.optimizer is optimizer
            truth = gradients(lambda: model.compute_loss(x[:16], y[:16], model(x[:16])), model.trainable_variables)
            found = callback.measure(model, x[:16], y[:16])["variables"].values()
            np.testing.assert_allclose([f["norm"] for f in found], [np.linalg.norm(g) for g in truth], rtol=1e-5)
        """,
        env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    )


@only("tensorflow", why="tf.distribute is TensorFlow's.")
def test_mirrored_strategy():
    run_in_fresh_process(
        """
        import keras, numpy as np, tensorflow as tf
        from harness import gradients
        from keras_reg.callbacks import GradientHistograms

        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 2)).astype("float32")

        def network():
            keras.utils.set_random_seed(0)
            return keras.Sequential(
                [keras.Input((3,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(2)]
            )

        def norms(model):
            truth = gradients(lambda: model.compute_loss(x[:8], y[:8], model(x[:8])), model.trainable_variables)
            return [np.linalg.norm(g) for g in truth]

        twin = network()
        twin.compile("sgd", "mse")
        for make in (  # gradient accumulation and `steps_per_execution` fail under this strategy in Keras itself
            lambda: keras.optimizers.Adam(0.1, clipnorm=1e-3),
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
        ):
            with strategy.scope():
                model, optimizer = network(), make()
                model.compile(optimizer, "mse")
            callback, truth = GradientHistograms(every=2), norms(twin)
            model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[callback])
            found = callback.history["gradients"][0]["variables"].values()
            np.testing.assert_allclose([f["norm"] for f in found], truth, rtol=1e-5)
            assert [r["step"] for r in callback.history["gradients"]] == [0, 2]
            assert model.optimizer is optimizer
            for found in callback.history["gradients"][1]["variables"].values():
                assert found["counts"].sum() == found["size"]
            trained = network()
            trained.compile("sgd", "mse")
            trained.set_weights(model.get_weights())
            found = callback.measure(model, x[:8], y[:8])["variables"].values()
            np.testing.assert_allclose([f["norm"] for f in found], norms(trained), rtol=1e-5)
        """
    )


@pytest.mark.parametrize("layer", [lambda: keras.layers.Dropout(0.5, seed=1), lambda: DropPath(0.5, seed=1)])
def test_measuring_draws_no_random_numbers_of_training(layer):
    x, y = np.random.default_rng(0).normal(size=(16, 4)).astype("float32"), np.zeros((16, 1), "float32")
    weights = []
    for probe in (None, (x[:8], y[:8])):
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), layer(), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        callback = GradientHistograms(every="epoch", probe=probe)
        model.fit(x, y, epochs=3, shuffle=False, callbacks=[callback] if probe else [], verbose=0)
        weights.append(model.get_weights())
    assert_close(*weights, rtol=1e-6)
