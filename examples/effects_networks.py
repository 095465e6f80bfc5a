"""The networks of `effects.py` besides that of `digits.py`: each of them has the parts that a method changes."""

import keras

from keras_reg.layers import DropPath, FractionalMaxPooling2D, drop_path_rates


def convolutional(shape, classes, normalization=keras.layers.BatchNormalization, dropped=None):
    """Four normalized convolutions, with `dropped()` after each pair of them."""
    layers = [keras.Input(shape)]
    for filters in (16, 32):
        for _ in range(2):
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
            layers += [normalization(momentum=0.9), keras.layers.ReLU()]
        layers += [dropped()] if dropped else []
        layers += [keras.layers.MaxPooling2D()] if filters == 16 else []
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)])


def residual(shape, classes, rate=0.0, depth=12):
    """A residual network of 2 * depth + 2 layers on maps of half the size, with a drop path on each branch."""

    def normalized(x):
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
        return keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(x)

    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(16, 3, padding="same", strides=2)(inputs)
    for probability in drop_path_rates(rate, depth):
        branch = normalized(normalized(x))
        x = keras.layers.Add()([x, DropPath(probability)(branch) if rate else branch])
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(x)))


def pooled(shape, classes, ratio=None, **options):
    """Four convolutions of growing width, as in Graham's networks.

    Without a ratio, each pair of them is followed by pooling by two, as usual. With a ratio, each is followed by
    fractional pooling.
    """
    layers = [keras.Input(shape)]
    for number in range(1, 5):
        layers.append(keras.layers.Conv2D(24 * number, 3, padding="same", kernel_initializer="he_normal"))
        layers.append(keras.layers.LeakyReLU(negative_slope=0.1))
        if ratio:
            layers.append(FractionalMaxPooling2D(ratio, **options))
        elif number % 2 == 0:
            layers.append(keras.layers.MaxPooling2D())
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)])


def dense(shape, classes, wrap=lambda layer: layer):
    layers = [keras.Input(shape), keras.layers.Flatten()]
    layers += [wrap(keras.layers.Dense(256, activation="relu")) for _ in range(2)]
    return keras.Sequential([*layers, wrap(keras.layers.Dense(classes))])
