"""`WeightAverage` against the definition in NumPy, on the weights that another callback records after each step."""

import functools
import itertools

import keras
import numpy as np
import pytest
from harness import fewer, only, raises_received, run_in_fresh_process, to_numpy
from keras.callbacks import BackupAndRestore, Callback, ModelCheckpoint
from transfer.networks import flat_backbone, images

from keras_reg import Strength, training
from keras_reg.callbacks import GradientHistograms, SmoothedEarlyStopping, StrengthSchedule, WeightAverage, persist
from keras_reg.layers import DropPath, MixUp
from keras_reg.transfer import Phase, TransferLearner

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 3)).astype("float32"), RNG.standard_normal((24, 1)).astype("float32")
FIT = {"x": X, "y": Y, "batch_size": 4, "verbose": 0}  # six steps per epoch


all_of = itertools.chain.from_iterable


def network(*layers):
    middle = layers or [keras.layers.BatchNormalization(momentum=0.6)]
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), *middle, keras.layers.Dense(1)])


def compiled(optimizer=None, model=None, **arguments):
    keras.utils.set_random_seed(1)
    model = model or network()
    model.compile(optimizer or keras.optimizers.SGD(0.05), "mse", **arguments)
    return model


class Recorder(Callback):
    """The weights at the beginning of each epoch and after each update of the optimizer."""

    def on_train_begin(self, logs=None):
        self.beginnings, self.steps, self.updates = [], [], 0

    def on_epoch_begin(self, epoch, logs=None):
        self.beginnings.append(self.model.get_weights())
        self.steps.append([])

    def on_train_batch_end(self, batch, logs=None):
        iterations = self.model.optimizer.iterations
        if int(to_numpy(iterations)) > self.updates:
            self.updates = int(to_numpy(iterations))
            self.steps[-1].append(self.model.get_weights())

    def sequence(self, start=0, every="step"):
        epochs = [steps[-1:] if every == "epoch" else steps for steps in self.steps[start:]]
        return [self.beginnings[start], *all_of(epochs)]


def mean_of(sequence, kind="ema", decay=0.999, warmup=True):
    """The average by its definition, in float64."""
    average = [weight.astype("float64") for weight in sequence[0]]
    for t, weights in enumerate(sequence[1:]):
        d = min(decay, (1 + t) / (10 + t)) if warmup else decay
        d = (t + 1) / (t + 2) if kind == "swa" else d
        average = [d * a + (1 - d) * w for a, w in zip(average, weights, strict=True)]
    return average


def assert_same(weights, expected, atol=1e-6):
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-6, atol=atol)


@functools.cache
def trained(kind="ema", decay=0.999, warmup=True, start=0, every="step"):
    """The final weights, the sequence that they average, and the number of updates."""
    model, recorder = compiled(), Recorder()
    average = WeightAverage(kind, decay, warmup, start, every)
    model.fit(**FIT, epochs=2, callbacks=[average, recorder])
    return model.get_weights(), recorder.sequence(start, every), average.updates


@pytest.mark.parametrize(
    "arguments",
    [
        {"decay": 0.5},
        {"decay": 0.9, "warmup": False},
        {"kind": "swa", "start": 1},
        {"kind": "swa", "every": "epoch"},
    ],
    ids=str,
)
def test_the_model_ends_with_the_average_of_every_weight(arguments):
    """The moving statistics of the normalization are among the weights."""
    weights, sequence, updates = trained(**arguments)
    start, every = arguments.get("start", 0), arguments.get("every", "step")
    assert updates == len(sequence) - 1 == (2 - start) * (1 if every == "epoch" else 6)
    options = {name: value for name, value in arguments.items() if name not in ("start", "every")}
    assert_same(weights, mean_of(sequence, **options))


@pytest.mark.parametrize("arguments", [{"decay": 0.9, "warmup": False}, {"kind": "swa", "start": 1}], ids=str)
def test_equals_torch(arguments):
    torch = pytest.importorskip("torch")
    swa_utils = torch.optim.swa_utils
    weights, sequence, _ = trained(**arguments)
    holder = torch.nn.ParameterList([torch.tensor(weight) for weight in sequence[0]])
    function = {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)} if "decay" in arguments else {}
    theirs = swa_utils.AveragedModel(holder, **function)
    for step in sequence:
        with torch.no_grad():
            for parameter, weight in zip(holder, step, strict=True):
                parameter.copy_(torch.tensor(weight))
        theirs.update_parameters(holder)
    assert_same(weights, [parameter.detach().numpy() for parameter in theirs.module])


def several_optimizers():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this version of Keras has no MultiOptimizer")
    sgd, adam = keras.optimizers.SGD(0.05), keras.optimizers.Adam(0.01)
    return keras.optimizers.MultiOptimizer(lambda variable: sgd if "kernel" in variable.path else adam)


@pytest.mark.parametrize(
    ("make", "updates"),
    [
        (lambda: keras.optimizers.SGD(0.05, gradient_accumulation_steps=4), 3),
        (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-5), initial_scale=2.0**119), None),
        (several_optimizers, 12),
    ],
    ids=["accumulation", "loss scale", "several"],
)
def test_one_update_per_update_of_the_optimizer(make, updates):
    """Keras' `use_ema` updates on every micro-step, and covers the trainable weights only."""
    model, recorder, average = compiled(make()), Recorder(), WeightAverage("swa")
    y = Y if updates else 1000 * Y  # the first gradients overflow, so their steps are skipped
    model.fit(**{**FIT, "y": y}, epochs=2, callbacks=[average, recorder])
    sequence = recorder.sequence()
    assert average.updates == len(sequence) - 1 == (updates or average.updates)
    assert updates or 0 < average.updates < 12
    assert_same(model.get_weights(), mean_of(sequence, "swa"))


def test_several_steps_in_one_execution():
    if keras.backend.backend() == "torch":
        pytest.skip("Keras refuses several steps per execution on PyTorch")
    found = []
    for steps in (1, 4):  # the last execution of an epoch takes two steps
        model, average = compiled(steps_per_execution=steps), WeightAverage(decay=0.8)
        model.fit(**FIT, epochs=2, shuffle=False, callbacks=[average])
        assert average.updates == 12
        found.append(model.get_weights())
    assert_same(*found)


def test_in_a_step_made_of_parts_that_gradient_histograms_watch():
    parts = {"augmentation": MixUp(0.4, seed=1), "sharpness": training.SharpnessAware(0.05)}
    model = compiled(model=training.RegularizedModel(network(), **parts))
    recorder, gradients, average = Recorder(), GradientHistograms(every=2, bins=8), WeightAverage(decay=0.9)
    model.fit(**FIT, epochs=2, callbacks=[gradients, average, recorder])
    assert_same(model.get_weights(), mean_of(recorder.sequence(), decay=0.9))
    assert len(gradients.history["gradients"]) == 6 and average.updates == 12
    assert "train_step" not in vars(model)


def test_seeds_strengths_and_frozen_weights_are_not_averaged():
    frozen = keras.layers.Dense(2, trainable=False)
    model = compiled(model=network(keras.layers.Dropout(0.3, seed=1), DropPath(Strength(0.4), seed=2), frozen))
    before = [to_numpy(weight).copy() for weight in frozen.weights]
    schedule = StrengthSchedule(lambda epoch: epoch / 2)
    recorder = Recorder()
    model.fit(**FIT, epochs=3, callbacks=[WeightAverage(decay=0.5), schedule, recorder])
    plain = compiled(model=network(keras.layers.Dropout(0.3, seed=1), DropPath(Strength(0.4), seed=2), frozen))
    seeds = [variable for variable in model.variables if "int" in str(variable.dtype)]
    plain.fit(**FIT, epochs=3, callbacks=[schedule])
    for seed, other in zip(seeds, [v for v in plain.variables if "int" in str(v.dtype)], strict=True):
        np.testing.assert_array_equal(to_numpy(seed), to_numpy(other))
    strength = next(variable for variable in model.variables if hasattr(variable, "strength"))
    np.testing.assert_allclose(to_numpy(strength), 0.4)
    for weight, value in zip(frozen.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)


def test_half_precision_is_averaged_in_single_precision():
    with_policy = [keras.layers.Dense(2, dtype="bfloat16"), keras.layers.Dense(1, dtype="float32")]
    model = compiled(model=keras.Sequential([keras.Input((3,)), *with_policy]))
    recorder, average = Recorder(), WeightAverage(decay=0.999, warmup=False, swap="validation")
    model.fit(**FIT, epochs=2, validation_data=(X, Y), callbacks=[average, recorder])
    expected = mean_of(recorder.sequence(), warmup=False)
    # XLA may average the new weights before they are rounded. An average in half precision would be off by 1e-3.
    assert_same(average.state_dict()["average"][:2], expected[:2], atol=3e-5)
    for weight, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight.astype("float64"), value, rtol=2**-8, atol=1e-6)


def test_each_phase_of_a_transfer_ends_with_its_average():
    ends = []

    class Ends(Recorder):
        def on_train_end(self, logs=None):
            ends.append((self.model.get_weights(), self.sequence(start=1)))

    learner = TransferLearner(flat_backbone(), 3, keras.layers.Rescaling(1 / 255), run_eagerly=True)
    phases = [
        Phase("head", 2, optimizer=keras.optimizers.SGD(0.01)),
        Phase("all", 2, "all", keras.optimizers.SGD(0.01)),
    ]
    learner.fit(*images(12), phases=phases, seed=1, verbose=0, callbacks=[WeightAverage(decay=0.8, start=1), Ends()])
    for weights, sequence in ends:
        assert_same(weights, mean_of(sequence, decay=0.8))
    assert len(ends) == 2 and len(ends[0][1]) == len(ends[1][1]) == 2
    assert_same(learner.model.get_weights(), ends[1][0], atol=0)


# The exchange ---------------------------------------------------------------------------------------------------------


def test_validation_checkpoints_and_early_stopping_see_the_average(tmp_path):
    """Training goes on with the trained weights, and ends with the average that was best."""
    plain, recorder = compiled(), Recorder()
    plain.fit(**FIT, epochs=4, shuffle=False, validation_data=(X, Y), callbacks=[recorder])

    model, again, average = compiled(), Recorder(), WeightAverage(decay=0.9, start=1, swap="validation")
    scored, weights = [], []

    class Scored(Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights.append(self.model.get_weights())
            scored.append(logs["val_loss"])

    stop = SmoothedEarlyStopping(smoothing=None, mode="max", patience=9)  # the worst epoch is the best one
    checkpoint = ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True)
    callbacks = [stop, checkpoint, average, again, Scored()]
    model.fit(**FIT, epochs=4, shuffle=False, validation_data=(X, Y), callbacks=callbacks)
    for beginning, steps, other, others in zip(
        recorder.beginnings, recorder.steps, again.beginnings, again.steps, strict=True
    ):
        assert_same([*beginning, *all_of(steps)], [*other, *all_of(others)])
    for epoch in range(4):
        expected = recorder.steps[0][-1]
        if epoch:
            expected = mean_of([recorder.beginnings[1], *all_of(recorder.steps[1 : epoch + 1])], decay=0.9)
        assert_same(weights[epoch], expected)
        other = compiled()
        other.load_weights(tmp_path / f"{epoch + 1}.weights.h5")
        assert_same(other.get_weights(), weights[epoch])
        assert other.evaluate(X, Y, verbose=0) == pytest.approx(scored[epoch], rel=1e-5)
    assert_same(model.get_weights(), weights[stop.best_epoch])
    assert stop.best == max(scored)


def test_calls_outside_of_fit_do_not_exchange_weights():
    """Keras' `SwapEMAWeights` never swaps back after `predict`."""
    average = WeightAverage(decay=0.9, swap="validation")
    seen = []

    class Calls(Callback):
        def on_train_batch_end(self, batch, logs=None):
            before = self.model.get_weights()
            self.model.predict(X, verbose=0, callbacks=[average])
            self.model.evaluate(X, Y, verbose=0, callbacks=[average])
            assert_same(self.model.get_weights(), before, atol=0)
            seen.append(before)

    model = compiled()
    model.fit(**FIT, epochs=1, validation_data=(X, Y), callbacks=[average, Calls()])
    after = model.get_weights()
    assert np.abs(after[0] - seen[-1][0]).max() > 1e-4
    model.predict(X, verbose=0, callbacks=[average])
    model.evaluate(X, Y, verbose=0, callbacks=[average])
    assert_same(model.get_weights(), after, atol=0)


class Fails(Callback):
    def __init__(self, epoch, where, batch=3):
        super().__init__()
        self.epoch, self.where, self.batch = epoch, where, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, self.where, batch) == (self.epoch, "training", self.batch):
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, self.where) == (self.epoch, "end"):
            raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["training", "end"])
def test_after_an_interruption_both_are_there_and_the_next_fit_starts_anew(where):
    model, recorder, average = compiled(), Recorder(), WeightAverage(decay=0.9, swap="validation")
    with pytest.raises(KeyboardInterrupt):
        model.fit(**FIT, epochs=3, validation_data=(X, Y), callbacks=[recorder, average, Fails(1, where)])
    state, last = average.state_dict(), recorder.sequence()
    expected = mean_of(last, decay=0.9)
    assert_same(model.get_weights(), expected if where == "end" else last[-1])
    assert state["updates"] == len(last) - 1
    assert (state["weights"] is None) == (where == "training")
    assert sum(array.sum() for array in state["average"]) == pytest.approx(sum(w.sum() for w in expected), abs=1e-4)
    model.fit(**FIT, epochs=1, callbacks=[recorder, average])
    assert_same(model.get_weights(), mean_of(recorder.sequence(), decay=0.9))


BACKUPS = [("end", "persist"), ("validation", "persist"), ("validation", "Keras")]


@pytest.mark.parametrize(("swap", "backup"), fewer(BACKUPS, [("validation", "persist")]))
def test_resumes_with_both(swap, backup, tmp_path):
    def fit(folder, *others):
        model, average = compiled(), WeightAverage(decay=0.9, start=1, swap=swap)
        data = {"shuffle": False, "batch_size": 8}
        callbacks = [BackupAndRestore(folder, delete_checkpoint=False), average, *others]
        if backup == "persist":
            callbacks = persist(callbacks[1:], folder, delete_checkpoint=False)
        model.fit(**{**FIT, **data}, epochs=4, callbacks=callbacks)
        return model.get_weights(), average.updates

    expected, updates = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", Fails(2, "training", 1))
    found, again = fit(tmp_path / "cut", Fails(9, "training"))
    assert updates == again == 9
    assert_same(found, expected)
    assert_same(fit(tmp_path / "cut", Fails(9, "training"))[0], expected)  # no epoch is left


# Batch normalization --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swap", ["end", "validation"])
def test_statistics_are_made_anew_from_data(swap):
    model, average = compiled(), WeightAverage(decay=0.9, data=(X, Y), swap=swap)
    plain = compiled()
    plain.fit(**FIT, epochs=2, shuffle=False, callbacks=[WeightAverage(decay=0.9)])
    model.fit(**FIT, epochs=2, shuffle=False, validation_data=(X, Y), callbacks=[average])
    kernel, bias, gamma, beta, mean, variance, *others = model.get_weights()
    assert_same([kernel, bias, gamma, beta, *others], [*plain.get_weights()[:4], *plain.get_weights()[6:]])
    features = (X @ kernel + bias).astype("float64")
    assert_same([mean, variance], [features.mean(0), features.var(0)], atol=1e-5)
    assert np.abs(variance - plain.get_weights()[5]).max() > 1e-2


# Bad input ------------------------------------------------------------------------------------------------------------


@only("tensorflow", why="tf.distribute is TensorFlow's")
def test_mirrored_strategy():
    run_in_fresh_process(
        """
        import contextlib, keras, numpy as np, tensorflow as tf
        from keras_reg.callbacks import WeightAverage

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
        found = []
        for parallel in (False, True):
            with strategy.scope() if parallel else contextlib.nullcontext():
                keras.utils.set_random_seed(0)
                model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
                model.compile("sgd", "mse")
                average = WeightAverage(decay=0.9)
                model.fit(x, x[:, :1], 8, 3, verbose=0, callbacks=[average], shuffle=False)
                found.append([average.updates, *map(np.copy, model.get_weights())])
        assert found[0][0] == found[1][0] == 6
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        """
    )


def test_what_it_needs(monkeypatch):
    with raises_received("one `WeightAverage`"):
        compiled().fit(**FIT, callbacks=[WeightAverage(), WeightAverage("swa", every="epoch")])
    with raises_received("`start`", "start=2"):
        compiled().fit(**FIT, epochs=2, callbacks=[WeightAverage(start=2)])
    with raises_received("use_ema=True"):
        compiled(keras.optimizers.SGD(use_ema=True)).fit(**FIT, callbacks=[WeightAverage()])
    average = WeightAverage()
    average.set_model(keras.Sequential([keras.layers.Dense(1)]))
    with raises_received("is built"):
        average.on_train_begin()
    with monkeypatch.context() as patched, raises_received('`every="epoch"`'):
        patched.setattr(keras.distribution, "distribution", lambda: "DataParallel")
        average.set_model(compiled())
        average.on_train_begin()
    with raises_received("`data`", "data=None"):
        WeightAverage(update_batch_normalization=True)
    for data in (X[:0], iter([X]), []):
        with raises_received("`data` must"):
            compiled().fit(**FIT, callbacks=[WeightAverage(data=data)])
    model = compiled()
    model.optimizer = None
    average.set_model(model)
    with raises_received("optimizer=None"):
        average.on_train_begin()


def test_a_training_that_ends_before_the_average_begins_keeps_its_weights():
    class Stops(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model, recorder = compiled(), Recorder()
    with pytest.warns(UserWarning, match="made no update"):
        model.fit(**FIT, epochs=3, callbacks=[recorder, Stops(), WeightAverage(start=1)])
    assert_same(model.get_weights(), recorder.sequence()[-1], atol=0)


def test_an_error_in_the_data_leaves_the_trained_weights():
    data = [X[:4]]
    fades = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: data.clear())
    model, recorder, average = compiled(), Recorder(), WeightAverage(data=data)
    with raises_received("`data` must have at least one batch"):
        model.fit(**FIT, callbacks=[recorder, average, fades])
    assert_same(model.get_weights(), recorder.sequence()[-1], atol=0)
    assert average.state_dict()["updates"] == 6
