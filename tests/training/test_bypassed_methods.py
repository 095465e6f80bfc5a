"""Methods that a user's class overrides: each is called, or the model is refused. None is silently ignored."""

import inspect
import warnings

import harness
import keras
import numpy as np
import pytest
from keras import ops

from keras_reg import callbacks, inference, layers, surgery, training

AROUND = [f"{name}_on_batch" for name in ("train", "test", "predict")]
AROUND += [f"make_{name}_function" for name in ("train", "test", "predict")] + ["fit", "evaluate", "predict"]
X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
IMAGES = X.reshape(8, 2, 2, 1)
Y = np.arange(8) % 3


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(cls=keras.Model, dropout=0.0):
    inputs = keras.Input((4,))
    return cls(inputs, keras.layers.Dense(3)(keras.layers.Dropout(dropout, seed=1)(inputs)))


def overriding(*names):
    """Returns a class that overrides methods without changing what they do."""

    def override(name):
        def method(self, *args, **kwargs):
            return getattr(keras.Model, name)(self, *args, **kwargs)

        return method

    return type("Overrides", (keras.Model,), {name: override(name) for name in names})


@pytest.mark.parametrize("name", ["compute_loss_and_updates", "stateless_compute_loss"])
def test_losses_that_only_steps_on_jax_call_are_refused_there(name):
    made, step = (network(overriding(*names)) for names in ((name,), (name, "train_step")))
    training.RegularizedModel(step)  # its own step calls them
    calls = (
        lambda: training.RegularizedModel(made),
        lambda: surgery.regularize(made, dropout=0.1),
        lambda: inference.soup([made, made], verbose=0),
    )
    if keras.backend.backend() == "jax":
        for call in calls:
            with harness.raises_received(f"`{name}`", "Overrides"):
                call()
    else:
        training.RegularizedModel(made)  # Keras does not call them either


@pytest.mark.parametrize("name", AROUND)
def test_methods_that_the_step_does_not_call_are_refused(name):
    with harness.raises_received(f"`{name}`", "RegularizedModel", "Overrides"):
        training.RegularizedModel(network(overriding(name)))


def test_compile_of_the_network_is_called():
    class OwnDefaults(keras.Model):
        def compile(self, optimizer="sgd", loss=None, metrics=()):
            super().compile(optimizer, loss, metrics=["accuracy", *metrics])

    model = training.RegularizedModel(network(OwnDefaults), layers.MixUp(seed=0))
    model.compile(loss=cross_entropy())
    logs = model.fit(X, Y, validation_data=(X, Y), verbose=0).history
    assert set(logs) == {"loss", "accuracy", "val_loss", "val_accuracy"}


@pytest.mark.parametrize("name", ["compute_loss", "train_step"])
def test_methods_of_one_object_are_called_too(name):
    plain, calls = network(), []
    before = getattr(plain, name)

    def counted(*args, **kwargs):
        calls.append(name)
        return before(*args, **kwargs)

    setattr(plain, name, counted)
    model = training.RegularizedModel(plain)
    model.compile("sgd", cross_entropy())
    model.fit(X, Y, verbose=0)
    assert calls


# Copies and models around a trained one.


def flips(model):
    return inference.TestTimeAugmentation(model, layers.RandomGaussianNoise(0.1), samples=2, from_logits=True)


AROUND_PREDICTIONS = {
    "TestTimeAugmentation": flips,
    "MonteCarlo": lambda model: inference.MonteCarlo(model, from_logits=True),
    "ensemble": lambda model: inference.ensemble([model, network()], from_logits=True),
    "calibrate": lambda model: inference.calibrate(model, (X, Y), from_logits=True),
    "copy": lambda model: inference.soup([model, model], greedy=False),
    "the copy": lambda model: surgery.regularize(model, kernel_l2=0.1),
}


@pytest.mark.parametrize("name", AROUND_PREDICTIONS)
@pytest.mark.parametrize("method", ["predict", "predict_step"])
def test_what_only_predict_does_is_refused(name, method):
    model = network(overriding(method), dropout=0.5)
    with harness.raises_received(f"`{method}`", name, "Overrides"):
        AROUND_PREDICTIONS[name](model)


@pytest.mark.parametrize("method", ["train_step", "compute_loss", "fit", "metrics"])
def test_a_regularized_copy_would_lose_steps(method):
    model = network(overriding(method))
    with harness.raises_received(f"`{method}`", "the copy"):
        surgery.regularize(model, kernel_l2=0.1)
    copy = surgery.regularize(keras.Model(model.input, model.output), kernel_l2=0.1)
    assert len(type(model)(copy.input, copy.output).losses) == 1


def test_the_soup_is_chosen_by_the_loss_of_its_members():
    model = network(overriding("compute_loss"))
    model.compile("sgd", cross_entropy())
    with harness.raises_received("`compute_loss`", "Overrides"):
        inference.soup([model, model], (X, Y))


def test_snapshots_predict_as_the_model_does():
    model = network(overriding("predict_step"))
    model.compile("sgd", cross_entropy())
    with harness.raises_received("`predict_step`", "Overrides"):
        model.fit(X, Y, epochs=2, callbacks=[callbacks.SnapshotEnsemble(2)], verbose=0)


# Subclasses of `RegularizedModel`.


class OldSignature(training.RegularizedModel):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight) + 100.0


class Passing(training.RegularizedModel):
    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) + 100.0


class Own(training.RegularizedModel):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)) + len(y.shape)


@pytest.mark.parametrize("cls", [OldSignature, Passing])
def test_validation_has_no_penalties(cls):
    assert "training" not in inspect.signature(cls.compute_loss).parameters
    model = cls(network(), penalties=[training.ConfidencePenalty(10.0)])
    model.compile(keras.optimizers.SGD(0.0), cross_entropy())
    logs = model.fit(X, Y, validation_data=(X, Y), verbose=0).history
    assert set(logs) == {"loss", "confidence_penalty", "val_loss"}
    loss = ops.convert_to_numpy(cross_entropy()(Y, model(X)))
    np.testing.assert_allclose(logs["val_loss"], 100 + loss, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 100 + loss + 10 * np.array(logs["confidence_penalty"]), rtol=1e-5)


@pytest.mark.parametrize("cls", [OldSignature, Passing])
def test_sharpness_calls_every_signature(cls):
    plain, changed = network(), None
    weights = plain.get_weights()
    for each in (training.RegularizedModel, cls):
        plain.set_weights(weights)
        model = each(plain, sharpness=training.SharpnessAware(0.05))
        model.compile(keras.optimizers.SGD(0.1), cross_entropy())
        model.fit(X, Y, verbose=0)
        if changed is not None:  # a constant has no gradient
            np.testing.assert_allclose(plain.get_weights()[0], changed, atol=1e-6)
        changed = plain.get_weights()[0]


def test_penalties_that_a_subclass_does_not_add_are_refused():
    model = Own(network(), penalties=[training.ConfidencePenalty()])
    model.compile("sgd", cross_entropy())
    with harness.raises_received("super().compute_loss", "Own"):
        model.fit(X, Y, verbose=0)


def stateless(model, *state):
    """A scope in which variables have the values of the state that a step gets on JAX."""
    groups = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
    values = zip((*groups, model.metrics_variables), *state, strict=True) if state else ()
    return keras.StatelessScope([pair for group in values for pair in zip(*group, strict=True)])


def logs_of_step(*state):
    logs = {"loss": ops.zeros(())}
    return (logs, *state) if state else logs


def trains_without_a_warning(model):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A `train_step` of")
        model.fit(IMAGES, Y, verbose=0)


class Replaced(training.RegularizedModel):
    """Takes a step of its own, which uses the methods that are named in `calls`."""

    calls = ()

    def train_step(self, *given):
        *state, (x, y) = given
        if "super" in self.calls:
            return super().train_step(*given)
        with stateless(self, *state):
            if "augment" in self.calls:
                x, y, _ = self.augment(x, y)
            if "compute_loss" in self.calls:
                self.compute_loss(x, y, self(x, training=True))
            if "sharpened_gradients" in self.calls:
                self.sharpened_gradients([weight.value for weight in self.trainable_variables], x, y)
        return logs_of_step(*state)


class Further(Replaced):
    """Augments before the step of the class below."""

    def train_step(self, *given):
        *state, data = given
        with stateless(self, *state):
            self.augment(*data)
        return super().train_step(*given)


PARTS = {
    "augment": {"augmentation": layers.RandomFlip(seed=0)},
    "compute_loss": {"penalties": [training.ConfidencePenalty()]},
    "sharpened_gradients": {"sharpness": training.SharpnessAware(0.05)},
}


def with_parts(cls, **parts):
    inputs = keras.Input((2, 2, 1))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    model = cls(keras.Model(inputs, outputs), **parts)
    model.compile("sgd", cross_entropy())
    return model


@pytest.mark.parametrize("method", PARTS)
def test_a_train_step_of_a_subclass_that_does_not_use_a_part_warns(method):
    """Otherwise nobody would see that the model trains without it."""
    (part,) = PARTS[method]
    model = with_parts(Replaced, **PARTS[method])
    with pytest.warns(UserWarning, match=f"`Replaced` called neither .* nor `{method}`, so it trained without {part}"):
        model.fit(IMAGES, Y, verbose=0)
    for calls in (method, "super"):
        model = with_parts(Replaced, **PARTS[method])
        model.calls = (calls,)
        trains_without_a_warning(model)


def test_the_parts_of_a_step_may_be_used_by_each_class_on_the_way():
    trains_without_a_warning(with_parts(Further, **PARTS["augment"]))


def test_a_train_step_may_replace_the_optimizer():
    class Alternates(training.RegularizedModel):
        def train_step(self, *given):
            self.optimizer = self.optimizer
            return super().train_step(*given)

    trains_without_a_warning(with_parts(Alternates, **PARTS["augment"]))


def test_a_train_step_takes_its_arguments_by_name_and_needs_no_compile():
    class Counts(training.RegularizedModel):
        def train_step(self, data):
            return data

    model = type("Passes", (Counts,), {"train_step": lambda self, data: super(type(self), self).train_step(data=data)})
    assert model(network()).train_step(data=3) == 3


def test_a_train_step_of_another_base_class_warns():
    other = type("Other", (), {"train_step": lambda self, *given: logs_of_step(*given[:-1])})
    model = with_parts(type("Mixed", (other, training.RegularizedModel), {}), **PARTS["augment"])
    with pytest.warns(UserWarning, match="`Mixed`"):
        model.fit(IMAGES, Y, verbose=0)
    trains_without_a_warning(model)  # it has warned


def test_a_subclass_that_reads_mixed_labels_is_told_what_they_are():
    model = Own(network(), layers.MixUp(seed=0))
    model.compile("sgd", cross_entropy())
    with pytest.raises(AttributeError, match=r"`super\(\).compute_loss`"):
        model.fit(X, Y, verbose=0)
