"""Small backbones for the tests of transfer."""

import keras
import numpy as np
from keras import layers


def convolutions(x, name, filters=4):
    # A dense layer on maps is a convolution of one pixel, and compiles in a fraction of the time.
    x = layers.Dense(filters, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def flat_backbone(shape=(8, 8, 3), pooling=True):
    """Three convolutions with batch normalization, one of them on a skip connection."""
    inputs = keras.Input(shape)
    x = convolutions(inputs, "block1")
    y = convolutions(x, "block2")
    x = layers.Add(name="block2_add")([x, y])
    x = layers.MaxPooling2D(name="block2_pool")(x)
    x = convolutions(x, "block3", 6)
    if pooling:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, x, name="flat")


@keras.saving.register_keras_serializable(package="tests_transfer")
class Block(layers.Layer):
    """Holds its layers as attributes and in a list, and a weight of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units, name="first")
        self.others = [layers.BatchNormalization(name="bn"), layers.Dense(units, name="second")]

    def build(self, shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")
        self.first.build(shape)
        for layer in self.others:
            layer.build((*shape[:-1], self.units))

    def call(self, x, training=None):
        x = self.others[0](self.first(x), training=training)
        return self.others[1](x) * self.scale

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def nested_backbone():
    """Models in models, a wrapper, and layers inside of a layer."""
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, name="dense"), layers.BatchNormalization(name="bn")], name="inner"
    )
    inputs = keras.Input((3, 5))
    x = layers.TimeDistributed(layers.Dense(6, name="timed"), name="wrapper")(inputs)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(6, name="stem")(x)
    x = inner(x)
    x = Block(4, name="block")(x)
    return keras.Model(inputs, x, name="outer")


def images(count=12, shape=(8, 8, 3), classes=3, seed=0):
    """Images 0 to 255 as integers, and labels that can be learnt from them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 200, (count, *shape))
    pixels[..., 0] += 20 * labels[:, None, None]
    return pixels.astype("uint8"), labels.astype("int32")
