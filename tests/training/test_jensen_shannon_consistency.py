"""JensenShannonConsistency: the term and its gradient against SciPy, and the copies that it compares."""

import contextlib

import keras
import numpy as np
import pytest
from harness import assert_close, raises_received, to_numpy
from scipy import stats

import keras_reg
from keras_reg import layers, training

X = np.random.default_rng(0).normal(size=(6, 2, 3, 1)).astype("float32")
Y = np.arange(6) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable(package="tests")
class Adds(layers.BatchAugmentation):
    """Adds 1 to the first row of each image, so that two copies are equal."""

    moves_pixels = False

    def transform_images(self, images, transformation, batch):
        return images + batch.ops.convert_to_tensor(np.eye(2, dtype="float32")[:1, :, None, None])


def linear(units, activation=None):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(units, activation)])


def deep(seed=1):
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.Dense(8, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=seed)]
    return keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Flatten(), *hidden, keras.layers.Dense(3)])


def compiled(network, copies, loss=LOSS, rate=1.0, eagerly=False, weight=1.0, **parts):
    penalty = training.JensenShannonConsistency(copies, weight, name="js")
    model = training.RegularizedModel(network, penalties=[penalty], **parts)
    model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=eagerly)
    return model


def bernoulli(z):
    p = 1 / (1 + np.exp(-z))
    return np.stack([p, 1 - p], axis=-1)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True))[:, None]


def reference(kernel, bias, distribution):
    """The entropy of the mean less the mean entropy, of the distributions for the images and two copies of them."""
    copies = X.astype("float64")
    copies = copies + np.eye(2)[:1, :, None, None]
    p, q = (distribution(x.reshape(6, -1) @ kernel + bias) for x in (X.astype("float64"), copies))
    mixture = (p + 2 * q) / 3
    entropies = [stats.entropy(x, axis=-1) for x in (mixture, p, q)]
    return (entropies[0] - (entropies[1] + 2 * entropies[2]) / 3).sum(-1).mean()


@pytest.mark.parametrize(
    ("units", "activation", "distribution"), [(3, None, softmax), (3, "softmax", softmax), (2, "sigmoid", bernoulli)]
)
def test_the_term_and_its_gradient_are_those_of_the_paper(units, activation, distribution):
    """The gradient goes through all three outputs. Labels of sample weight 0 leave only the term in the loss."""
    made = linear(units, activation)
    kernel, bias = (np.array(to_numpy(weight), "float64") for weight in made.weights)
    loss = LOSS if activation is None else "sparse_categorical_crossentropy"
    loss, y = ("binary_crossentropy", np.eye(3)[Y][:, :2]) if activation == "sigmoid" else (loss, Y)
    model = compiled(made, Adds(), loss, weight=keras_reg.Strength(12.0))
    logs = model.train_on_batch(X, y, sample_weight=np.zeros(6), return_dict=True)
    assert_close(logs["js"], reference(kernel, bias, distribution), rtol=1e-4)
    assert_close(logs["loss"], 12 * logs["js"], rtol=1e-5)
    steps = 1e-5 * np.eye(units)
    slope = [(reference(kernel, bias + h, distribution) - reference(kernel, bias - h, distribution)) for h in steps]
    assert_close(to_numpy(made.weights[1]), bias - 12 * np.array(slope) / 2e-5, atol=1e-5)


def test_probabilities_of_0_and_1():
    """Certain of the first class for the images, and of the second one for the copies. All numbers are finite."""
    made = linear(2)
    made.set_weights([np.tile([[-1e4, 1e4]], (6, 1)), np.zeros(2)])
    model = compiled(made, Adds(), rate=1e-3)
    x = np.full((6, 2, 3, 1), -0.1, "float32")
    assert_close(
        model.train_on_batch(x, np.zeros(6, "int32"), return_dict=True)["js"], stats.entropy([1, 2]), rtol=1e-5
    )
    assert all(np.isfinite(to_numpy(weight)).all() for weight in made.weights)


def test_equal_images_have_equal_outputs():
    """With the dropout masks and the batch statistics of the first pass, which sees what the model's augmentation made.

    Variables are those of a step without the penalty.
    """
    plain, made = deep(), deep()
    other = training.RegularizedModel(plain, Adds())
    other.compile(keras.optimizers.SGD(0.0), LOSS)
    model = compiled(made, layers.RandomGaussianNoise(0.5, rate=keras_reg.Strength(0.0)), rate=0.0, augmentation=Adds())
    other.train_on_batch(X, Y)
    assert abs(model.train_on_batch(X, Y, return_dict=True)["js"]) < 1e-6
    for a, b in zip(plain.variables, made.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


class Observer(keras.layers.Layer):
    """Keeps what it has seen in an eager step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, inputs):
        with contextlib.suppress(Exception):  # a symbol has no values
            self.seen.append(np.array(to_numpy(inputs)))
        return inputs


def test_copies_are_drawn_anew_for_each_loss():
    observer = Observer()
    made = keras.Sequential([keras.Input(X.shape[1:]), observer, keras.layers.Flatten(), keras.layers.Dense(3)])
    model = compiled(made, layers.RandomGaussianNoise(0.5, rate=1.0, seed=1))
    y_pred = model(X, training=True)
    observer.seen.clear()
    for _ in range(2):
        model.compute_loss(X, Y, y_pred)
    draws = [x - X for x in observer.seen]
    assert len(draws) == 4 and all(0.2 < draw.std() < 1 for draw in draws)
    assert all(abs(a - b).max() > 0.1 for i, a in enumerate(draws) for b in draws[:i])


def test_both_gradients_of_a_sharpness_aware_step_are_those_of_the_same_copies():
    """So a step whose other weights are next to these is the plain step. Other copies would give other gradients."""
    found = []
    for sharpness in (None, training.SharpnessAware(1e-6)):
        made = linear(3)
        model = compiled(made, layers.RandomGaussianNoise(1.0, rate=1.0, seed=1), weight=12.0, sharpness=sharpness)
        for _ in range(2):
            model.train_on_batch(X, Y)
        found.append([np.array(to_numpy(weight)) for weight in made.weights])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, atol=1e-4)


def test_the_augmented_input_is_changed():
    inputs, observer = {name: keras.Input(X.shape[1:], name=name) for name in "ab"}, Observer()
    both = observer(keras.layers.Concatenate()([inputs["a"], inputs["b"]]))
    made = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(both)))
    x = {"a": X, "b": -X}
    for name, changed in (("b", (False, True)), (None, (True, True))):  # noise is for inputs of any number
        model = compiled(made, layers.RandomGaussianNoise(0.5, rate=1.0), augmented_input=name)
        y_pred = model(x, training=True)
        observer.seen.clear()
        model.compute_loss(x, Y, y_pred)
        for copy in observer.seen:
            assert tuple((copy[..., i] != sign * X[..., 0]).any() for i, sign in ((0, 1), (1, -1))) == changed
    with raises_received("`augmented_input`", "inputs="):
        compiled(made, Adds()).train_on_batch(x, Y)


def test_outputs_of_pixels_are_compared_if_pixels_stay():
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((2, 3, 3)), keras.layers.Conv2D(3, 1)])
    x, y = np.tile(X, (1, 1, 1, 3)), np.zeros((6, 2, 3), "int32")
    y_pred = made(x)
    added, plain = (float(to_numpy(of(x, y, y_pred))) for of in losses_of(compiled(made, Adds())))
    assert added > plain + 1e-3
    with raises_received("must not move pixels", "outputs="):
        compiled(made, layers.RandomFlip()).compute_loss(x, y, y_pred)
    moving = {True: layers.AugMix(), False: layers.AugMix(operations=["brightness", "equalize"])}
    for moves, policy in moving.items():
        assert policy.moves_pixels == moves
    symbols = {"images": keras.Input((2, 3, 3), dtype="uint8"), "segmentation_masks": keras.Input((2, 3))}
    assert moving[False](symbols)["segmentation_masks"].shape == (None, 2, 3)


def losses_of(model):
    return model.compute_loss, model.compute_plain_loss


def test_what_is_refused():
    with raises_received("must not mix samples", "augmentation="):
        training.JensenShannonConsistency(layers.Pipeline([layers.MixUp()]))
    with raises_received("`from_logits`", "loss="):
        compiled(linear(3), Adds(), "mse").train_on_batch(X, np.zeros((6, 3)))
    with raises_received("Expected labels"):
        compiled(linear(3), layers.LabelNoise(0.5, 3)).train_on_batch(X, Y)
