"""Layers of other packages that do what a row does, where these packages are installed.

`keras-aug` runs on every backend, KerasCV on TensorFlow, timm, torchvision and kornia on PyTorch. None of them is
needed: who is missing is left out and named. `make bench` installs them; by hand, without another PyTorch:

    pip install --no-deps timm kornia kornia-rs keras-aug keras-cv keras-core torchvision huggingface_hub safetensors
"""

import contextlib
import functools
import importlib
import importlib.util
import io
import pathlib
import warnings

import keras
from benchmarking import BACKEND
from modes import MODES, Contender, in_turn
from rows import FUSED, WARP

PACKAGES = {
    "keras-aug": "keras_aug.layers",
    "KerasCV": "keras_cv.layers",
    "timm": "timm.data",
    "torchvision": "torchvision.transforms.v2",
    "kornia": "kornia.augmentation",
}
HERE = {"tensorflow": ("keras-aug", "KerasCV"), "jax": ("keras-aug",)}.get(
    BACKEND, ("keras-aug", "timm", "torchvision", "kornia")
)
IN_PLACE = "timm in place"
AREA, ASPECT = (0.02, 0.33), (0.3, 3.3)
KERNEL, SIGMA = 5, (0.1, 2.0)  # of a blur
COLORS = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation and hue
_KEPT = []  # a torch.library.Library takes its operators with it when it goes


def of(name, dtype="float32", classes=10):
    """The contenders of the other packages that are there, for a row."""
    found = []
    for package in HERE:
        module = find(package)
        made = MAKERS[package](module, name, dtype, classes) if module else None
        found += made if isinstance(made, list) else [made] if made else []
    return found


def missing():
    """{package: why it is left out} of those that could run on this backend."""
    return {package: _import(PACKAGES[package])[1] for package in HERE if find(package) is None}


def find(package):
    return _import(PACKAGES[package])[0]


@functools.cache
def _import(name):
    """(module or None, why not)."""
    try:
        if BACKEND == "torch":
            _help_torchvision()
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return importlib.import_module(name), None
    except Exception as error:  # an import may fail in any way, as beside a version it was not made for
        return None, f"{type(error).__name__}: {error}"


@functools.cache
def _help_torchvision():
    """The wheel of PyPI is made for PyTorch with CUDA: beside a CPU build, its operators have to be declared."""
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None:
        return
    try:
        torch.ops.load_library(next(pathlib.Path(found.origin).parent.glob("_C*.so")))
    except (OSError, StopIteration):
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


def _keras_aug(module, name, dtype, classes):
    given = {"dtype": dtype}
    vision = module.vision

    def erasing(value=0.0):
        return vision.RandomErasing(p=1.0, scale=AREA, ratio=ASPECT, value=value, **given)

    parts = {
        "RandomErasing, constant": lambda: [erasing()],
        "RandomErasing, pixel noise": lambda: [erasing("random")] if dtype != "uint8" else None,
        "MixUp": lambda: [vision.MixUp(alpha=0.2, **given)],
        "CutMix": lambda: [vision.CutMix(alpha=1.0, **given)],
        "Chain of erasing, MixUp and CutMix": lambda: [
            erasing(), vision.MixUp(alpha=0.2, **given), vision.CutMix(alpha=1.0, **given),
        ],
        "RandAugment": lambda: [vision.RandAugment(**given)],
        "RandomFlip": lambda: [vision.RandomFlip(**given)],
        "RandomAffine": lambda: [vision.RandomRotation(15, **given)],
        "ColorJitter": lambda: [vision.ColorJitter(*COLORS, **given)],
        "RandomGaussianBlur": lambda: [vision.GaussianBlur(KERNEL, SIGMA, **given)],
        "RandomSharpness": lambda: [vision.RandomSharpen(1.9, 1.0, **given)],
        "RandomGaussianNoise": lambda: [vision.GaussianNoise(0.0, 0.1, **given)] if dtype != "uint8" else None,
        "RandomGrayscale": lambda: [vision.RandomGrayscale(1.0, **given)],
        "RandomResizedCrop": lambda: [vision.RandomResizedCrop(28, (0.5, 1.0), **given)],
        "TrivialAugmentWide": lambda: [vision.TrivialAugmentWide(**given)],
        FUSED: lambda: [
            vision.RandomFlip(**given), vision.RandomRotation(15, **given),
            vision.RandomAffine(translate=(0.1, 0.1), **given),
        ],
    }  # fmt: skip
    chain = parts[name]() if name in parts else None
    return None if chain is None else in_turn("keras-aug", *chain)


def _keras_cv(module, name, dtype, classes):
    sides = (AREA[0] ** 0.5, AREA[1] ** 0.5)
    given = {"dtype": "float32" if dtype == "uint8" else dtype}
    parts = {
        "RandomErasing, constant": lambda: module.RandomCutout(sides, sides, fill_value=0.0, **given),
        "RandomErasing, pixel noise": lambda: module.RandomCutout(sides, sides, fill_mode="gaussian_noise", **given),
        "MixUp": lambda: module.MixUp(alpha=0.2, **given),
        "CutMix": lambda: module.CutMix(alpha=1.0, **given),
    }
    return in_turn("KerasCV", parts[name]()) if name in parts else None


def _timm(module, name, dtype, classes):
    def erasing(mode):
        return module.random_erasing.RandomErasing(
            1.0, *AREA, ASPECT[0], ASPECT[1], mode=mode, device=keras.ops.zeros(()).device
        )

    def mix(mix_up, cut_mix, mode="elem"):
        return module.mixup.Mixup(mix_up, cut_mix, mode=mode, label_smoothing=0.0, num_classes=classes)

    runs = {
        "RandomErasing, constant": lambda: _images_only(erasing("const")),
        "RandomErasing, pixel noise": lambda: _images_only(erasing("pixel")) if dtype != "uint8" else None,
        "RandomErasing, channel noise": lambda: _images_only(erasing("rand")) if dtype != "uint8" else None,
        "MixUp": lambda: mix(0.2, 0.0),
        "CutMix": lambda: mix(0.0, 1.0),
        "Choice of MixUp and CutMix": lambda: mix(0.2, 1.0),
        "Pipeline of erasing and choice": lambda: _both(erasing("const"), mix(0.2, 1.0)),
        "MixUp, one draw a batch": lambda: mix(0.2, 0.0, "batch"),
        "CutMix, one draw a batch": lambda: mix(0.0, 1.0, "batch"),
    }
    if name not in runs or (run := runs[name]()) is None:
        return []
    given = {"first": True, "ids": True, "modes": ("eager",)}
    return [Contender("timm", lambda x, y: run(x.clone(), y), **given), Contender(IN_PLACE, run, **given)]


def _torchvision(module, name, dtype, classes):
    import torch

    def each(*transforms):
        one = module.Compose(transforms)
        return lambda x, y: (torch.stack([one(image) for image in x]), y)

    def erase(value):
        return each(module.RandomErasing(1.0, AREA, ASPECT, value))

    def turn():
        return module.RandomRotation(15, module.InterpolationMode.BILINEAR)

    runs = {
        "RandomErasing, constant": lambda: erase(0),
        "RandomErasing, pixel noise": lambda: erase("random") if dtype != "uint8" else None,
        "RandAugment": lambda: each(module.RandAugment()),
        "RandomFlip": lambda: each(module.RandomHorizontalFlip()),
        "RandomAffine": lambda: each(turn()),
        "ColorJitter": lambda: each(module.ColorJitter(*COLORS)),
        "RandomGaussianBlur": lambda: each(module.GaussianBlur(KERNEL, SIGMA)),
        "RandomSharpness": lambda: each(module.RandomAdjustSharpness(1.9, 1.0)),
        "RandomGaussianNoise": lambda: each(module.GaussianNoise(0.0, 0.1)) if dtype == "float32" else None,
        "RandomGrayscale": lambda: each(module.RandomGrayscale(1.0)),
        "RandomPadCrop": lambda: _of_size(lambda size: each(module.RandomCrop(size, 4))),
        "RandomResizedCrop": lambda: each(module.RandomResizedCrop(28, (0.5, 1.0))),
        "TrivialAugmentWide": lambda: each(module.TrivialAugmentWide()),
        "AutoAugment": lambda: each(module.AutoAugment(module.AutoAugmentPolicy.CIFAR10)),
        "AugMix": lambda: each(module.AugMix()),
        FUSED: lambda: each(module.RandomHorizontalFlip(), turn(), module.RandomAffine(0, (0.1, 0.1))),
        "MixUp, one draw a batch": lambda: module.MixUp(alpha=0.2, num_classes=classes),
        "CutMix, one draw a batch": lambda: module.CutMix(alpha=1.0, num_classes=classes),
    }
    run = runs[name]() if name in runs else None
    return run and Contender("torchvision", run, first=True, ids=True, modes=("eager",))


def _kornia(module, name, dtype, classes):
    keys = ["input", "class"]

    def chain(*transforms):
        return _images_only(module.ImageSequential(*transforms))

    def turn():
        return module.RandomRotation(15.0, p=1.0)

    runs = {
        "RandAugment": lambda: _images_only(module.auto.RandAugment(2, 9)),
        "RandomFlip": lambda: chain(module.RandomHorizontalFlip()),
        "RandomAffine": lambda: chain(turn()),
        "ColorJitter": lambda: chain(module.ColorJitter(*COLORS, p=1.0)),
        "RandomGaussianBlur": lambda: chain(module.RandomGaussianBlur((KERNEL, KERNEL), SIGMA, p=1.0)),
        "RandomSharpness": lambda: chain(module.RandomSharpness(0.9, p=1.0)),
        "RandomGaussianNoise": lambda: chain(module.RandomGaussianNoise(0.0, 0.1, p=1.0)),
        "RandomGrayscale": lambda: chain(module.RandomGrayscale(p=1.0)),
        "RandomPadCrop": lambda: _of_size(lambda size: chain(module.RandomCrop(size, 4, p=1.0))),
        "RandomResizedCrop": lambda: chain(module.RandomResizedCrop((28, 28), (0.5, 1.0), p=1.0)),
        "TrivialAugmentWide": lambda: _images_only(module.auto.TrivialAugment()),
        "AutoAugment": lambda: _images_only(module.auto.AutoAugment("cifar10")),
        FUSED: lambda: chain(
            module.RandomHorizontalFlip(), turn(), module.RandomAffine(0.0, translate=(0.1, 0.1), p=1.0)
        ),
        "RandomErasing, constant": lambda: _images_only(module.RandomErasing(AREA, ASPECT, 0.0, p=1.0)),
        "MixUp": lambda: module.RandomMixUpV2(p=1.0, data_keys=keys),
        "CutMix": lambda: module.RandomCutMixV2(p=1.0, beta=1.0, data_keys=keys, use_correct_lambda=True),
    }
    run = runs[name]() if name in runs and dtype != "uint8" else None
    modes = MODES if name == WARP else ("eager",)
    return run and Contender("kornia", run, first=True, ids=True, modes=modes)


def _images_only(function):
    return lambda x, y: (function(x), y)


def _of_size(make):
    """A function of images and labels, made for the height and width of the images."""
    made = functools.cache(make)
    return lambda x, y: made(tuple(x.shape[2:]))(x, y)


def _both(first, second):
    return lambda x, y: second(first(x), y)


MAKERS = {"keras-aug": _keras_aug, "KerasCV": _keras_cv, "timm": _timm, "torchvision": _torchvision, "kornia": _kornia}
