"""A subclass of an augmentation that has weights: it is built as any layer, wherever it runs."""

import keras
import numpy as np
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
        return images * (self.gain.value if batch.ops is keras.ops else keras.ops.convert_to_numpy(self.gain))


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
