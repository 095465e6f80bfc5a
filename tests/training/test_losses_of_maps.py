"""Losses with one number per pixel: their weights, their masks, and their axis of classes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_reg

BATCH, SIZE, CLASSES, VOID = 5, 5, 3, 255  # as many samples as columns, so weights could be taken for those of columns


def keras_loss(reduction):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID, reduction=reduction)


def our_loss(reduction, axis=-1):
    return keras_reg.losses.LabelSmoothingCrossentropy(
        0.0, from_logits=True, ignore_class=VOID, axis=axis, reduction=reduction
    )


def scenes():
    """Returns logits, maps of class ids with a different number of void pixels each, and weights of the samples."""
    rng = np.random.default_rng(0)
    maps = rng.integers(0, CLASSES, (BATCH, SIZE, SIZE)).astype("int32")
    for sample, own in enumerate(maps):
        own[:sample] = VOID
    logits = rng.normal(size=(BATCH, SIZE, SIZE, CLASSES)).astype("float32")
    return logits, maps, np.arange(1.0, BATCH + 1).astype("float32")


def crossentropies(logits, maps):
    """Returns the losses of all pixels, 0 where they are void, and which are not, by NumPy."""
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counted = maps != VOID
    losses = -np.take_along_axis(logs, np.where(counted, maps, 0)[..., None], -1)[..., 0]
    return losses * counted, counted


def of_identity(loss, augmentation=None):
    """Returns a compiled model whose outputs are its inputs."""
    inputs = keras.Input((SIZE, SIZE, CLASSES))
    network = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model = keras_reg.training.RegularizedModel(network, augmentation)
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("ignore_class", [None, VOID])
def test_weights_of_samples_weight_all_of_their_pixels(ignore_class):
    logits, maps, weights = scenes()
    maps = maps if ignore_class else maps % CLASSES
    loss = keras_reg.losses.LabelSmoothingCrossentropy(0.0, from_logits=True, ignore_class=ignore_class)
    losses, counted = crossentropies(logits, maps)
    expected = (losses * weights[:, None, None]).sum() / counted.sum()
    assert np.allclose(loss(maps, logits, sample_weight=weights), expected, rtol=1e-5)
    longer = loss(maps[:3], logits[:3], sample_weight=weights[:3])  # fewer samples than columns
    assert np.allclose(longer, (losses * weights[:, None, None])[:3].sum() / counted[:3].sum(), rtol=1e-5)


@pytest.mark.parametrize("make_loss", [keras_loss, our_loss])
@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
def test_a_model_weights_all_pixels_of_a_sample_and_keeps_the_weights(make_loss, reduction):
    logits, maps, weights = scenes()
    model = of_identity(make_loss(reduction))
    losses, counted = crossentropies(logits, maps)
    of_pixels = weights[:, None, None] * counted
    total = (losses * of_pixels).sum()
    expected = total / {"sum": 1, "sum_over_batch_size": counted.sum()}.get(reduction, of_pixels.sum())
    given = ops.convert_to_tensor(weights)
    for _ in range(2):  # the second time with what the first has left
        found = model.compute_loss(logits, ops.convert_to_tensor(maps), ops.convert_to_tensor(logits), given)
        assert np.allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)
    assert np.array_equal(ops.convert_to_numpy(given), np.arange(1.0, BATCH + 1))


@pytest.mark.parametrize("make_loss", [keras_loss, our_loss])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_over_weights_of_mixed_maps_leaves_out_ignored_pixels(make_loss, weighted):
    logits, maps, weights = scenes()
    augmentation = keras_reg.layers.MixUp(1.0, seed=0)
    model = of_identity(make_loss("mean_with_sample_weight"), augmentation)
    x, y, of_samples = model.augment(logits, maps, weights if weighted else None)
    found = ops.convert_to_numpy(model.compute_loss(x, y, x, of_samples))
    of_samples = ops.convert_to_numpy(of_samples) if weighted else np.ones(BATCH)
    total = count = 0.0
    for term, labels in enumerate(y.labels):
        losses, counted = crossentropies(ops.convert_to_numpy(x), ops.convert_to_numpy(labels))
        share = (of_samples * ops.convert_to_numpy(y.weights)[:, term])[:, None, None] * counted
        total, count = total + (losses * share).sum(), count + share.sum()
    assert len(y.labels) == 2
    assert np.allclose(found, total / count, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_classes_on_another_axis_than_the_last(weighted):
    """The loss of a mixed batch is the same in both layouts."""
    logits, maps, weights = scenes()
    weights = weights if weighted else None
    found = []
    for axis in (-1, 1):
        model = of_identity(our_loss("sum_over_batch_size", axis), keras_reg.layers.MixUp(1.0, seed=0))
        x, y, of_samples = model.augment(logits, maps, weights)
        outputs = ops.moveaxis(x, -1, axis)[:, :, 1:]  # maps that are not square
        y = y._replace(labels=tuple(labels[:, 1:] for labels in y.labels), dominant=y.dominant[:, 1:])
        outputs = outputs if axis == 1 else x[:, 1:]
        found.append(ops.convert_to_numpy(model.compute_loss(x, y, outputs, of_samples)))
    assert np.allclose(*found, rtol=1e-5)
