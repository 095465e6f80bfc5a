"""RegularizedModel around networks that compute their losses and metrics by themselves, such as a Distiller."""

import zipfile

import keras
import numpy as np
import pytest
from harness import assert_close, fewer, gradients, raises_received, to_numpy
from keras import ops

from keras_reg import layers, training

CLASSES = 4
CE = keras.losses.SparseCategoricalCrossentropy
DISTILLER = getattr(getattr(keras, "distillation", None), "Distiller", None)
distills = pytest.mark.skipif(DISTILLER is None, reason="Keras has `keras.distillation` from 3.12 on.")
RNG = np.random.default_rng(0)
X, Y = RNG.random((12, 6), "float32"), np.array([0, 1, 2, 3, 3, 1, 0, 2, 2, 0, 1, 3])


def parts(activity=0.3, dropout=0.0):
    regularizer = keras.regularizers.L2(activity) if activity else None
    hidden = keras.layers.Dense(5, "tanh", activity_regularizer=regularizer, name="hidden")
    return [keras.Input((6,)), hidden, keras.layers.Dropout(dropout), keras.layers.Dense(CLASSES)]


@keras.saving.register_keras_serializable(package="tests")
class KerasLoss(keras.Sequential):
    """Overrides what computes the loss and the metrics, and computes the same."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred, sample_weight)


def network(cls=keras.Sequential, **options):
    keras.utils.set_random_seed(1)
    return cls(parts(**options))


def distiller(count_losses=False, nets=None):
    """A Distiller. Keras' own leaves `losses` out, so the subclass here adds them."""

    class AddsLosses(DISTILLER):
        def compute_loss(self, *args, **kwargs):
            return super().compute_loss(*args, **kwargs) + sum(self.losses)

    keras.utils.set_random_seed(1)
    teacher, student = nets or (keras.Sequential(parts(activity)) for activity in (0.0, 0.3))
    cls = AddsLosses if count_losses else DISTILLER
    loss = keras.distillation.LogitsDistillation(temperature=2.0, loss=keras.losses.KLDivergence())
    return cls(teacher, student, loss, student_loss_weight=0.4)


def compiled(model, **options):
    options = {"optimizer": keras.optimizers.SGD(0.1), "loss": CE(from_logits=True), "metrics": ["accuracy"]} | options
    model.compile(**options)
    return model


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


# The loss, once.


@distills
@pytest.mark.parametrize("weighted", [False, True])
def test_distillation_with_mix_up_against_numpy(weighted):
    """The student's loss is mixed per sample, although Distiller ignores `sample_weight`. The rest counts once."""
    inner = distiller(count_losses=True)
    model = compiled(training.RegularizedModel(inner, layers.MixUp(0.8, seed=3)), optimizer=keras.optimizers.SGD(0.0))
    x, mixture, weights = augmented = model.augment(X, Y, Y + 1.0 if weighted else None)
    object.__setattr__(model, "augment", lambda *data: augmented)
    logs = model.train_on_batch(X, Y, sample_weight=weights, return_dict=True)
    share = to_numpy(mixture.weights)
    assert len(np.unique(np.round(share[:, 0], 4))) > 6
    teacher, student = (to_numpy(net(x)) for net in (inner.teacher, inner.student))
    logs_p = log_softmax(student)
    rows = np.arange(len(X))
    mixed = sum(-share[:, k] * logs_p[rows, to_numpy(labels)] for k, labels in enumerate(mixture.labels)).mean()
    soft = np.exp(log_softmax(teacher / 2))
    distilled = (soft * (log_softmax(teacher / 2) - log_softmax(student / 2))).sum(-1).mean() * 4
    hidden = to_numpy(inner.student.layers[0](x))
    activity = 0.3 * (hidden**2).sum() / len(X)
    assert activity > 0.1 and distilled > 0.05
    assert_close(logs["student_loss"], mixed, rtol=1e-5)
    assert_close(logs["distillation_loss"], distilled, rtol=1e-4)
    assert_close(logs["loss"], 0.4 * mixed + 0.6 * distilled + activity, rtol=1e-5)
    dominant = to_numpy(mixture.dominant)
    assert_close(logs["accuracy"], (student.argmax(-1) == dominant).mean())


@pytest.mark.parametrize("mixed", [True, False])
def test_compute_loss_is_called_once_per_step(mixed):
    class Counts(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            self.calls.assign(self.calls + float(training))
            return super().compute_loss(x, y, y_pred, sample_weight)

    inner = network(Counts)
    inner.calls = inner.add_weight(shape=(), initializer="zeros", trainable=False)
    model = compiled(training.RegularizedModel(inner, layers.MixUp(seed=0) if mixed else None))
    model.fit(X, Y, batch_size=6, epochs=2, validation_data=(X, Y), verbose=0)
    assert float(to_numpy(inner.calls)) == 4


PARTS = {
    "nothing": dict,
    "augmentation": lambda: {"augmentation": layers.MixUp(0.8, seed=3)},
    "mix_at": lambda: {"augmentation": layers.MixUp(0.8, seed=3), "mix_at": "hidden"},
    "confidence": lambda: {"penalties": [training.ConfidencePenalty(0.1)]},
    "dropout": lambda: {"penalties": [training.ConsistentDropout(0.5)]},
    "adversarial": lambda: {"penalties": [training.VirtualAdversarial(0.5)]},
    "sharpness": lambda: {"sharpness": training.SharpnessAware(0.1)},
    "all": lambda: {
        "augmentation": layers.MixUp(0.8, seed=3),
        "penalties": [training.ConfidencePenalty(0.1), training.ConsistentDropout(0.5)],
        "sharpness": training.SharpnessAware(0.1),
    },
}


@pytest.mark.parametrize("name", fewer(PARTS, ["mix_at", "all"]))
def test_overrides_that_change_nothing_change_nothing(name):
    """With every part, against the network that does not override anything."""
    found = []
    for cls in (keras.Sequential, KerasLoss):
        model = training.RegularizedModel(network(cls, dropout=0.3), **PARTS[name]())
        compiled(model)
        keras.utils.set_random_seed(5)
        logs = model.fit(X, Y, sample_weight=Y + 1.0, batch_size=6, shuffle=False, verbose=0).history
        found.append((model.get_weights(), logs, model.evaluate(X, Y, batch_size=6, verbose=0)))
    (weights, logs, results), (own_weights, own_logs, own_results) = found
    assert_close(own_weights, weights, rtol=1e-4, atol=1e-6)
    assert list(own_logs) == list(logs)
    for name in logs:
        assert_close(own_logs[name], logs[name], rtol=1e-4)
    assert_close(own_results, results, rtol=1e-4)


def two_outputs(cls):
    keras.utils.set_random_seed(1)
    x = keras.Input((6,))
    hidden = keras.layers.Dense(5, "tanh", activity_regularizer="l2")(x)
    return cls(x, {name: keras.layers.Dense(CLASSES, name=name)(hidden) for name in ("a", "b")})


class FunctionalKerasLoss(keras.Model):
    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs)

    def compute_metrics(self, *args, **kwargs):
        return super().compute_metrics(*args, **kwargs)


def test_two_outputs():
    """The losses of both outputs are metrics of the network, which must exist before the first step."""
    found = []
    labels = {"a": Y, "b": Y[::-1].copy()}
    for cls in (keras.Model, FunctionalKerasLoss):
        model = training.RegularizedModel(two_outputs(cls), layers.MixUp(0.8, seed=3))
        losses = {"a": CE(from_logits=True), "b": CE(from_logits=True)}
        compiled(model, loss=losses, loss_weights={"a": 1.0, "b": 0.5}, metrics={"a": ["accuracy"]})
        logs = model.fit(X, labels, batch_size=6, shuffle=False, verbose=0).history
        found.append((logs, model.get_weights(), model.evaluate(X, labels, batch_size=6, verbose=0)))
    assert sorted(found[1][0]) == sorted(found[0][0]) == ["a_accuracy", "a_loss", "b_loss", "loss"]
    for name in found[0][0]:
        assert_close(found[1][0][name], found[0][0][name], rtol=1e-5)
    assert_close(found[1][1:], found[0][1:], rtol=1e-5)


# As the network alone.


def histories(build, **options):
    """The histories of the network alone and inside, the results of `evaluate`, and the outputs."""
    found = []
    for wrap in (lambda model: model, training.RegularizedModel):
        model = compiled(wrap(build()), optimizer=keras.optimizers.Adam(0.01), **options)
        keras.utils.set_random_seed(5)
        fit = model.fit(X, Y, batch_size=6, epochs=2, shuffle=False, validation_data=(X, Y), verbose=0)
        found.append((fit.history, model.evaluate(X, Y, batch_size=6, verbose=0), model.predict(X, verbose=0)))
    return found


def assert_same(alone, inside):
    assert list(inside[0]) == list(alone[0])
    for name in alone[0]:
        assert_close(inside[0][name], alone[0][name], rtol=1e-5)
    assert_close(inside[1], alone[1], rtol=1e-5)
    assert_close(inside[2], alone[2], rtol=1e-5)


@distills
@pytest.mark.parametrize("count_losses", [False, True])
def test_a_distiller_without_parts_trains_as_alone(count_losses):
    alone, inside = histories(lambda: distiller(count_losses))
    assert {"loss", "student_loss", "distillation_loss", "total_loss", "accuracy"} < {*inside[0]}
    assert_same(alone, inside)


@distills
def test_a_loss_by_name_trains_as_alone():
    assert_same(*histories(distiller, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True).name))


@pytest.mark.parametrize("steps", [1, 2])
def test_own_trackers_are_kept_and_reset(steps):
    """As in the documentation of Keras: a loss of its own, and `metrics` that list one tracker."""

    class Tracks(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            loss = super().compute_loss(x, y, y_pred, sample_weight)
            self.tracker.update_state(loss * 2)
            return loss

        @property
        def metrics(self):
            return [self.tracker]

    def build():
        model = network(Tracks)
        model.tracker = keras.metrics.Mean(name="twice")
        return model

    several = {} if keras.backend.backend() == "torch" else {"steps_per_execution": steps}
    alone, inside = histories(build, metrics=None, **several)
    assert [*inside[0]] == ["twice", "val_twice"]
    assert_same(alone, inside)


def test_reset_metrics_resets_the_network():
    class Resets(keras.Sequential):
        resets = 0

        def reset_metrics(self):
            super().reset_metrics()
            Resets.resets += 1

    model = compiled(training.RegularizedModel(network(Resets)))
    model.fit(X, Y, batch_size=6, epochs=2, verbose=0)
    assert Resets.resets == 2


# With parts.


@distills
@pytest.mark.parametrize("name", ["confidence", "dropout", "adversarial"])
def test_penalties_add_to_the_loss_of_a_distiller(name):
    """Their further passes leave the network's metrics as they are, which are those of the first pass."""
    found = []
    for penalties in ([], PARTS[name]()["penalties"]):
        keras.utils.set_random_seed(1)
        nets = (keras.Sequential(parts(dropout=0.5)) for _ in range(2))
        model = training.RegularizedModel(distiller(nets=nets), penalties=penalties)
        compiled(model, optimizer=keras.optimizers.SGD(0.0))
        keras.utils.set_random_seed(5)
        found.append(model.train_on_batch(X, Y, return_dict=True))
    plain, penalized = found
    for metric in ("student_loss", "distillation_loss", "total_loss", "accuracy"):
        assert_close(penalized[metric], plain[metric], rtol=1e-5)
    weight, term = float(penalties[0].weight), penalized[penalties[0].name]
    if name == "dropout":  # its loss is also the mean of two passes
        assert abs(penalized["loss"] - plain["loss"] - weight * term) > 1e-4
    else:
        assert_close(penalized["loss"], plain["loss"] + weight * term, rtol=1e-5)


@distills
def test_sharpness_takes_the_gradient_of_the_whole_loss_of_a_distiller():
    """Against the gradient at w + e of a loss that is written out, with the activity regularizer."""
    rho, rate = 0.1, 0.05
    inner = distiller(count_losses=True)
    soft = ops.softmax(ops.stop_gradient(inner.teacher(X)) / 2)
    model = training.RegularizedModel(inner, sharpness=training.SharpnessAware(rho))
    compiled(model, optimizer=keras.optimizers.SGD(rate))
    weights = [keras.Variable(np.array(to_numpy(weight))) for weight in inner.trainable_variables]
    start = [np.array(to_numpy(weight)) for weight in weights]

    def loss():
        first, first_bias, last, last_bias = weights
        hidden = ops.tanh(ops.matmul(X, first) + first_bias)
        logits = ops.matmul(hidden, last) + last_bias
        student = ops.mean(keras.losses.sparse_categorical_crossentropy(Y, logits, from_logits=True))
        distilled = 4 * ops.mean(ops.sum(soft * (ops.log(soft) - ops.log_softmax(logits / 2)), -1))
        return 0.4 * student + 0.6 * distilled + 0.3 * ops.sum(ops.square(hidden)) / len(X)

    slopes = gradients(loss, weights)
    norm = np.sqrt(sum((slope**2).sum() for slope in slopes))
    for weight, value, slope in zip(weights, start, slopes, strict=True):
        weight.assign(value + rho * slope / norm)
    expected = [value - rate * slope for value, slope in zip(start, gradients(loss, weights), strict=True)]
    model.train_on_batch(X, Y)
    assert_close([to_numpy(weight) for weight in inner.trainable_variables], expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected[0] - start[0] + rate * slopes[0]).max() > 1e-5


# What is compiled.


def test_compile_compiles_the_network_too():
    inner, optimizer, loss = network(KerasLoss), keras.optimizers.Adam(0.01), CE(from_logits=True)
    model = training.RegularizedModel(inner, layers.MixUp(seed=0))
    model.compile(optimizer, loss, metrics=["accuracy"])
    assert model.optimizer is optimizer and inner.optimizer is optimizer
    assert model.loss is loss and inner.loss is not loss
    model.fit(X, Y, verbose=0)
    assert int(to_numpy(optimizer.iterations)) == 1
    y_pred = inner(X)
    assert_close(inner.loss(Y, y_pred), loss(Y, y_pred))


def test_losses_under_other_names_are_wrapped_too():
    """An older form of distillation, whose `compile` has names of its own and which reads `y` with one of them."""

    class Distills(keras.Sequential):
        def compile(self, optimizer, metrics, student_loss_fn, factor):
            super().compile(optimizer=optimizer, metrics=metrics)
            self.student_loss_fn, self.factor = student_loss_fn, factor

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return self.factor * self.student_loss_fn(y, y_pred)

    found = []
    for cls in (keras.Sequential, Distills):
        model = training.RegularizedModel(network(cls, activity=0.0), layers.MixUp(0.8, seed=3))
        loss, optimizer = CE(from_logits=True), keras.optimizers.SGD(0.0)
        if cls is Distills:
            model.compile(optimizer, ["accuracy"], loss, factor=3.0)
        else:
            model.compile(optimizer, loss, metrics=["accuracy"])
        found.append(model.train_on_batch(X, Y, return_dict=True))
    assert_close(found[1]["loss"], 3 * found[0]["loss"], rtol=1e-5)
    assert_close(found[1]["accuracy"], found[0]["accuracy"])


# Overrides that read labels by themselves.

READS = {
    "-": lambda y, y_pred: ops.mean(y_pred[:, 0] - y),
    "==": lambda y, y_pred: ops.mean(ops.cast(y == 0, "float32")),
    "cast": lambda y, y_pred: ops.mean(ops.cast(y, "float32")),
    "one_hot": lambda y, y_pred: ops.mean(y_pred * ops.one_hot(y, CLASSES)),
    "shape": lambda y, y_pred: ops.mean(y_pred) * len(y.shape),
    "index": lambda y, y_pred: ops.mean(ops.cast(y[0], "float32")),
    "function": lambda y, y_pred: ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred)),
    "object": lambda y, y_pred: CE()(y, y_pred),
}


def reading(read):
    class Reads(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return read(y, y_pred)

    return network(Reads, activity=0.0)


@pytest.mark.parametrize("read", READS)
def test_overrides_that_read_labels_are_refused_for_mixtures(read):
    model = training.RegularizedModel(reading(READS[read]), layers.MixUp(seed=0))
    model.compile("sgd")
    with raises_received("y=integer labels of 2"):
        model.train_on_batch(X, Y)


def test_overrides_that_read_labels_get_mixed_one_hot_labels():
    squared = lambda y, y_pred: ops.mean(ops.square(y_pred - y))  # noqa: E731
    model = training.RegularizedModel(reading(squared), layers.MixUp(0.8, seed=3))
    model.compile(keras.optimizers.SGD(0.0))
    hot = np.eye(CLASSES, dtype="float32")[Y]
    x, mixture, _ = model.augment(X, hot)
    assert_close(
        model.compute_loss(x, mixture, model(x)),
        np.mean((to_numpy(model(x)) - to_numpy(mixture.labels[0])) ** 2),
        rtol=1e-5,
    )
    plain = training.RegularizedModel(reading(lambda y, y_pred: squared(ops.one_hot(y, CLASSES), y_pred)))
    plain.compile("sgd")
    assert np.isfinite(plain.train_on_batch(X, Y))


def test_refuses_steps_that_it_would_bypass():
    class OwnTestStep(keras.Sequential):
        def test_step(self, *args):
            return super().test_step(*args)

    with raises_received("test_step", "OwnTestStep"):
        training.RegularizedModel(network(OwnTestStep))


# Files.


def test_save_and_load(tmp_path):
    model = compiled(training.RegularizedModel(network(KerasLoss), layers.MixUp(seed=0)))
    model.fit(X, Y, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded.model) is KerasLoss and loaded.optimizer is loaded.model.optimizer
    assert int(to_numpy(loaded.optimizer.iterations)) == 1
    assert_close(loaded.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)
    loaded.fit(X, Y, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    alone = network(KerasLoss)
    alone.load_weights(tmp_path / "model.weights.h5")
    assert_close(alone.get_weights(), model.model.get_weights())


@distills
def test_save_and_load_a_distiller(tmp_path):
    model = compiled(training.RegularizedModel(distiller(), layers.MixUp(seed=0)))
    model.fit(X, Y, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    assert_close(loaded.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)
    assert_close(loaded.model.student.get_weights(), model.model.student.get_weights())
    loaded.fit(X, Y, verbose=0)


def test_the_file_of_the_compiled_network_needs_no_other_package(tmp_path):
    model = compiled(training.RegularizedModel(network(KerasLoss), layers.MixUp(seed=0)), loss=CE(from_logits=True))
    model.fit(X, Y, verbose=0)
    path = tmp_path / "inner.keras"
    model.model.save(path)
    with zipfile.ZipFile(path) as file:
        assert b"keras_reg" not in file.read("config.json")
    loaded = keras.models.load_model(path)
    assert type(loaded.loss) is CE and int(to_numpy(loaded.optimizer.iterations)) == 1
    assert_close(loaded.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)
