"""RegularizedModel around networks with a training step of their own, which gets the augmented batch."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, raises_received, to_numpy
from keras import ops

from keras_reg import callbacks, layers, training

CLASSES = 4
CE, DENSE_CE = keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy
RNG = np.random.default_rng(0)
X, Y = RNG.random((12, 4, 4, 1), "float32"), np.array([0, 1, 2, 3, 3, 1, 0, 2, 2, 0, 1, 3])


def take_step(model, losses, state, data):
    """One gradient step of any backend, written as in Keras' guides. Returns the value of each loss, and the state.

    Args:
        model: The model.
        losses: Function of the data to a list of losses. Each is for the weights of its own in `model.owners()`.
        state: The state on JAX, else an empty tuple.
        data: The data of the step.
    """
    groups = model.owners()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            values = losses(data)
        pairs = [(tape.gradient(v, group), group) for v, group in zip(values, groups, strict=True)]
        model.optimizer.apply_gradients([pair for found in pairs for pair in zip(*found, strict=True)])
        return values, state
    if BACKEND == "torch":
        import torch

        values = losses(data)
        weights = [variable for group in groups for variable in group]
        gradients = [
            gradient
            for value, group in zip(values, groups, strict=True)
            for gradient in torch.autograd.grad(value, [v.value for v in group], retain_graph=True)
        ]
        with torch.no_grad():
            model.optimizer.apply(gradients, weights)
        return values, state
    return take_step_on_jax(model, losses, state, data)


def take_step_on_jax(model, losses, state, data):
    import jax

    trainable, non_trainable, optimizer, metrics = state
    places = {id(variable): place for place, variable in enumerate(model.trainable_variables)}

    def compute(values, which):
        pairs = zip(model.non_trainable_variables, non_trainable, strict=True)
        with keras.StatelessScope([*zip(model.trainable_variables, values, strict=True), *pairs]) as scope:
            found = losses(data)
        return found[which], (found, [scope.get_current_value(v) for v in model.non_trainable_variables])

    gradients = [None] * len(trainable)
    for which, group in enumerate(model.owners()):
        found, (values, moved) = jax.grad(compute, has_aux=True)(trainable, which)
        for variable in group:
            gradients[places[id(variable)]] = found[places[id(variable)]]
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
    return values, (trainable, moved, optimizer, metrics)


def tracked(model, values, state):
    """Updates the metrics of the model, in their order, with these values. Returns what a train step returns."""
    if not state:
        for metric, value in zip(model.metrics, values, strict=True):
            metric.update_state(value)
        return {metric.name: metric.result() for metric in model.metrics}
    *others, variables = state
    with keras.StatelessScope(list(zip(model.metrics_variables, variables, strict=True))) as scope:
        logs = tracked(model, values, ())
    return logs, (*others, [scope.get_current_value(variable) for variable in model.metrics_variables])


@keras.saving.register_keras_serializable(package="tests")
class Classifier(keras.Sequential):
    """Halves the loss of Keras. `seen` is what the last step was traced with."""

    seen = None

    def owners(self):
        return [self.trainable_variables]

    def train_step(self, *state_and_data):
        *state, data = state_and_data
        Classifier.seen = keras.tree.map_structure(
            lambda a: (len(a.shape), keras.backend.standardize_dtype(a.dtype)), data[:2]
        )
        outputs = []

        def losses(data):
            x, y = data[:2]
            outputs[:] = [y, self(x, training=True)]
            return [self.compute_loss(x, *outputs) / 2]

        values, state = take_step(self, losses, *state or [()], data)
        if BACKEND == "jax":
            return tracked(self, values, state)
        return tracked(self, values, ())


def classifier(cls=Classifier):
    keras.utils.set_random_seed(1)
    return cls(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(CLASSES),
        ]
    )


def compiled(model, loss=None, **options):
    model.compile(options.pop("optimizer", keras.optimizers.Adam(0.01)), loss or CE(from_logits=True), **options)
    return model


# As the network alone.


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}], ids=str)
def test_without_parts_it_trains_as_alone(options):
    if BACKEND == "torch" and "steps_per_execution" in options:
        pytest.skip("Keras takes one step per call on PyTorch.")
    found = []
    for wrap in (lambda model: model, training.RegularizedModel):
        model = compiled(wrap(classifier()), **options)
        keras.utils.set_random_seed(5)
        fit = model.fit(X, Y, batch_size=6, epochs=2, shuffle=False, validation_data=(X, Y), verbose=0)
        results = model.evaluate(X, Y, batch_size=6, verbose=0), model.predict(X, verbose=0)
        found.append((fit.history, *results, model.get_weights(), to_numpy(model.optimizer.iterations)))
    alone, inside = found
    assert [*inside[0]] == [*alone[0]] == ["loss", "val_loss"]
    for name in alone[0]:
        assert_close(inside[0][name], alone[0][name], rtol=1e-5)
    assert_close(inside[1:], alone[1:], rtol=1e-5, atol=1e-6)
    assert inside[-1] == 4


def test_the_step_of_the_network_runs():
    """Its loss is half of Keras' loss, so with the same gradient direction the step of SGD is half as long."""
    moved = []
    for cls in (keras.Sequential, Classifier):
        net = keras.Sequential.__new__(cls)
        keras.utils.set_random_seed(1)
        net.__init__([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)])
        before = net.get_weights()
        model = compiled(training.RegularizedModel(net), optimizer=keras.optimizers.SGD(0.1))
        model.train_on_batch(X, Y)
        moved.append([a - b for a, b in zip(net.get_weights(), before, strict=True)])
    assert_close(moved[1], [change / 2 for change in moved[0]], rtol=1e-4, atol=1e-7)


# What the step gets.


class Looks(Classifier):
    """Keeps its batch in weights."""

    def train_step(self, *state_and_data):
        *state, (x, y, _) = state_and_data
        if BACKEND != "jax":
            self.images.assign(x)
            self.labels.assign(y)
            return {"seen": ops.ones(())}
        trainable, non_trainable, optimizer, metrics = state[0]
        seen = {id(self.images): x, id(self.labels): y}
        pairs = zip(self.non_trainable_variables, non_trainable, strict=True)
        return {"seen": ops.ones(())}, (trainable, [seen.get(id(v), value) for v, value in pairs], optimizer, metrics)


def test_the_step_gets_the_augmented_batch_and_one_hot_labels():
    net = classifier(Looks)
    net.images, net.labels = (
        net.add_weight(shape=shape, initializer="zeros", trainable=False) for shape in (X.shape, (len(X), CLASSES))
    )
    model = compiled(training.RegularizedModel(net, layers.MixUp(0.8, num_classes=CLASSES, seed=3)), DENSE_CE())
    for _ in range(2):
        model.train_on_batch(X, Y)
    images, labels = to_numpy(net.images), to_numpy(net.labels)
    assert_close(labels.sum(-1), np.ones(len(X)), rtol=1e-5)
    share = labels[np.arange(len(X)), Y]
    hot = np.eye(CLASSES, dtype="float32")[Y]
    assert ((share > 0.01) & (share < 0.99)).sum() > 3
    # Each image is x w + x' (1 - w) of two images whose labels have these shares.
    for image, label, x, y, w in zip(images, labels, X, Y, share, strict=True):
        if w < 0.99:
            partner = (image - w * x) / (1 - w)
            nearest = np.abs(X - partner).reshape(len(X), -1).max(1).argmin()
            same = Y[nearest] == y
            assert same or np.abs(X[nearest] - partner).max() < 1e-3
            assert same or np.abs(w * hot[int(y)] + (1 - w) * hot[Y[nearest]] - label).max() < 1e-4
    model.train_on_batch(X, Y)
    assert np.abs(to_numpy(net.images) - images).max() > 1e-3  # the seed of the augmentation moves with the state


@pytest.mark.parametrize("form", ["x", "(x, y)", "(x, y, w)"])
def test_data_keep_their_form(form):
    class Form(Classifier):
        def train_step(self, *state_and_data):
            Form.data = state_and_data[-1]
            logs = {"seen": ops.ones(())}
            return (logs, state_and_data[0]) if BACKEND == "jax" else logs

    model = training.RegularizedModel(classifier(Form), layers.RandomErasing(1.0, seed=0))
    model.compile("sgd")
    arguments = {"x": (X,), "(x, y)": (X, Y), "(x, y, w)": (X, Y, Y + 1.0)}[form]
    model.fit(arguments[0], *arguments[1:2], **dict(zip(["sample_weight"], arguments[2:], strict=False)), verbose=0)
    if form == "x":
        assert hasattr(Form.data, "shape") and tuple(Form.data.shape)[1:] == X.shape[1:]
    else:
        assert isinstance(Form.data, tuple) and len(Form.data) == len(arguments)


def test_integer_labels_with_num_classes_train_and_validate():
    """Validation labels get the form of training labels, so that losses and metrics see one form."""
    model = training.RegularizedModel(classifier(), layers.MixUp(0.8, num_classes=CLASSES, seed=3))
    compiled(model, DENSE_CE(from_logits=True))
    logs = model.fit(X, Y, batch_size=6, epochs=2, validation_data=(X, Y), verbose=0).history
    assert Classifier.seen == ((4, "float32"), (2, "float32"))
    plain = compiled(model.model, CE(from_logits=True))
    assert_close(logs["val_loss"][-1], plain.evaluate(X, Y, verbose=0), rtol=1e-5)


def test_accuracy_is_built_for_one_hot_labels():
    class WithMetrics(keras.Sequential):
        def train_step(self, *args):
            return super().train_step(*args)

    net = classifier(WithMetrics)
    model = training.RegularizedModel(net, layers.MixUp(rate=0.0, num_classes=CLASSES, seed=3))
    compiled(model, DENSE_CE(from_logits=True), metrics=["accuracy"])
    logs = model.fit(X, Y, batch_size=6, validation_data=(X, Y), verbose=0).history
    assert [*logs] == ["accuracy", "loss", "val_accuracy", "val_loss"]
    accuracy = (model.predict(X, verbose=0).argmax(-1) == Y).mean()
    assert_close(logs["val_accuracy"][-1], accuracy)
    assert_close(model.evaluate(X, np.eye(CLASSES)[Y], verbose=0)[1], accuracy)


# What is refused.


def test_mixtures_of_integer_labels_are_refused():
    model = compiled(training.RegularizedModel(classifier(), layers.MixUp(seed=0)))
    with raises_received("num_classes"):
        model.fit(X, Y, verbose=0)
    hot = np.eye(CLASSES, dtype="float32")[Y]
    model = compiled(training.RegularizedModel(classifier(), layers.MixUp(seed=0)), DENSE_CE(from_logits=True))
    model.fit(X, hot, verbose=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("penalties", [training.ConfidencePenalty(0.1)]), ("sharpness", training.SharpnessAware()), ("mix_at", "dense")],
    ids=["penalties", "sharpness", "mix_at"],
)
def test_parts_of_the_step_are_refused(name, value):
    with raises_received("train_step", name):
        training.RegularizedModel(classifier(), **{name: value})


# Models that are no classifiers.


@keras.saving.register_keras_serializable(package="tests")
class Adversaries(keras.Model):
    """A generator and a discriminator, trained together. Images are all it gets."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        keras.utils.set_random_seed(1)
        dense, reshape = keras.layers.Dense(16, "sigmoid"), keras.layers.Reshape((4, 4, 1))
        self.generator = keras.Sequential([keras.Input((3,)), dense, reshape])
        self.discriminator = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
        self.trackers = [keras.metrics.Mean(name=name) for name in ("generator_loss", "discriminator_loss")]
        self.noise = keras.random.SeedGenerator(0)
        self.built = True

    def compile(self, optimizer, smoothing):
        super().compile(optimizer=optimizer)
        self.smoothing = smoothing

    @property
    def metrics(self):
        return self.trackers

    def owners(self):
        return [self.generator.trainable_variables, self.discriminator.trainable_variables]

    def losses(self, images):
        noise = keras.random.normal((12, 3), seed=self.noise)
        real, fake = self.discriminator(images), self.discriminator(self.generator(noise))
        cross = keras.losses.BinaryCrossentropy(from_logits=True)
        ones, zeros = ops.ones_like(real) * (1 - self.smoothing), ops.zeros_like(fake)
        return [cross(ops.ones_like(fake), fake), cross(ones, real) + cross(zeros, fake)]

    def train_step(self, *state_and_data):
        *state, images = state_and_data
        values, state = take_step(self, self.losses, *state or [()], images)
        return tracked(self, values, state)


def test_adversarial_networks():
    found = []
    for wrap in (
        lambda model: model,
        training.RegularizedModel,
        lambda model: training.RegularizedModel(model, layers.RandomErasing(1.0, fill=0.0, seed=0)),
    ):
        model = wrap(Adversaries())
        model.compile(keras.optimizers.Adam(0.01), smoothing=0.1)
        found.append(model.fit(X, epochs=2, batch_size=12, shuffle=False, verbose=0).history)
    alone, inside, erased = found
    assert [*alone] == [*inside] == [*erased] == ["discriminator_loss", "generator_loss"]
    for name in alone:
        assert_close(inside[name], alone[name], rtol=1e-5)
    assert abs(erased["discriminator_loss"][0] - alone["discriminator_loss"][0]) > 1e-4


def test_steps_of_evaluation_and_prediction():
    """An autoencoder whose targets are its inputs, in all steps."""

    class Autoencoder(keras.Sequential):
        def train_step(self, *args):
            *state, x = args
            return super().train_step(*state, (x, x))

        def test_step(self, *args):
            *state, x = args
            return super().test_step(*state, (x, x))

        def predict_step(self, *args):
            *state, data = args
            done = super().predict_step(*state, data)
            return (done[0] * 2, done[1]) if BACKEND == "jax" else done * 2

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y - y_pred))

    def build():
        keras.utils.set_random_seed(1)
        dense = keras.layers.Dense(16, "sigmoid")
        return Autoencoder([keras.Input((4, 4, 1)), keras.layers.Flatten(), dense, keras.layers.Reshape((4, 4, 1))])

    found = []
    for wrap in (lambda model: model, training.RegularizedModel):
        model = wrap(build())
        model.compile("adam")
        logs = model.fit(X, batch_size=6, shuffle=False, validation_data=(X,), verbose=0).history
        found.append((list(logs.items()), model.evaluate(X, verbose=0), model.predict(X, verbose=0)))
    assert found[0][0] == found[1][0] and found[0][1] == found[1][1]
    assert_close(found[1][2], found[0][2])
    assert_close(found[1][2], 2 * to_numpy(model(X)), rtol=1e-5)


# The rest of Keras.


def test_save_and_load(tmp_path):
    model = training.RegularizedModel(classifier(), layers.MixUp(0.8, num_classes=CLASSES, seed=3))
    compiled(model, DENSE_CE(from_logits=True))
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.model) is Classifier and int(to_numpy(loaded.optimizer.iterations)) == 1
    assert loaded.optimizer is loaded.model.optimizer
    assert_close(loaded.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)
    again = [one.fit(X, Y, shuffle=False, verbose=0).history["loss"] for one in (model, loaded)]
    assert len(again[0]) == len(again[1]) == 1


def test_a_compile_of_its_own_is_repeated_by_loading(tmp_path):
    model = training.RegularizedModel(Adversaries(), layers.RandomErasing(1.0, seed=0))
    model.compile(keras.optimizers.Adam(0.01), smoothing=0.25)
    model.fit(X, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.model.smoothing == 0.25
    assert_close(loaded.model.get_weights(), model.model.get_weights())
    loaded.fit(X, verbose=0)


def test_an_error_in_a_step_costs_no_weights():
    model = compiled(training.RegularizedModel(classifier(), layers.MixUp(seed=0)), DENSE_CE(from_logits=True))
    hot = np.eye(CLASSES, dtype="float32")[Y]
    model.fit(X, hot, verbose=0)
    before = [to_numpy(weight).copy() for weight in model.weights]
    with pytest.raises(Exception, match=r"shape|incompatible"):
        model.fit(X[:, :2], hot, verbose=0)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)


def test_gradient_histograms_see_the_gradients_of_the_step():
    histograms = callbacks.GradientHistograms(every=1)
    model = compiled(training.RegularizedModel(classifier()))
    model.fit(X, Y, batch_size=6, callbacks=[histograms], verbose=0)
    assert model.model.optimizer is model.optimizer
    assert len(histograms.history) > 0
