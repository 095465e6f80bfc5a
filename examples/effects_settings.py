"""The settings of `effects.py`: data, networks and what is measured on the trained networks."""

import dataclasses
from collections.abc import Callable

import digits
import effects_images
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
    wrong: float = 0.0  # the share of wrong labels
    unlabeled: int = 0
    changes: dict = dataclasses.field(default_factory=dict)  # functions that change the test images, by measure

    @property
    def tested(self):
        """The number of test images."""
        return 2000 if self.colors else 1797 - self.labeled - self.unlabeled


FEW, COLORS, LARGE = "few labels", "colored images", "one large batch"
DEEP, NORMALIZED, POOLED, DENSE, SMALL = "deep", "normalized", "pooled", "dense", "small batches"
WRONG, SEMI = "wrong labels", "unlabeled images"
TURNED, PHOTOS = "turned digits", "photographs"
SETTINGS = {
    FEW: Setting(
        '100 labeled digits with the network of "A first model"', digits.network, 100, 100, rates=(1e-3, 3e-3, 1e-2),
        changes={"shifted": digits.shifted, "occluded": digits.occluded},
    ),
    COLORS: Setting(
        "500 labeled images of CIFAR-10, reduced to 16x16 pixels", digits.network, 500, 12, colors=True,
        changes={"relit": effects_images.relit},
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
        '200 labeled digits in batches of 8, with the network of "A first model"', digits.network, 200, 40,
        batch=8, rates=(1e-3, 3e-3), cosine=False,
    ),
    WRONG: Setting(
        '400 digits, 40 % of them with wrong labels, with the network of "A first model"', digits.network, 400, 50,
        rates=(1e-4, 3e-4, 1e-3, 3e-3), wrong=0.4,
    ),
    SEMI: Setting(
        '50 labeled and 1000 unlabeled digits with the network of "A first model"', digits.network, 50, 30, batch=64,
        unlabeled=1000,
    ),
    TURNED: Setting(
        '200 labeled digits with the network of "A first model"', digits.network, 200, 60,
        changes={"turned": effects_images.turned},
    ),
    PHOTOS: Setting(
        "1000 labeled images of CIFAR-10, reduced to 16x16 pixels, with a network that has batch normalization",
        networks.convolutional, 1000, 12, rates=(3e-3, 1e-2), colors=True,
        changes={"gray": effects_images.gray, **effects_images.WORSE},
    ),
}  # fmt: skip
MEASURES = {
    "test": "test accuracy",
    "shifted": "accuracy on test images shifted by one pixel",
    "occluded": "accuracy on test images with a hidden box of 3x3 pixels",
    "relit": "accuracy on test images in another light",
    "turned": "accuracy on test images turned by up to 30 degrees",
    "gray": "accuracy on gray test images",
    "noisy": "accuracy on test images with noise of 0.1",
    "blurred": "accuracy on test images blurred by one pixel",
    "worse": "mean accuracy on five worse copies of the test images",
    "perturbed": "test accuracy with noise of half a standard deviation on each kernel",
    "worst": "the lowest test accuracy of the last ten epochs",
}


# Data and measures.


def data_of(setting, seed, source=None):
    """The images of a split. Splits from seed 10 on, which only choose, have other colored test images."""
    if not setting.colors:
        found = digits.load(setting.labeled, seed, setting.wrong)
        return with_unlabeled(found, setting.unlabeled) if setting.unlabeled else found
    found = example_data.load(source, setting.labeled, seed)
    part = slice(2000, 4000) if seed >= 10 else slice(0, 2000)
    x_train, x_test = (effects_images.smaller(x) for x in (found.x_train, found.x_val[part]))
    return digits.Digits(x_train, found.y_train, x_test, found.y_val[part], found.y_train)


def with_unlabeled(found, count):
    """Adds the first test images without their labels, and repeats the labeled images until there are as many."""
    times, unlabeled = count // len(found.x_train), found.x_test[:count]
    x_train = np.concatenate([np.tile(found.x_train, (times, 1, 1, 1)), unlabeled])
    y_train = np.concatenate([np.tile(found.y_train, times), np.zeros(count, found.y_train.dtype)])
    return digits.Digits(x_train, y_train, found.x_test[count:], found.y_test[count:], found.clean)


def sample_weights(setting, data):
    """0 for unlabeled images, and 2 for the labeled half, so that the loss is the mean over labeled images."""
    rows = len(data.x_train)
    return np.repeat([2.0, 0.0], [rows - setting.unlabeled, setting.unlabeled]) if setting.unlabeled else None


def perturbed(network, share=0.5, draws=10):
    """Adds normal noise to each kernel, `share` of its standard deviation, for each draw."""
    random = np.random.default_rng(0)
    kernels = [weight for weight in network.trainable_weights if weight.path.endswith("kernel")]
    stored = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
    for _ in range(draws):
        for kernel, values in zip(kernels, stored, strict=True):
            kernel.assign(values + random.normal(0, share * values.std(), values.shape))
        yield network
