"""Augmentation inside a model: inference unless the model trains; a mixer there would not see the labels."""

import keras
import numpy as np
import pytest
from harness import assert_close, fewer, raises_received, to_numpy

from keras_reg import layers, training

CE = keras.losses.SparseCategoricalCrossentropy
# Keras 3.10 warns so of any loaded model with one input.
OLD = keras.__version__.startswith("3.10.")
EXPECTED_WARNINGS = ["ignore:(?s).*structure of `inputs` doesn't match:UserWarning"] if OLD else []


def batch(count=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 4, 4, 1), "float32"), rng.integers(0, 3, count).astype("int32")


def network():
    keras.utils.set_random_seed(1)
    parts = [keras.layers.Flatten(), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((4, 4, 1)), *parts])


class WithAugmentation(keras.Model):
    """As the guides write it: the layers stand in `call`, and `training` is handed on."""

    def __init__(self):
        super().__init__()
        self.erase, self.net = layers.RandomErasing(1.0, seed=1), network()

    def call(self, x, training=None):
        return self.net(self.erase(x, training=training), training=training)


def inside(kind):
    erase = layers.Pipeline([layers.RandomErasing(1.0, scale=(0.5, 0.5)), keras.layers.RandomFlip(seed=1)], seed=1)
    if kind == "subclassed":
        return WithAugmentation()
    if kind == "sequential":
        return keras.Sequential([keras.Input((4, 4, 1)), erase, *network().layers])
    if kind == "nested":
        return keras.Sequential([keras.Sequential([erase]), network()])
    image = keras.Input((4, 4, 1))
    return keras.Model(image, network()(erase(image)))


@pytest.mark.filterwarnings(*EXPECTED_WARNINGS)
@pytest.mark.parametrize("kind", fewer(["subclassed", "sequential", "nested", "functional"], ["subclassed", "nested"]))
def test_augmentation_in_a_model_is_inference_unless_it_trains(kind, tmp_path):
    """As Dropout is: `model(x)`, `predict` and a loaded model see the images as they are, `fit` does not."""
    x, y = batch()
    model, plain = inside(kind), network()
    model(x)
    plain.set_weights(model.get_weights())
    expected = to_numpy(plain(x))
    assert_close(model(x), expected)
    assert_close(model(x, training=False), expected)
    assert_close(model.predict(x, verbose=0), expected, rtol=1e-5)
    assert np.abs(to_numpy(model(x, training=True)) - to_numpy(plain(x, training=True))).max() > 1e-3
    plain.set_weights(model.get_weights())
    for m in (model, plain):
        m.compile(keras.optimizers.SGD(0.0), CE(from_logits=True))
    assert_close(model.evaluate(x, y, verbose=0), plain.evaluate(x, y, verbose=0), rtol=1e-5)
    seen = model.fit(x, y, verbose=0).history["loss"][0]
    assert abs(seen - plain.fit(x, y, verbose=0).history["loss"][0]) > 1e-4
    if kind != "subclassed":
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert_close(again(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
        assert np.abs(to_numpy(again(x, training=True)) - to_numpy(again(x))).max() > 1e-3


def test_a_layer_called_by_itself_augments():
    x = batch()[0]
    layer = layers.RandomErasing(1.0, seed=1)
    assert (to_numpy(layer(x)) != x).any()
    assert (to_numpy(layer(x, training=None)) == x).all()


# Mixers.


@pytest.mark.parametrize(
    "make",
    [layers.CutMix, lambda: layers.Pipeline([layers.RandomErasing(), layers.MixUp()])],
    ids=["mixer", "pipeline"],
)
def test_a_mixer_that_sees_images_alone_is_refused(make):
    """It would mix the images, and the labels would stay."""
    image = keras.Input((4, 4, 1))
    for data in (image, (image,), {"images": image}):
        with raises_received("labels=None"):
            make()(data)
    with raises_received("RegularizedModel"):
        keras.Sequential([keras.Input((4, 4, 1)), make(), keras.layers.Flatten()])
    with raises_received("RegularizedModel"):
        keras.Sequential([make()])(batch()[0])
    make()(image, training=False)
    assert (to_numpy(make()(batch()[0])) != batch()[0]).any()


def test_a_mixer_that_sees_labels_may_stand_in_a_model(tmp_path):
    images, labels = batch()[0], np.eye(3, dtype="float32")[batch()[1]]
    inputs = keras.Input((4, 4, 1)), keras.Input((3,))
    model = keras.Model(inputs, layers.CutMix(seed=1)(inputs))
    model.save(tmp_path / "mixer.keras")
    for each in (model, keras.saving.load_model(tmp_path / "mixer.keras")):
        assert (to_numpy(each((images, labels), training=True)[0]) != images).any()
        assert_close(list(each((images, labels))), [images, labels])
    masked = {"images": inputs[0], "segmentation_masks": keras.Input((4, 4, 1))}
    layers.CutMix()(masked)


# A Sequential in the place of a Pipeline.


def flip_and_mix():
    """As every user of Keras writes augmentation; MixUp behind a flip of both images and masks."""
    return [keras.layers.RandomFlip("horizontal", seed=1), layers.RandomErasing(0.5), layers.MixUp(1.0)]


SEQUENTIALS = {
    "flat": lambda: keras.Sequential(flip_and_mix()),
    "nested": lambda: keras.Sequential([keras.Sequential(flip_and_mix()[:2]), keras.Sequential(flip_and_mix()[2:])]),
    "built": lambda: [keras.Sequential([keras.Input((4, 4, 1)), *flip_and_mix()[:2]]), flip_and_mix()[2]],
}


@pytest.mark.parametrize("kind", SEQUENTIALS)
def test_a_sequential_is_taken_apart(kind):
    x, y = batch()
    labels = np.eye(3, dtype="float32")[y]
    expected = to_numpy(layers.Pipeline(flip_and_mix(), seed=3)(x, labels))
    for nested in (False, True):
        given = SEQUENTIALS[kind]()
        layer = layers.Pipeline([given] if nested and kind != "built" else given, seed=3)
        assert [type(part).__name__ for part in layer.layers] == ["RandomFlip", "RandomErasing", "MixUp"]
        assert_close(layer(x, labels), expected)
        again = layers.Pipeline.from_config(layer.get_config())
        assert_close(again(x, labels), expected)


def test_a_sequential_in_the_model_mixes_labels(tmp_path):
    x, y = batch()
    model = training.RegularizedModel(network(), SEQUENTIALS["nested"]())
    model.compile("sgd", CE(from_logits=True))
    _, mixture, _ = model.augment(x, y)
    assert len(mixture.labels) == 2 and (to_numpy(mixture.weights)[:, 0] < 1).any()
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert len(again.augment(x, y)[1].labels) == 2
    assert_close(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_sequential_is_one_part_of_a_choice():
    x, y = batch()
    labels = np.eye(3, dtype="float32")[y]
    parts = [keras.Sequential(flip_and_mix()), layers.RandomErasing(1.0)]
    choice = layers.RandomChoice(parts, probabilities=[1, 0], seed=2)
    assert isinstance(choice.layers[0], layers.Pipeline)
    assert ((to_numpy(choice(x, labels)[1]) % 1) > 0).any()
    one = keras.Sequential([layers.MixUp(0.5)])
    assert layers.RandomChoice([one, layers.CutMix()], mode="sample").fused
    apply = layers.RandomApply(keras.Sequential(flip_and_mix()), 1.0, seed=2)
    assert ((to_numpy(apply(x, labels)[1]) % 1) > 0).any()
    masks = np.arange(8 * 16).reshape(8, 4, 4, 1).astype("float32")
    flip = layers.RandomApply(keras.Sequential([keras.layers.RandomFlip("horizontal", seed=1)]), 1.0)
    moved = to_numpy(flip({"images": masks, "segmentation_masks": masks}))
    assert_close(moved["images"], moved["segmentation_masks"])


def test_a_mixer_that_cannot_be_taken_out_is_refused():
    inputs = keras.Input((4, 4, 1)), keras.Input((3,))
    functional = keras.Model(inputs, layers.CutMix()(inputs))
    for make in (layers.Pipeline, layers.RandomChoice, lambda x: layers.RandomApply(x[0])):
        for hidden in (functional, keras.Sequential([functional])):
            with raises_received("functional"):
                make([hidden])
    with raises_received("functional"):
        training.RegularizedModel(network(), functional)
    with raises_received("layers=[]"):
        training.RegularizedModel(network(), keras.Sequential([]))


@pytest.mark.parametrize(
    "layer",
    [
        layers.RandomGaussianNoise(0.1),
        layers.RandomErasing(1.0, kind="signal"),
        layers.RandomApply(layers.RandomGaussianNoise(0.1, kind="signal")),
        layers.Pipeline([layers.RandomErasing(0.5, kind="signal"), layers.RandomGaussianNoise(0.1, kind="signal")]),
        layers.DropPath(0.5),
    ],
)
def test_masks_of_steps_are_passed_on(layer):
    """An LSTM after the layer ignores the steps that an embedding masks."""
    tokens = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [5, 6, 7, 8, 9]], "int32")
    inputs = keras.Input((5,), dtype="int32")
    embedded = keras.layers.Embedding(10, 4, mask_zero=True)(inputs)
    after = layer(embedded)
    lstm = keras.layers.LSTM(3, return_sequences=True)
    network = keras.Model(inputs, lstm(after))
    assert_close(network(tokens, training=False), keras.Model(inputs, lstm(embedded))(tokens))
    states = to_numpy(network(tokens, training=True))
    assert (states[0, 2:] == states[0, 2]).all() and (states[1] == states[1, 0]).all()  # kept where a step is masked
