"""The settings of `effects.py`: data, networks and what is measured on the trained networks."""

import dataclasses
from collections.abc import Callable

import digits
import effects_networks as networks
import example_data
import keras
import numpy as np


@dataclasses.dataclass(frozen=True)
class Setting:
    """Data, network and training. The learning rate is chosen from `rates` for the network without a method."""

    title: str
    network: Callable
    labeled: int
    epochs: int
    batch: int = 32
    rates: tuple = (1e-3, 3e-3)
    cosine: bool = True
    colors: bool = False

    @property
    def tested(self):
        """The number of test images."""
        return 2000 if self.colors else 1797 - self.labeled


FEW, COLORS, LARGE = "few labels", "colored images", "one large batch"
DEEP, NORMALIZED, POOLED, DENSE, SMALL = "deep", "normalized", "pooled", "dense", "small batches"
SETTINGS = {
    FEW: Setting(
        "100 labeled digits with the network of A first model", digits.network, 100, 100, rates=(1e-3, 3e-3, 1e-2),
    ),
    COLORS: Setting(
        "500 labeled images of CIFAR-10, reduced to 16x16 pixels", digits.network, 500, 12, colors=True,
    ),
    DEEP: Setting("200 labeled digits with a residual network of 26 layers", networks.residual, 200, 30),
    NORMALIZED: Setting(
        "200 labeled digits with a network that has batch normalization", networks.convolutional, 200, 50,
        rates=(1e-3, 3e-3, 1e-2),
    ),
    LARGE: Setting(
        "200 labeled digits in one batch, with a network that has batch normalization", networks.convolutional, 200,
        epochs=100, batch=200, rates=(3e-3, 1e-2, 3e-2),
    ),
    POOLED: Setting("200 labeled digits with a network of four convolutions", networks.pooled, 200, 50),
    DENSE: Setting(
        "200 labeled digits with a dense network", networks.dense, 200, 60, rates=(3e-4, 1e-3, 3e-3),
    ),
    SMALL: Setting(
        "200 labeled digits in batches of 8, with the network of A first model", digits.network, 200, 40,
        batch=8, rates=(1e-3, 3e-3), cosine=False,
    ),
}  # fmt: skip
MEASURES = {
    "test": "test accuracy",
    "shifted": "accuracy on test images shifted by one pixel",
    "occluded": "accuracy on test images with a hidden box of 3x3 pixels",
    "relit": "accuracy on test images in another light",
    "perturbed": "test accuracy with noise of half a standard deviation on each kernel",
    "worst": "the lowest test accuracy of the last ten epochs",
}


# Data and measures.


def data_of(setting, seed, source=None):
    """The images of a split. Splits from seed 10 on, which only choose, have other colored test images."""
    if not setting.colors:
        return digits.load(setting.labeled, seed)
    found = example_data.load(source, setting.labeled, seed)
    part = slice(2000, 4000) if seed >= 10 else slice(0, 2000)
    x_train, x_test = (smaller(x) for x in (found.x_train, found.x_val[part]))
    return digits.Digits(x_train, found.y_train, x_test, found.y_val[part], found.y_train)


def smaller(images):
    """Images of half the size."""
    n, height, width, channels = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def relit(images, seed=0):
    """The images under another light for each of them: darker or brighter, warmer or cooler."""
    random = np.random.default_rng(seed)
    brightness, warmth = random.uniform(0.6, 1.4, len(images)), random.uniform(-0.3, 0.3, len(images))
    light = brightness[:, None] * np.stack([1 + warmth, np.ones_like(warmth), 1 - warmth], -1)
    return np.clip(images * light[:, None, None], 0, 1).astype("float32")


def perturbed(network, share=0.5, draws=10):
    """Adds normal noise to each kernel, `share` of its standard deviation, for each draw."""
    random = np.random.default_rng(0)
    kernels = [weight for weight in network.trainable_weights if weight.path.endswith("kernel")]
    stored = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
    for _ in range(draws):
        for kernel, values in zip(kernels, stored, strict=True):
            kernel.assign(values + random.normal(0, share * values.std(), values.shape))
        yield network
