"""What is compared: our layers, Keras' own and those of other packages that do comparable work.

Every image is changed (rate 1), with parameters of its own unless the row says "one draw a batch"; boxes have an area
between 2 and 33 % of the image. What still differs:

- Keras' RandomErasing and KerasCV's RandomCutout draw each side alone, by the square root of an area in that range.
- Noise: ours is drawn for a tile of two images, timm's for the boxes, all others' for every pixel of the batch.
- Blur: keras-aug draws one kernel for the whole batch, ours is drawn for each image.
- Sharpness: keras-aug has one factor for all images, torchvision too.
- RandomPadCrop and RandomResizedCrop: kornia resamples the crops where ours copies whole pixels.
- timm changes its input: "timm" is given a copy, as the others leave theirs alone, "timm in place" is spared it.
- kornia returns both labels and a weight, and mixes none; its MixUp draws the weight uniformly.
- timm, torchvision and kornia have their images in the layout that they want, (batch, channels, height, width).
"""

import dataclasses
import functools

import keras
import peers
from modes import Contender, in_turn
from peers import KERNEL, SIGMA
from rows import CHAIN, FUSED, NOT_FUSED, SLOW_TO_COMPILE, TWO_WARPS, TWO_WARPS_NOT_FUSED, WITH_COLORS

from keras_reg import layers


def contenders(name, dtype="float32", classes=10):
    """All contenders of a row; ours comes first."""
    found = [ours(name, dtype), keras_own(name, dtype), *peers.of(name, dtype, classes)]
    return [_that_compiles(contender, name) for contender in found if contender is not None]


def _that_compiles(contender, name):
    """The contender, without `torch.compile` where that takes more than ten minutes."""
    if (contender.who, name) not in SLOW_TO_COMPILE:
        return contender
    return dataclasses.replace(contender, modes=tuple(mode for mode in contender.modes if mode != "compile"))


def ours(name, dtype="float32", who="keras_reg"):
    layer = own_layer(name, dtype)
    return Contender(who, lambda x, y: layer((x, y)), (layer,))


def own_layer(name, dtype="float32"):
    given = {"dtype": _floats(dtype)}
    erasing = functools.partial(layers.RandomErasing, 1.0, value_range=(0, 255) if dtype == "uint8" else None, **given)
    mix_up, cut_mix = (functools.partial(make, **given) for make in (layers.MixUp, layers.CutMix))

    most = _most(dtype)

    def choice():
        return layers.RandomChoice([mix_up(0.2), cut_mix(1.0)], mode="sample", **given)

    def jitter():
        return layers.ColorJitter(0.4, 0.4, 0.4, 0.1, value_range=most, **given)

    def moved(fuse=True):
        return layers.Pipeline(
            [layers.RandomFlip(), layers.RandomAffine(15), layers.RandomPadCrop(4)], fuse=fuse, **given
        )

    def moved_twice(fuse=True):
        return layers.Pipeline([layers.RandomAffine(15), layers.RandomAffine(zoom=0.2)], fuse=fuse, **given)

    return {
        "RandomErasing, constant": lambda: erasing(fill=0.0),
        "RandomErasing, pixel noise": lambda: erasing(fill="pixel_noise"),
        "RandomErasing, channel noise": lambda: erasing(fill="channel_noise"),
        "MixUp": lambda: mix_up(0.2),
        "CutMix": lambda: cut_mix(1.0),
        "Choice of MixUp and CutMix": choice,
        "Pipeline of erasing and choice": lambda: layers.Pipeline([erasing(), choice()], **given),
        CHAIN: lambda: layers.Pipeline([erasing(), mix_up(0.2), cut_mix(1.0)], **given),
        "MixUp, one draw a batch": lambda: mix_up(0.2, mode="batch"),
        "CutMix, one draw a batch": lambda: cut_mix(1.0, mode="batch"),
        "RandomFlip": lambda: layers.RandomFlip(**given),
        "RandomAffine": lambda: layers.RandomAffine(15, **given),
        "RandomPadCrop": lambda: layers.RandomPadCrop(4, **given),
        "RandomResizedCrop": lambda: layers.RandomResizedCrop(28, scale=(0.5, 1.0), **given),
        "ColorJitter": jitter,
        "RandomGaussianBlur": lambda: layers.RandomGaussianBlur(SIGMA, KERNEL, 1.0, **given),
        "RandomSharpness": lambda: layers.RandomSharpness(0.9, value_range=most, **given),
        "RandomGaussianNoise": lambda: layers.RandomGaussianNoise(0.1 * most[1], 1.0, clip=most, **given),
        FUSED: moved,
        NOT_FUSED: lambda: moved(fuse=False),
        TWO_WARPS: moved_twice,
        TWO_WARPS_NOT_FUSED: lambda: moved_twice(fuse=False),
        WITH_COLORS: lambda: layers.Pipeline(
            [layers.RandomFlip(), layers.RandomAffine(15), jitter(), layers.RandomGrayscale(0.1)], **given
        ),
        "RandAugment": lambda: layers.RandAugment(value_range=most, **given),
        "TrivialAugmentWide": lambda: layers.TrivialAugmentWide(value_range=most, **given),
        "AutoAugment": lambda: layers.AutoAugment("cifar10", value_range=most, **given),
        "AugMix": lambda: layers.AugMix(value_range=most, **given),
        "RandomGrayscale": lambda: layers.RandomGrayscale(1.0, **given),
        "PCAColorJitter": lambda: layers.PCAColorJitter(**given),
        "LabelNoise": lambda: layers.LabelNoise(0.1, **given),
        "RandomApply of erasing": lambda: layers.RandomApply(erasing(), 0.5, **given),
    }[name]()


def keras_own(name, dtype="float32"):
    """Keras' own layers, or `None` where it has none."""
    given = {"dtype": _floats(dtype)}
    mix_up = functools.partial(_keras, "MixUp", alpha=0.2, **given)
    cut_mix = functools.partial(_keras, "CutMix", factor=1.0, **given)
    # A single factor is the upper end of a range: 1.0 alone would leave half of the images as they are.
    erasing = functools.partial(_keras, "RandomErasing", (1.0, 1.0), (0.02, 0.33), value_range=(0, 1), **given)
    turn = functools.partial(_keras, "RandomRotation", 15 / 360, fill_mode="constant", **given)
    flip, most = functools.partial(_keras, "RandomFlip", "horizontal", **given), _most(dtype)
    parts = {
        "RandomErasing, constant": lambda: [erasing(fill_value=0.0)],
        "RandomErasing, pixel noise": lambda: [erasing(fill_value=None)],
        "MixUp": lambda: [mix_up()],
        "CutMix": lambda: [cut_mix()],
        "RandomAffine": lambda: [turn()],
        "RandAugment": lambda: [_keras("RandAugment", most, **given)],
        "RandomFlip": lambda: [flip()],
        "ColorJitter": lambda: [_keras("RandomColorJitter", most, 0.4, 0.4, 0.4, 0.1, **given)],
        "RandomGaussianBlur": lambda: [
            _keras("RandomGaussianBlur", (1.0, 1.0), KERNEL, SIGMA, value_range=most, **given)
        ],
        "RandomSharpness": lambda: [_keras("RandomSharpness", (0.05, 0.95), value_range=most, **given)],
        FUSED: lambda: [flip(), turn(), _keras("RandomTranslation", 0.1, 0.1, fill_mode="constant", **given)],
        CHAIN: lambda: [erasing(fill_value=0.0), mix_up(), cut_mix()],
    }
    alone = {  # Keras' RandomGrayscale fails on a dict
        "RandomGrayscale": lambda: _keras("RandomGrayscale", 1.0, **given),
        "RandomGaussianNoise": lambda: keras.layers.GaussianNoise(0.1, **given) if most[1] == 1 else None,
    }
    if name in alone:
        layer = alone[name]()
        return layer and Contender("Keras", lambda x, y: (layer(x, training=True), y), (layer,))
    # Before Keras 3.11 it has no such layers.
    return in_turn("Keras", *parts[name]()) if name in parts and hasattr(keras.layers, "RandomErasing") else None


def _keras(name, *args, **kwargs):
    return getattr(keras.layers, name)(*args, **kwargs)


def _most(dtype):
    return (0, 255) if dtype == "uint8" else (0, 1)


def _floats(dtype):
    return "float32" if dtype == "uint8" else dtype
