import keras
import numpy as np
import pytest
from harness import raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import stats

from keras_reg.layers import LabelNoise, MixUp, Pipeline, RandomApply
from keras_reg.training import RegularizedModel

COUNT, CLASSES = 20_000, 5


def blank(count):
    return np.zeros((count, 1, 1, 1), "float32")


@pytest.mark.parametrize("rate", [0.1, 0.6, 1.0])
def test_labels_are_redrawn_uniformly_with_probability_rate(rate):
    """The true class can come again, so rate * 4 / 5 of the labels change, to each other class alike."""
    labels = np.full(COUNT, 2, "int64")
    images, found = augment(LabelNoise(rate, CLASSES, seed=1), blank(COUNT), labels)
    counts = np.bincount(found, minlength=CLASSES)
    share = rate / CLASSES
    expected = COUNT * np.where(np.arange(CLASSES) == 2, 1 - rate + share, share)
    assert stats.chisquare(counts, expected).pvalue > LEAST_P
    assert_same_bits(images, blank(COUNT))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_ids_keep_shape_and_dtype(shape, dtype):
    labels = np.arange(6, dtype=dtype).reshape(shape) % CLASSES
    found = to_numpy(LabelNoise(1.0, CLASSES, seed=2)(blank(6), labels)[1])
    assert found.shape == shape and found.max() < CLASSES
    assert found.dtype == dtype or (dtype == "int64" and found.dtype == "int32")  # JAX has no int64


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_one_hot_and_soft_labels_become_one_hot_where_they_are_redrawn(dtype):
    labels = np.tile(np.array([[7, 2, 1]], dtype), (4000, 1))
    if dtype == "float32":
        labels = labels / 10
    found = augment(LabelNoise(0.5, seed=3), blank(4000), labels)[1]
    kept = (found == labels).all(axis=1)
    assert stats.binomtest(int(kept.sum()), 4000, 0.5).pvalue > LEAST_P
    redrawn = found[~kept]
    assert (redrawn.sum(axis=1) == 1).all() and set(np.unique(redrawn)) == {0, 1}
    assert stats.chisquare(redrawn.sum(axis=0)).pvalue > LEAST_P
    assert found.dtype == dtype


def test_the_draw_is_independent_of_the_label():
    labels = np.arange(COUNT) % CLASSES
    found = augment(LabelNoise(1.0, CLASSES, seed=4), blank(COUNT), labels)[1]
    table = np.zeros((CLASSES, CLASSES))
    np.add.at(table, (labels, found), 1)
    assert stats.chi2_contingency(table).pvalue > LEAST_P


def identity():
    """A network whose logits are its input."""
    dense = keras.layers.Dense(CLASSES, use_bias=False, kernel_initializer=keras.initializers.Identity())
    return keras.Sequential([keras.Input((1, CLASSES, 1)), keras.layers.Flatten(), dense])


def test_in_training_the_loss_sees_the_noise_and_the_metrics_do_not():
    """A network that knows every label: accuracy is 1 while the loss shows that all labels were redrawn."""
    labels = np.arange(512) % CLASSES
    images = np.eye(CLASSES, dtype="float32")[labels].reshape(512, 1, CLASSES, 1)
    model = RegularizedModel(identity(), LabelNoise(1.0, CLASSES, seed=5))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert float(logs["accuracy"]) == 1.0
    # log(e + 4) - 1 / 5 in expectation; its deviation over 512 labels is 0.018.
    np.testing.assert_allclose(float(logs["loss"]), np.log(np.e + 4) - 1 / 5, atol=0.07)


def test_noise_before_a_mixer_leaves_the_metrics_the_class_that_weighs_most():
    labels = np.arange(512) % CLASSES
    images = np.eye(CLASSES, dtype="float32")[labels].reshape(512, 1, CLASSES, 1)
    model = RegularizedModel(identity(), Pipeline([LabelNoise(1.0, CLASSES), MixUp(1.0)], seed=5))
    x, y, _ = model.augment(images, labels)
    np.testing.assert_array_equal(to_numpy(y.dominant), to_numpy(x).reshape(512, CLASSES).argmax(axis=1))
    assert 0.1 < (to_numpy(y.labels[0]) == labels).mean() < 0.3  # the terms hold redrawn labels


def test_bad_labels():
    layer = LabelNoise(0.5, CLASSES)
    with raises_received("images without labels"):
        layer(blank(2))
    for labels, named in (
        (np.array([0, CLASSES]), "most=5"),
        (np.array([-1, 0]), "least=-1"),
        (np.zeros(2, "float32"), "dtype"),
        (np.zeros((2, CLASSES + 1), "float32"), "shape"),
        (np.zeros((2, 1, 1, 2), "int32"), "shape"),
    ):
        with raises_received(named):
            layer(blank(2), labels)
    with raises_received("num_classes=None"):
        LabelNoise(0.5)(blank(2), np.array([0, 1]))


@pytest.mark.parametrize("form", [dict, list])
def test_several_outputs_are_redrawn_independently(form):
    """Each label is redrawn with probability `rate`, to a class of its own."""
    count, classes, rate = 20_000, 4, 0.5
    names = ["b", "a", "c"] if form is dict else [0, 1, 2]
    labels = np.zeros(count, "int32")
    given = dict.fromkeys(names, labels) if form is dict else [labels] * 3
    layer = LabelNoise(rate, num_classes=classes, noisy_output=[names[1], names[0]], seed=0)
    noisy = to_numpy(layer(np.zeros((count, 2), "float32"), given)[1])
    first, second, third = (noisy[name] for name in names)
    np.testing.assert_array_equal(third, labels)
    table = np.array([[(first == a) & (second == b) for b in range(classes)] for a in range(classes)]).sum(-1)
    of_one = np.full(classes, rate / classes) + np.eye(classes)[0] * (1 - rate)
    assert stats.chisquare(table.ravel(), np.outer(of_one, of_one).ravel() * count).pvalue > LEAST_P


def test_several_outputs_in_a_choice():
    """A sample that another layer does not select keeps all of its labels."""
    labels = {"a": np.zeros(1000, "int32"), "b": np.zeros(1000, "int32")}
    noise = LabelNoise(1.0, num_classes=1000, noisy_output=["a", "b"])
    noisy = to_numpy(RandomApply(noise, rate=0.3, seed=1)(np.zeros((1000, 4, 4, 1), "float32"), labels)[1])
    assert ((noisy["a"] > 0) != (noisy["b"] > 0)).sum() < 10  # class 0 may be drawn, too
    assert 200 < (noisy["a"] > 0).sum() < 400 and (noisy["a"] != noisy["b"]).sum() > 200


def test_several_outputs_in_a_training_step():
    """Metrics use the labels without noise, and both outputs learn from labels that are redrawn."""
    inputs = keras.Input((4,))
    outputs = {name: keras.layers.Dense(3, name=name)(inputs) for name in ("a", "b")}
    noise = LabelNoise(1.0, num_classes=3, noisy_output=["a", "b"], seed=0)
    model = RegularizedModel(keras.Model(inputs, outputs), noise)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), {name: loss for name in outputs}, metrics={"a": ["acc"], "b": ["acc"]})
    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype("float32"), np.zeros(60, "int32")
    model.model.set_weights([np.zeros((4, 3)), np.array([9.0, 0.0, 0.0])] * 2)
    logs = model.fit(x, {"a": y, "b": y}, batch_size=60, verbose=0).history
    # A label other than 0 costs 9. Two thirds are others, and not the same ones in both outputs.
    assert logs["a_acc"] == logs["b_acc"] == [1.0]
    assert 4 < logs["a_loss"][0] < 8 and 4 < logs["b_loss"][0] < 8
