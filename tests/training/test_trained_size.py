"""Outside of training nothing is resized: images of another size than the trained one are refused."""

import keras
import numpy as np
import pytest
from harness import raises_received, to_numpy

from keras_reg import layers, training

IMAGES = np.random.default_rng(0).random((4, 12, 10, 3), "float32")
LABELS = np.arange(4, dtype="int32") % 3
FIXED = {
    "RandomResizedCrop": lambda: layers.RandomResizedCrop((6, 5), seed=1),
    "a pipeline": lambda: layers.Pipeline([layers.RandomErasing(), layers.RandomResizedCrop((6, 5)), layers.MixUp()]),
    "a crop by Keras": lambda: keras.layers.RandomCrop(6, 5, seed=1),
    "a resize by Keras": lambda: layers.Pipeline([keras.layers.Resizing(6, 5), layers.CutMix()]),
}


def model_with(augmentation):
    network = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    model = training.RegularizedModel(network, augmentation)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("name", FIXED)
def test_images_of_another_size_than_the_trained_one_are_refused(name):
    model = model_with(FIXED[name]())
    for call in (lambda: model.predict(IMAGES, verbose=0), lambda: model.evaluate(IMAGES, LABELS, verbose=0)):
        with raises_received("(None, 6, 5, 3)", "shape=(None, 12, 10, 3)", ".model"):
            call()
    found = model.predict(IMAGES[:, :6, :5], verbose=0)
    np.testing.assert_allclose(found, to_numpy(model.model(IMAGES[:, :6, :5])), rtol=1e-5, atol=1e-6)


def test_they_are_refused_in_every_form_and_nothing_is_lost():
    """A data set, a model of named inputs, validation in `fit`: before anything runs, and the weights stay."""
    import tensorflow as tf

    model = model_with(FIXED["RandomResizedCrop"]())
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0)
    before = model.get_weights()
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2)
    for call in (
        lambda: model.predict(dataset, verbose=0),
        lambda: model.evaluate(dataset, verbose=0),
        lambda: model.fit(IMAGES, LABELS, batch_size=4, validation_data=dataset, verbose=0),
    ):
        with raises_received("(None, 6, 5, 3)", ".model"):
            call()
    assert all(np.isfinite(after).all() for after in model.get_weights())
    assert [after.shape for after in model.get_weights()] == [weight.shape for weight in before]


@pytest.mark.parametrize(
    "make", [lambda: layers.RandomPadCrop(2), lambda: layers.Pipeline([keras.layers.UpSampling2D(2)])]
)
def test_augmentation_without_a_fixed_size_takes_any(make):
    model = model_with(make())
    model.fit(IMAGES, LABELS, batch_size=2, verbose=0)
    assert model.predict(IMAGES[:, :6], verbose=0).shape == (4, 3)
