"""A subclass of an augmentation that has weights: it is built as any layer, wherever it runs."""

import keras
import numpy as np
import pytest
from harness import map_in_tf_data, to_numpy

from keras_reg.layers import BatchAugmentation, Pipeline, RandomChoice, RandomErasing, RandomResizedCrop
from keras_reg.training import RegularizedModel

IMAGES = np.ones((4, 8, 6, 3), "float32")


@keras.saving.register_keras_serializable("tests")
class Gain(BatchAugmentation):
    """Multiplies each channel with a weight."""

    moves_pixels = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.shapes = []

    def build(self, input_shape):
        self.shapes.append(tuple(input_shape))
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain", trainable=False)

    def transform_images(self, images, transformation, batch):
        return images * self.gain


def doubled(layer):
    layer.gain.assign(2 * np.ones(3))
    return layer


def test_build_is_called_once_before_the_first_call():
    layer = Gain()
    assert not layer.built
    for _ in range(2):
        np.testing.assert_array_equal(to_numpy(layer(IMAGES)), IMAGES)
    assert layer.built and layer.shapes == [(4, 8, 6, 3)] and len(layer.weights) == 1
    np.testing.assert_array_equal(to_numpy(doubled(layer)((IMAGES, np.ones(4)))[0]), 2 * IMAGES)


def test_one_image_builds_for_batches():
    layer = Gain()
    layer(IMAGES[0])
    assert layer.shapes == [(None, 8, 6, 3)]


def test_layers_of_layers_build_theirs_for_what_reaches_them():
    inner = Gain()
    layer = Pipeline([RandomResizedCrop((5, 4)), RandomChoice([inner])])
    assert layer(keras.Input((8, 6, 3))).shape == (None, 5, 4, 3)
    assert inner.shapes == [(None, 5, 4, 3)]
    np.testing.assert_allclose(to_numpy(doubled(inner) and layer(IMAGES)), 2.0, rtol=1e-6)


def test_a_tf_data_map_builds():
    layer = Gain()
    (images,) = map_in_tf_data(Pipeline([layer]), IMAGES, 4)
    np.testing.assert_array_equal(images, IMAGES)
    assert layer.built


def test_the_weights_come_back_from_a_file(tmp_path):
    layer = Gain()
    model = keras.Sequential([keras.Input((8, 6, 3)), Pipeline([layer], name="pipeline")])
    doubled(layer)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(again(IMAGES, training=True)), 2 * IMAGES)


def test_layers_without_weights_are_built_from_the_start():
    assert RandomErasing().built and Pipeline([RandomErasing()]).built


def test_a_model_that_trains_with_it_builds_and_saves_it(tmp_path):
    """Labels and outputs are the sums of pixels, which the gain doubles: the loss says what the network has seen."""
    net = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    net.layers[-1].set_weights([np.ones((144, 1)), np.zeros(1)])
    model = RegularizedModel(net, Pipeline([Gain()]))
    model.compile(keras.optimizers.SGD(0.0), "mae")
    y = np.full((4, 1), 144.0)
    assert model.fit(IMAGES, y, verbose=0).history["loss"] == [0.0]
    doubled(model.augmentation.layers[0])
    assert model.fit(IMAGES, y, verbose=0).history["loss"] == [144.0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.fit(IMAGES, y, verbose=0).history["loss"] == [144.0]


MANY = np.ones((8, 64, 48, 3), "float32")  # enough pixels to be worth a program


def test_a_program_does_not_keep_the_weights_as_they_were():
    for layer, whole in ((gain := Gain(), gain), (gain := Gain(), Pipeline([gain]))):
        np.testing.assert_array_equal(to_numpy(whole(MANY)), MANY)
        doubled(layer)
        np.testing.assert_array_equal(to_numpy(whole(MANY)), 2 * MANY)


class Factor(BatchAugmentation):
    """Multiplies pixels with an attribute that has a name for internal use."""

    moves_pixels = False

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self._factor = factor

    def transform_images(self, images, transformation, batch):
        return images * self._factor


def test_a_program_does_not_keep_attributes_as_they_were():
    layer = Factor(2.0)
    np.testing.assert_array_equal(to_numpy(layer(MANY)), 2 * MANY)
    layer._factor = 3.0
    np.testing.assert_array_equal(to_numpy(layer(MANY)), 3 * MANY)


class Noisy(Factor):
    """Has a layer of Keras that draws."""

    def __init__(self, **kwargs):
        super().__init__(1.0, **kwargs)
        self.noise = keras.layers.GaussianNoise(1.0, seed=0)

    def transform_images(self, images, transformation, batch):
        return self.noise(images, training=True)


def test_a_program_does_not_keep_the_seeds_of_layers_in_it():
    layer = Noisy()
    first, second = (to_numpy(layer(MANY)) for _ in range(2))
    assert not np.any(first == second)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of TensorFlow, about the weight of the augmentation
def test_a_weight_that_could_be_trained_is_there_in_the_training_step():
    class Trainable(Factor):
        def build(self, input_shape):
            self.gain = self.add_weight(shape=(), initializer=keras.initializers.Constant(3.0), name="gain")

        def transform_images(self, images, transformation, batch):
            return images * keras.ops.cast(self.gain, images.dtype)

    net = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    net.layers[-1].set_weights([np.ones((144, 1)), np.zeros(1)])
    model = RegularizedModel(net, Trainable(1.0))
    model.compile(keras.optimizers.SGD(0.0), "mae")
    assert model.fit(IMAGES, np.zeros((4, 1)), verbose=0).history["loss"] == [3 * 144.0]
