"""Faults that were reported in public, by the number of their thread: how it goes here."""

import collections

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, to_numpy

import keras_reg
from keras_reg.layers import CutMix, MixUp, RandomErasing
from keras_reg.training import RegularizedModel
from keras_reg.transfer import Phase, TransferLearner, freeze, unfreeze


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


# The loss of a compiled model.


@keras.saving.register_keras_serializable(package="tests")
def smoothed(y_true, y_pred):
    return keras.losses.categorical_crossentropy(y_true, y_pred, label_smoothing=0.1)


def heads(names=("a", "b"), form=dict):
    keras.utils.set_random_seed(1)
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(image)
    found = [keras.layers.Dense(2, activation="softmax", name=name)(flat) for name in names]
    return keras.Model(image, form(zip(names, found, strict=True)) if form is dict else found)


def given_losses():
    both = collections.namedtuple("Both", ["a", "b"])
    loss = keras_reg.losses.LabelSmoothingCrossentropy(0.2)
    return {
        "a name": "categorical_crossentropy", "a function": smoothed, "an object": loss, "a list": [loss, "mse"],
        "a dict": {"a": loss, "b": smoothed}, "a namedtuple": both(loss, "mse"), "none": None,
    }  # fmt: skip


@pytest.mark.parametrize("kind", given_losses())
def test_tensorflow_36735_a_model_gives_back_its_loss(kind, tmp_path):
    """`compile(loss=model.loss)` compiles this model, its network and another one as at first."""
    x, y = images(8, 4, 4, 1), np.eye(2, dtype="float32")[np.arange(8) % 2]
    loss = given_losses()[kind]
    several = isinstance(loss, (list, tuple, dict))
    labels = {"a": y, "b": y} if isinstance(loss, dict) else [y, y] if several else y
    net = heads(form=type(loss) if isinstance(loss, dict) else list) if several else heads(["a"], list)
    model = RegularizedModel(net, MixUp(1.0, seed=1))
    model.compile("sgd", loss)
    assert model.loss is loss
    if loss is None:
        return
    net.compile("sgd", loss)
    expected = net.evaluate(x, labels, return_dict=True, verbose=0)
    other = RegularizedModel(net, CutMix(seed=2))
    for each in (model, net, other):
        each.compile("sgd", loss=model.loss)
        assert_close(each.evaluate(x, labels, return_dict=True, verbose=0), expected, rtol=1e-6)
    config = model.get_compile_config()["loss"]
    assert config == keras.saving.serialize_keras_object(loss)
    if isinstance(loss, tuple):
        return  # which Keras itself cannot load: a namedtuple comes back as a tuple
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again.evaluate(x, labels, return_dict=True, verbose=0), expected, rtol=1e-6)
    again.compile("sgd", loss=again.loss)
    again.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    assert_close(again.evaluate(x, labels, return_dict=True, verbose=0), expected, rtol=1e-6)


# Models whose `call` takes no `training`.


def make_net(kind):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.BatchNormalization()]

        def run(self, x):
            for part in self.parts:
                x = part(x)
            return x

    class Without(Net):
        def call(self, x):
            return self.run(x)

    class Positional(Net):
        def call(self, x, training):
            return self.run(x)

    class KeywordOnly(Net):
        def call(self, x, *, training=None):
            return self.run(x)

    class Keywords(Net):
        def call(self, x, **kwargs):
            return self.run(x)

    class TrainsByDefault(Net):
        def call(self, x, training=True):
            return self.parts[2](self.parts[1](self.parts[0](x)), training=training)

    keras.utils.set_random_seed(2)
    return {
        "without": Without, "positional": Positional, "keyword only": KeywordOnly,
        "keywords": Keywords, "trains by default": TrainsByDefault,
    }[kind]()  # fmt: skip


@pytest.mark.parametrize("kind", ["without", "positional", "keyword only", "keywords", "trains by default"])
def test_keras_20577_training_is_handed_on_as_without_the_wrapper(kind):
    """Bit for bit: the statistics of an inner BatchNormalization move where those of the plain model do."""
    x, y = images(8, 4, 4, 1), np.arange(8) % 4
    plain, net = make_net(kind), make_net(kind)
    model = RegularizedModel(net, RandomErasing(rate=0.0))
    found = []
    for each in (plain, model):
        each.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses = [float(each.train_on_batch(x, y)) for _ in range(3)]
        losses += [float(each.test_on_batch(x, y))]
        outputs = [each.predict(x, verbose=0)] + ([] if kind == "positional" else [to_numpy(each(x))])
        weights = (plain if each is plain else net).get_weights()
        found.append((losses, outputs, weights))
    for a, b in zip(keras.tree.flatten(found[0]), keras.tree.flatten(found[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    # On JAX Keras tells `call` alone, so that layers inside hear of it only where they are told.
    moved = kind == "trains by default" or (kind in ("positional", "keyword only") and BACKEND != "jax")
    assert (found[0][2][-1] != 1).any() == moved


# Transfer.


def test_keras_19208_lora_stays_frozen():
    """`trainable = True` trains the pretrained kernel again; `unfreeze` and the phases of a transfer do not."""
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, "tanh", name="dense")
    backbone = keras.Model(inputs, layer(inputs), name="net")
    layer.enable_lora(2)
    backbone.trainable = True
    kernel = next(weight for weight in layer.weights if weight.name == "kernel")
    before = to_numpy(kernel).copy()
    freeze(backbone)
    unfreeze(backbone)
    assert {weight.name for weight in layer.trainable_weights} == {"bias", "lora_kernel_a", "lora_kernel_b"}
    learner = TransferLearner(backbone, 2, run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(8, 4))
    phases = [Phase("warm up", 1), Phase("all", 2, "all", keras.optimizers.SGD(0.1))]
    learner.fit(x, np.arange(8) % 2, phases=phases, verbose=0)
    np.testing.assert_array_equal(to_numpy(kernel), before)
    assert np.abs(to_numpy(layer.lora_kernel_b)).max() > 0
