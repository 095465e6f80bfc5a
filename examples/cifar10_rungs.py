"""The rungs of `cifar10_ladder.py`: their settings, networks and augmentations."""

import collections
import dataclasses
import functools

import keras
import numpy as np

import keras_reg
from keras_reg import layers


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a rung. The defaults are those of the plain network."""

    capacity: int = 0  # index into `Size.networks`
    noise: float = 0.0  # standard deviation of the noise that is added to half of the images
    share_erased: float = 0.0  # rate of random erasing
    normalization: str = "none"  # "batch" or "instance"
    dropout: float = 0.0
    l2: float = 0.0
    flip_and_crop: bool = False
    policy: str | None = None  # a key of `POLICIES`
    gamma: float = 1.0
    rotation: float = 0.0  # degrees
    skips: bool = False
    share_mixed: float = 0.0  # rate of MixUp or CutMix
    smoothing: float = 0.0
    bn_noise: float = 0.0
    drop_path: float = 0.0
    ema: bool = False


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of an experiment. `networks` has (widths, convolutions per stage) for each level of capacity."""

    networks: tuple
    labeled: int | None
    epochs: int
    batch: int
    dense: int
    ema_momentum: float
    dtype: str = "float32"
    on_device: bool = False


SIZES = {
    "small": Size(
        networks=(((16, 32, 64), 1), ((16, 32, 64), 2), ((24, 48, 96), 2)),
        labeled=5000, epochs=40, batch=32, dense=128, ema_momentum=0.998,
    ),
    "full": Size(
        networks=(((64, 128, 256), 2), ((96, 192, 384), 3), ((128, 256, 512), 3)),
        labeled=None, epochs=30, batch=256, dense=512, ema_momentum=0.999, dtype="mixed_bfloat16", on_device=True,
    ),
}  # fmt: skip

# The settings that a rung adds to `base`, and the accuracies (validation, training) of the course in percent.
Rung = collections.namedtuple("Rung", "name adds base course")

PLAIN, FLIPS, TOP = "plain convolutional network", "+ flip, crop with padding 2", "+ average of the weights"
STEPS = [
    ("+ random erasing", {"share_erased": 0.75}, (80, None)),
    ("+ batch normalization", {"normalization": "batch"}, (84, None)),
    ("+ dropout 0.2 in each block", {"dropout": 0.2}, (86.6, None)),
    ("+ L2 5e-4", {"l2": 5e-4}, None),
    (FLIPS, {"flip_and_crop": True}, (90.6, 92)),
    ("+ exponential rate, gamma 0.96", {"gamma": 0.96}, (90.6, 98)),
    ("+ rotation by up to 5 degrees", {"rotation": 5.0}, None),
    ("+ capacity", {"capacity": 1}, (93, 96)),
    ("+ skip connections", {"skips": True}, (93, 97)),
    ("+ capacity once more", {"capacity": 2}, (94.5, 98.3)),
    ("+ MixUp or CutMix", {"share_mixed": 0.5}, None),
    ("+ label smoothing 0.1", {"smoothing": 0.1}, None),
    ("+ noisy batch normalization 0.1", {"bn_noise": 0.1}, None),
    ("+ stochastic depth, up to 0.1", {"drop_path": 0.1}, None),
    (TOP, {"ema": True}, None),
]
ASIDE = [  # these change another rung than the one below
    ("aside: Gaussian noise on the plain network", {"noise": 0.01}, PLAIN, (80.9, None)),
    ("aside: instance for batch normalization", {"normalization": "instance"}, FLIPS, (91.6, 93.7)),
    ("aside: MixUp or CutMix after flip and crop", {"share_mixed": 0.5}, FLIPS, None),
    ("aside: TrivialAugmentWide after flip and crop", {"policy": "TrivialAugmentWide"}, FLIPS, None),
    ("aside: RandAugment(2, 9) after flip and crop", {"policy": "RandAugment"}, FLIPS, None),
    ("aside: AutoAugment for CIFAR-10 after flip and crop", {"policy": "AutoAugment"}, FLIPS, None),
    (
        "aside: TrivialAugmentWide for the rotation at the top",
        {"rotation": 0.0, "policy": "TrivialAugmentWide"},
        TOP,
        None,
    ),
    ("aside: RandAugment(2, 9) for the rotation at the top", {"rotation": 0.0, "policy": "RandAugment"}, TOP, None),
]


POLICIES = {
    "TrivialAugmentWide": layers.TrivialAugmentWide,
    "RandAugment": functools.partial(layers.RandAugment, num_ops=2, magnitude=9),
    "AutoAugment": functools.partial(layers.AutoAugment, policy="cifar10"),
}


def _climb():
    rungs = [Rung(PLAIN, {}, None, (78, None))]
    for name, adds, course in STEPS:
        rungs.append(Rung(name, adds, rungs[-1].name, course))
    return {rung.name: rung for rung in [*rungs, *(Rung(*aside) for aside in ASIDE)]}


RUNGS = _climb()


def recipe(name):
    """All settings of a rung: its own, and those of its base."""
    rung = RUNGS[name]
    return dataclasses.replace(recipe(rung.base) if rung.base else Recipe(), **rung.adds)


def _normalize(x, kind):
    if kind == "batch":
        return keras.layers.BatchNormalization()(x)
    return keras.layers.GroupNormalization(groups=-1)(x) if kind == "instance" else x


def _convolve(x, width, kind, pool=False):
    x = keras.layers.Conv2D(width, 3, padding="same", kernel_initializer="he_normal")(x)
    if pool and x.shape[1] >= 4:  # 8 x 8 images become too small after two poolings
        x = keras.layers.MaxPooling2D()(x)
    return _normalize(keras.layers.ReLU()(x), kind)


def network(recipe, size, shape, classes):
    """A network of stages. The first convolution of each stage is pooled; `skips` makes the others residual."""
    widths, convolutions = size.networks[recipe.capacity]
    inputs = x = keras.Input(shape)
    for width in widths:
        x = _convolve(x, width, recipe.normalization, pool=True)
        for _ in range(convolutions - 1):
            y = _convolve(x, width, recipe.normalization)
            x = keras.layers.Add()([x, y]) if recipe.skips else y
        if recipe.dropout:
            x = keras.layers.Dropout(recipe.dropout)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(size.dense, "relu", kernel_initializer="he_normal")(x)
    x = keras.layers.Dense(classes, kernel_initializer="he_normal", dtype="float32")(x)  # logits
    model = keras.Model(inputs, x)
    added = {"kernel_l2": recipe.l2, "bn_noise": recipe.bn_noise, "drop_path": recipe.drop_path}
    added = {name: value for name, value in added.items() if value}
    return keras_reg.surgery.regularize(model, **added) if added else model


def _rotation(degrees, size):
    """Rotates by up to `degrees` with a constant fill of 0.

    The small ladder keeps the layer of Keras, with which its results were measured.
    """
    if size.on_device:
        return layers.RandomAffine(rotation=degrees)
    return keras.layers.RandomRotation(degrees / 360, fill_mode="constant", fill_value=0.0)


def _policy(name, pixels):
    """A policy, which gets the pixels as they were before the images were standardized."""
    mean, deviation = pixels
    known = {"mean": np.asarray(mean).tolist(), "variance": np.square(deviation).tolist()}
    policy = POLICIES[name](value_range=(0, 1), fill_value=0.5)
    undo, repeat = keras.layers.Normalization(invert=True, **known), keras.layers.Normalization(**known)
    for layer in (undo, repeat):
        layer.build((None, None, None, np.size(mean)))  # else TensorFlow would make their constants inside a function
    return [undo, policy, repeat]


def augmentation(recipe, size, seed=None, pixels=(0.0, 1.0)):
    """The augmentation of a recipe, or `None`. The images are standardized, so 0 is their mean.

    `pixels` is the mean and the standard deviation by which they were standardized.
    """
    found = []
    if recipe.flip_and_crop:
        found += [keras.layers.RandomFlip("horizontal"), layers.RandomPadCrop(2)]
    if recipe.policy:
        found += _policy(recipe.policy, pixels)
    if recipe.rotation:
        found.append(_rotation(recipe.rotation, size))
    if recipe.noise:
        found.append(layers.RandomApply(keras.layers.GaussianNoise(recipe.noise), rate=0.5))
    if recipe.share_erased:
        found.append(layers.RandomErasing(rate=recipe.share_erased, scale=(0.01, 0.3), ratio=(1, 1), fill=0.0))
    if recipe.share_mixed:
        mixers = [layers.MixUp(0.2, rate=recipe.share_mixed), layers.CutMix(1.0, rate=recipe.share_mixed)]
        found.append(layers.RandomChoice(mixers, mode="sample"))
    return layers.Pipeline(found, seed=seed) if found else None
