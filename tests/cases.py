"""The one table of every public class: what `test_contract.py` needs to know to try it.

Adding a class is one row in `CASES`:

    Case(layers.MixUp, {"alpha": 0.4, "num_classes": 4, "seed": 1}, "batch_augmentation", bad=[{"alpha": 0.0}]),

1. The class, and arguments for one ordinary instance, by keyword. Give every argument that has a say, and not its
   default: the row is what the config round trip tries. Where an argument is a layer or a model, which must not be
   shared between two instances, write the arguments as a function: `lambda: {"layer": keras.layers.Dense(3)}`.
2. The kind, which picks the tests:
   - "batch_augmentation": takes images, (images, labels), ... as api.md lists them.
   - "layer": any other layer; takes one tensor, images unless `inputs` says otherwise.
   - "loss": a `keras.losses.Loss`; `inputs` gives (y_true, y_pred).
   - "callback": a `keras.callbacks.Callback`.
   - "model": a `keras.Model`, trained on images and integer labels.
   - "inference": a `keras.Model` around a trained one, which only predicts.
   - "value": anything else that serializes.
   - "tool": anything that does not serialize.
3. `bad`: dicts of arguments, each of which must raise a `ValueError` of the house style when put over the good ones.
4. Where the class differs from its kind, the options of `Case` say how.

A class may have several rows (another mode, say); give these an `id` each.
"""

import dataclasses
import inspect
from collections.abc import Callable

import keras
import numpy as np

import keras_reg
from keras_reg import callbacks, inference, layers, losses, metrics, training, transfer

CLASSES = 4
HEIGHT, WIDTH = 12, 10  # not square: an exchange of the two shows
KINDS = ("batch_augmentation", "layer", "loss", "callback", "model", "inference", "value", "tool")
FORMS = ("images", "pair", "triple", "dict")


def images(count, channels=3):
    """Images (count, 12, 10, channels), float32 in [0, 1], no two pixels alike."""
    return np.random.default_rng(1).random((count, HEIGHT, WIDTH, channels), "float32")


def features(count):
    """Vectors (count, 6), float32."""
    return np.random.default_rng(2).standard_normal((count, 6)).astype("float32")


def classes(count):
    """Integer labels (count,), int32; every class occurs where `count` allows."""
    return (np.arange(count) % CLASSES).astype("int32")


def classes_and_logits(count):
    """(y_true, y_pred) of a classifier with integer labels."""
    return classes(count), np.random.default_rng(3).standard_normal((count, CLASSES)).astype("float32")


def small_network(dropout=0.0):
    """Images to logits."""
    dropped = [keras.layers.Dropout(dropout)] if dropout else []
    parts = [keras.Input((HEIGHT, WIDTH, 3)), keras.layers.Flatten(), *dropped, keras.layers.Dense(CLASSES)]
    return keras.Sequential(parts)


def data(form, count):
    """A batch in one of the forms that batch augmentations take."""
    weights = np.linspace(0.5, 1.5, count, dtype="float32")
    x, y = images(count), classes(count)
    return {
        "images": x,
        "pair": (x, y),
        "triple": (x, y, weights),
        "dict": {"images": x, "labels": y, "sample_weights": weights},
    }[form]


@dataclasses.dataclass(frozen=True)
class Case:
    """One row; see the top of this file.

    Attributes:
        cls: The public class.
        arguments: Keyword arguments of an ordinary instance, or a function that makes them afresh.
        kind: One of `KINDS`.
        bad: Arguments that must be refused, each a dict laid over the good ones.
        inputs: Function from a count to the inputs, in place of what the kind takes. ("layer", "loss")
        forms: The call forms it takes. ("batch_augmentation")
        channels_first: Arguments that make it work on channels first. Found where there is a `data_format`; `None`
            where the class has no layout.
        policies: The dtype policies it works under.
        random: Whether two calls of one instance differ.
        trains: Whether it does something else in training than in inference.
        id: The name of the row in test reports.
    """

    cls: type
    arguments: dict | Callable[[], dict]
    kind: str
    bad: list[dict] = dataclasses.field(default_factory=list)
    inputs: Callable | None = None
    forms: tuple[str, ...] = FORMS
    channels_first: dict | None = dataclasses.field(default_factory=lambda: {"data_format": "channels_first"})
    policies: tuple[str, ...] = ("float32", "mixed_float16", "bfloat16")
    random: bool = True
    trains: bool = True
    id: str = ""

    def __post_init__(self):
        assert self.kind in KINDS, f"{self.kind!r} is not one of {KINDS}"

    @property
    def name(self):
        return self.id or self.cls.__name__

    def given(self):
        """The arguments of the row, fresh ones."""
        return self.arguments() if callable(self.arguments) else dict(self.arguments)

    def make(self, **overrides):
        """A new instance, with some arguments replaced."""
        return self.cls(**{**self.given(), **overrides})

    @property
    def takes(self):
        """The names of the constructor's parameters."""
        return set(inspect.signature(self.cls.__init__).parameters)

    @property
    def channels_first_arguments(self):
        """What makes an instance for channels first, or `None` where there is no such thing."""
        found = self.channels_first
        return found if found is None or set(found) <= self.takes else None


def augmentation(cls, arguments, bad=(), **options):
    return Case(cls, arguments, "batch_augmentation", bad=list(bad), **options)


def layer(cls, arguments, bad=(), **options):
    return Case(cls, arguments, "layer", bad=list(bad), inputs=options.pop("inputs", images), **options)


BAD_SEED = [{"seed": -1}, {"seed": 0.5}, {"seed": "zero"}]
BAD_STDDEV = [{"stddev": value} for value in (-0.1, float("nan"), float("inf"), "some", None)]
BAD_RATE = [{"rate": value} for value in (-0.1, 1.5, float("nan"), "half", None)]
BAD_ALPHA = [{"alpha": value} for value in (0, -1.0, float("nan"), float("inf"), "one", None)]
BAD_CLASSES = [{"num_classes": value} for value in (0, -3, 2.5, "ten")]
BAD_FORMAT = [{"data_format": value} for value in ("channels", "NHWC", 1)]
BAD_SPANS = (-0.1, float("nan"), float("inf"), "some", None, (0.2, 0.1), (0.1,), (0.1, "more"), True)
FIRST = {"data_format": "channels_first"}
POLICY = {
    "rate": 0.9, "interpolation": "bilinear", "fill_value": 0.5, "value_range": (0, 1), "mask_fill": 3,
    "bounding_box_format": "rel_xyxy", "seed": 1,
}  # fmt: skip
BAD_POLICY = [
    *BAD_RATE, *BAD_SEED, *BAD_FORMAT, {"interpolation": "cubic"}, {"fill_value": "black"}, {"value_range": (1, 1)},
    {"mask_fill": None}, {"bounding_box_format": "xxyy"}, {"num_magnitude_bins": 1}, {"operations": []},
    {"operations": "rotate"}, {"operations": ["turn"]}, {"operations": ["rotate", "rotate"]}, {"operations": 3},
]  # fmt: skip

CASES = [
    Case(
        keras_reg.Strength,
        {"value": 0.2},
        "value",
        bad=[{"value": value} for value in (-0.1, float("nan"), float("inf"), "high", None)],
    ),
    # Batch augmentations.
    augmentation(
        layers.BatchAugmentation,
        {"rate": 0.5, "seed": 1},
        [*BAD_RATE, *BAD_SEED, *BAD_FORMAT],
        random=False,
        trains=False,
    ),
    augmentation(
        layers.MixUp,
        {"alpha": 0.4, "rate": 0.9, "num_classes": CLASSES, "mode": "sample", "seed": 1},
        [*BAD_ALPHA, *BAD_RATE, *BAD_CLASSES, *BAD_SEED, *BAD_FORMAT, {"mode": "image"}],
    ),
    augmentation(
        layers.CutMix,
        {"alpha": 0.7, "rate": 0.9, "num_classes": CLASSES, "mode": "batch", "seed": 1},
        [*BAD_ALPHA, *BAD_RATE, *BAD_CLASSES, *BAD_SEED, *BAD_FORMAT, {"mode": "image"}],
    ),
    augmentation(
        layers.RandomErasing,
        {"rate": 0.9, "scale": (0.1, 0.4), "ratio": (0.5, 2.0), "count": (1, 2), "fill": 0.5, "seed": 1},
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            {"scale": (0.5, 0.1)},
            {"scale": (-0.1, 0.2)},
            {"scale": 0.2},
            {"ratio": (0.0, 1.0)},
            {"ratio": (2.0, 1.0)},
            {"count": 0},
            {"count": (2, 1)},
            *({"fill": value} for value in ("mean", "constant", None, [], [0.5, "black"], float("nan"))),
            {"value_range": (1, 0)},
        ],
    ),
    augmentation(
        layers.RandomChoice,
        lambda: {
            "layers": [layers.MixUp(0.4, num_classes=CLASSES), layers.CutMix(num_classes=CLASSES)],
            "mode": "sample",
            "seed": 1,
        },
        [
            *BAD_SEED,
            *BAD_FORMAT,
            {"layers": []},
            {"layers": None},
            {"layers": ["mixup"]},
            {"layers": [keras.layers.GaussianNoise(0.1)]},
            {"layers": [layers.MixUp(num_classes=3), layers.CutMix(num_classes=4)]},
            {"probabilities": [1.0]},
            {"probabilities": [1.0, -1.0]},
            {"probabilities": [0.0, 0.0]},
            {"probabilities": [1.0, float("nan")]},
            {"probabilities": "even"},
            {"mode": "image"},
        ],
        channels_first={
            "layers": [layers.MixUp(0.4, num_classes=CLASSES, **FIRST), layers.CutMix(num_classes=CLASSES, **FIRST)]
        },
    ),
    augmentation(
        layers.RandomChoice,
        lambda: {
            "layers": [layers.RandomErasing(1.0, fill=0.5), layers.RandomPadCrop(2, fill_value=0.3)],
            "mode": "batch",
            "seed": 1,
        },
        channels_first={
            "layers": [
                layers.RandomErasing(1.0, fill=0.5, **FIRST),
                layers.RandomPadCrop(2, fill_value=0.3, **FIRST),
            ]
        },
        id="RandomChoice of single-image layers",
    ),
    augmentation(
        layers.RandomApply,
        lambda: {"layer": layers.RandomErasing(1.0, fill="channel_noise"), "rate": 0.6, "seed": 1},
        [*BAD_RATE, *BAD_SEED, *BAD_FORMAT, {"layer": None}, {"layer": "erase"}, {"layer": [layers.MixUp()]}],
        channels_first={"layer": layers.RandomErasing(1.0, fill="channel_noise", **FIRST)},
    ),
    augmentation(
        layers.Pipeline,
        lambda: {
            "layers": [layers.RandomPadCrop(2), layers.RandomErasing(0.9), layers.MixUp(0.4, num_classes=CLASSES)],
            "seed": 1,
        },
        [*BAD_SEED, *BAD_FORMAT, {"layers": []}, {"layers": None}, {"layers": [str]}, {"layers": layers.MixUp}],
        channels_first={
            "layers": [
                layers.RandomPadCrop(2, **FIRST),
                layers.RandomErasing(0.9, **FIRST),
                layers.MixUp(0.4, num_classes=CLASSES, **FIRST),
            ]
        },
    ),
    augmentation(
        layers.RandomAffine,
        {
            "rotation": (-20, 40),
            "translation": 0.2,
            "zoom": (-0.2, 0.5),
            "shear": 0.1,
            "rate": 0.9,
            "interpolation": "nearest",
            "fill_mode": "reflect",
            "fill_value": 0.5,
            "mask_fill": 3,
            "bounding_box_format": "xywh",
            "seed": 1,
        },
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            *({name: value} for name in ("rotation", "translation", "zoom", "shear") for value in BAD_SPANS),
            {"rotation": 361},
            {"translation": (-1.5, 0)},
            {"zoom": 1},
            {"zoom": (-1, 0.5)},
            {"zoom": (0, 10)},
            {"shear": 1.5},
            {"interpolation": "cubic"},
            {"fill_mode": "wrap"},
            {"fill_value": "black"},
            {"mask_fill": None},
            {"bounding_box_format": "xxyy"},
        ],
    ),
    augmentation(
        layers.RandomFlip,
        {"mode": "horizontal_and_vertical", "rate": 0.4, "bounding_box_format": "rel_xyxy", "seed": 1},
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            *({"mode": value} for value in ("both", None, True, ["horizontal"])),
            {"bounding_box_format": "xxyy"},
        ],
    ),
    augmentation(
        layers.ColorJitter,
        {
            "brightness": 0.4,
            "contrast": (-0.2, 0.6),
            "saturation": 0.5,
            "hue": 0.1,
            "rate": 0.9,
            "value_range": (0, 1),
            "seed": 1,
        },
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            *({name: value} for name in ("brightness", "contrast", "saturation", "hue") for value in BAD_SPANS),
            {"brightness": 1.5},
            {"contrast": (-1.5, 0)},
            {"saturation": (0, 10)},
            {"hue": 0.6},
            {"value_range": (1, 0)},
            {"value_range": (1, 1)},
            {"value_range": (0, float("inf"))},
            {"value_range": 255},
        ],
    ),
    augmentation(
        layers.RandAugment,
        {**POLICY, "num_ops": 1, "magnitude": 5, "num_magnitude_bins": 11, "operations": ["rotate", "color"]},
        [*BAD_POLICY, {"num_ops": 0}, {"num_ops": 1.5}, {"magnitude": 11}, {"magnitude": -1}],
    ),
    augmentation(
        layers.AutoAugment,
        {**POLICY, "policy": [[["rotate", 0.5, 9], ["color", 1.0, 3]], [["invert", 1.0, None]]]},
        [
            *(arguments for arguments in BAD_POLICY if not {"operations", "num_magnitude_bins"} & set(arguments)),
            *({"policy": value} for value in ("mnist", None, [], [[]], [["rotate", 0.5, 9]], 3)),
            *(
                {"policy": [[operation]]}
                for operation in (
                    ["turn", 0.5, 9],
                    ["rotate", 1.5, 9],
                    ["rotate", 0.5, 10],
                    ["rotate", 0.5, None],
                    ["rotate", 0.5],
                )
            ),
        ],
    ),
    augmentation(
        layers.AugMix,
        {
            **{name: value for name, value in POLICY.items() if name not in ("mask_fill", "bounding_box_format")},
            "severity": 5,
            "width": 2,
            "depth": 1,
            "alpha": 0.5,
            "interpolation": "nearest",
            "operations": ["rotate", "color"],
        },
        [
            *(bad for bad in BAD_POLICY if not {"mask_fill", "bounding_box_format", "num_magnitude_bins"} & set(bad)),
            *({"severity": value} for value in (0, 11, 1.5)),
            *({"width": value} for value in (0, 1.5)),
            *({"depth": value} for value in (0, -2, 1.5)),
            *({"alpha": value} for value in (0, -1, "one", None)),
        ],
    ),
    augmentation(
        layers.TrivialAugmentWide,
        {**POLICY, "num_magnitude_bins": 7, "operations": ["shear_x", "contrast"]},
        BAD_POLICY,
    ),
    augmentation(
        layers.RandomSharpness,
        {"sharpness": (-0.5, 3), "rate": 0.9, "value_range": (0, 1), "seed": 1},
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            *({"sharpness": value} for value in (*BAD_SPANS, 1.5, (-1.5, 0), (0, 10))),
            {"value_range": (1, 1)},
        ],
    ),
    augmentation(
        layers.RandomGaussianBlur,
        {"sigma": (0.5, 1.5), "kernel_size": 5, "rate": 0.9, "seed": 1},
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            *({"sigma": value} for value in (-0.1, float("nan"), 101, "some", None, (0.2, 0.1), (0.1,), True)),
            *({"kernel_size": value} for value in (4, 1, -3, 603, 3.0, "large", (3, 3))),
        ],
    ),
    augmentation(
        layers.RandomGaussianNoise,
        {"stddev": 0.2, "rate": 0.9, "clip": (0, 1), "seed": 1},
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_STDDEV,
            *({"clip": value} for value in (1, (1, 0), (0, float("inf")), "range")),
        ],
    ),
    augmentation(layers.RandomGrayscale, {"rate": 0.6, "seed": 1}, [*BAD_RATE, *BAD_SEED, *BAD_FORMAT]),
    augmentation(
        layers.RandomPadCrop,
        {"padding": (2, 3), "rate": 0.9, "fill_mode": "reflect", "mask_fill": 3, "seed": 1},
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            {"padding": -1},
            {"padding": 1.5},
            {"padding": (1, 2, 3)},
            {"padding": None},
            {"fill_mode": "edge"},
            {"fill_value": "black"},
            {"fill_value": float("nan")},
            {"mask_fill": None},
            {"bounding_box_format": "xxyy"},
        ],
    ),
    augmentation(
        layers.RandomResizedCrop,
        {"size": (HEIGHT, WIDTH), "scale": (0.2, 0.9), "ratio": (0.5, 2.0), "seed": 1},
        [
            *BAD_SEED,
            *BAD_FORMAT,
            {"size": 0},
            {"size": (4,)},
            {"size": (4, 4.5)},
            {"size": None},
            {"scale": (0.0, 1.0)},
            {"scale": (0.9, 0.1)},
            {"scale": (0.5, 1.5)},
            {"scale": (0.1, float("nan"))},
            {"ratio": (0.0, 1.0)},
            {"ratio": (2.0, 1.0)},
            {"bounding_box_format": "xxyy"},
        ],
    ),
    augmentation(
        layers.PCAColorJitter,
        {
            "stddev": 0.3,
            "rate": 0.9,
            "stddevs": [0.3, 0.2, 0.1],
            "eigenvectors": [[1.0, 0.0, 0.0], [0.0, 0.6, -0.8], [0.0, 0.8, 0.6]],
            "value_range": (0.0, 1.0),
            "seed": 1,
        },
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            *({"stddev": value} for value in (-0.1, float("nan"), float("inf"), "some", None)),
            {"stddevs": [1.0, 1.0]},
            {"stddevs": None},
            {"stddevs": [1.0, -1.0, 1.0]},
            {"eigenvectors": None},
            {"eigenvectors": [[1.0, 0.0], [0.0, 1.0]]},
            {"eigenvectors": "components"},
            {"value_range": (1, 0)},
            {"value_range": (0.0, float("nan"))},
        ],
    ),
    augmentation(
        layers.LabelNoise,
        {"rate": 0.8, "num_classes": CLASSES, "seed": 1},
        [*BAD_RATE, *BAD_CLASSES, {"num_classes": 1}, *BAD_SEED],
        forms=("pair", "triple", "dict"),
    ),
    # Stochastic regularizers.
    layer(
        layers.NoisyBatchNormalization,
        {"stddev": 0.3, "noise": "output", "momentum": 0.9, "seed": 1},
        [*BAD_STDDEV, *BAD_SEED, {"noise": "gaussian"}, {"virtual_batch_size": 1}, {"virtual_batch_size": 2.5}],
    ),
    layer(
        layers.NoisyBatchNormalization,
        {"noise": "statistics", "virtual_batch_size": 3, "epsilon": 0.01, "seed": 1},
        [{"virtual_batch_size": value} for value in (None, 0, 1, "few")],
        id="NoisyBatchNormalization of statistics",
    ),
    layer(
        layers.GhostBatchNormalization,
        {"virtual_batch_size": 3, "momentum": 0.9},
        [{"virtual_batch_size": value} for value in (0, -1, 2.5, "few", None)],
        random=False,
    ),
    layer(
        layers.DropPath,
        {"rate": 0.6, "mode": "sample", "seed": 1},
        [*BAD_RATE, *BAD_SEED, *({"mode": value} for value in ("row", None, 1))],
    ),
    layer(
        layers.DropBlock2D,
        {"rate": 0.4, "block_size": (4, 3), "per_channel": False, "seed": 1},
        [
            *BAD_RATE,
            *BAD_SEED,
            *BAD_FORMAT,
            *({"block_size": value} for value in (0, -1, 2.5, (3,), (3, 0), (3, 2.5), (3, 3, 3), True, None)),
            {"per_channel": "yes"},
        ],
    ),
    layer(
        layers.DropConnect,
        lambda: {"layer": keras.layers.Conv2D(4, 3), "rate": 0.4, "seed": 1},
        [*BAD_RATE, *BAD_SEED, {"layer": None}, {"layer": "dense"}, {"dtype": "float64"}],
    ),
    layer(
        layers.WeightNoise,
        lambda: {"layer": keras.layers.Dense(4), "stddev": 0.3, "seed": 1},
        [*BAD_STDDEV, *BAD_SEED, {"layer": None}],
        inputs=features,
    ),
    layer(
        layers.FractionalMaxPooling2D,
        {"pool_ratio": (1.4, 1.2), "pseudo_random": False, "overlapping": True, "seed": 1},
        [
            *BAD_SEED,
            *BAD_FORMAT,
            *({"pool_ratio": value} for value in (0.9, 2.1, (1.5,), (1.5, 3.0), "half", None)),
            {"pseudo_random": "yes"},
            {"overlapping": 2},
        ],
    ),
    # Losses and models.
    Case(
        losses.LabelSmoothingCrossentropy,
        {"label_smoothing": 0.2, "from_logits": True, "class_weight": [1.0, 2.0, 0.5, 1.0], "name": "smoothed"},
        "loss",
        bad=[
            *({"label_smoothing": value} for value in (-0.1, 1.0, float("nan"), "some", None)),
            {"from_logits": "yes"},
            {"class_weight": [1.0, -1.0, 1.0, 1.0]},
            {"class_weight": "even"},
            {"prior": [0.5, 0.6]},
            {"prior": [0.5, float("nan")]},
            {"axis": 1.5},
            {"ignore_class": 0.5},
        ],
        inputs=classes_and_logits,
    ),
    Case(
        training.RegularizedModel,
        lambda: {"model": small_network(), "augmentation": layers.CutMix(0.7, seed=1), "augmented_input": 0},
        "model",
        bad=[{"model": None}, {"model": "resnet"}, {"augmentation": "cutmix"}, {"augmented_input": 0.5}],
    ),
    Case(
        training.SharpnessAware,
        {"rho": 0.1, "adaptive": True, "every": 2, "eta": 0.1},
        "value",
        bad=[
            *({"rho": value} for value in (-0.1, float("nan"), "some", None)),
            {"adaptive": "no"},
            {"every": 0},
            {"every": 1.5},
            {"eta": -1},
        ],
    ),
    Case(training.Penalty, {"weight": 0.5}, "value", bad=[{"weight": -1.0}, {"weight": "some"}]),
    Case(
        training.ConfidencePenalty,
        {"weight": 0.5, "from_logits": True},
        "value",
        bad=[{"weight": -1.0}, {"weight": None}, {"from_logits": "yes"}],
    ),
    Case(
        training.ConsistentDropout,
        {"weight": 0.5, "divergence": keras.losses.mean_squared_error, "from_logits": True},
        "value",
        bad=[{"weight": -1.0}, {"divergence": "kl"}, {"from_logits": 2}],
    ),
    Case(
        training.VirtualAdversarial,
        {"epsilon": 0.5, "iterations": 2, "xi": 0.1, "weight": 0.5, "from_logits": True, "seed": 1},
        "value",
        bad=[
            *({"epsilon": value} for value in (0, -1.0, float("nan"), None)),
            {"iterations": 0},
            {"iterations": 1.5},
            {"xi": 0.0},
            {"weight": -1.0},
            {"divergence": "kl"},
            {"from_logits": "yes"},
            {"seed": "one"},
        ],
    ),
    Case(
        training.JensenShannonConsistency,
        lambda: {"augmentation": layers.AugMix(value_range=(0, 1), seed=1), "weight": 0.5, "from_logits": True},
        "value",
        bad=[
            *({"augmentation": value} for value in (None, "AugMix", layers.MixUp())),
            {"weight": -1.0},
            {"from_logits": "yes"},
        ],
    ),
    # Metrics.
    Case(
        metrics.ExpectedCalibrationError,
        {"bins": 10, "from_logits": True, "name": "calibration"},
        "value",
        bad=[*({"bins": value} for value in (0, 1.5, None, "ten")), {"from_logits": "yes"}],
    ),
    # Inference.
    Case(
        inference.MonteCarlo,
        lambda: {
            "model": small_network(dropout=0.5),
            "samples": 3,
            "random_layers": "dropout",
            "from_logits": True,
            "seed": 1,
        },
        "inference",
        bad=[
            *({"model": value} for value in (None, "resnet50", keras.Sequential([keras.layers.Dense(3)]))),
            *({"samples": value} for value in (1, 2.5, "many", None)),
            *({"random_layers": value} for value in ("noise", "flips", [], None, ["flatten"], [1])),
            {"from_logits": "yes"},
            *BAD_SEED,
        ],
    ),
    Case(
        inference.TestTimeAugmentation,
        lambda: {
            "model": small_network(),
            "views": inference.flips("horizontal_and_vertical"),
            "merge": "logits",
            "from_logits": True,
            "data_format": "channels_last",
        },
        "inference",
        bad=[
            *({"model": value} for value in (None, "resnet50", keras.Sequential([keras.layers.Dense(3)]))),
            *({"views": value} for value in (None, "flips", [], keras.layers.Dense(3), layers.MixUp())),
            {"views": layers.RandomFlip()},
            {"merge": "sum"},
            *({"samples": value} for value in (0, 1.5, 3)),
            {"from_logits": "yes"},
            *BAD_FORMAT,
        ],
        random=False,
    ),
    # Callbacks.
    Case(
        callbacks.SmoothedEarlyStopping,
        {"monitor": "val_loss", "smoothing": "mean", "window": 3, "patience": 2},
        "callback",
        bad=[{"smoothing": "lowess"}, {"window": 0}, {"patience": -1}, {"mode": "up"}],
    ),
    Case(
        callbacks.ExponentialLR,
        {"gamma": 0.5, "warmup_epochs": 1},
        "callback",
        bad=[{"gamma": 0.0}, {"gamma": -1.0}, {"warmup_epochs": -1}],
    ),
    Case(
        callbacks.DivergenceStop,
        {"factor": 100.0},
        "callback",
        bad=[{"factor": 0.5}, {"factor": float("nan")}, {"per": "batch"}],
    ),
    Case(
        callbacks.GradientHistograms,
        {"every": 2, "bins": 16, "include": "*kernel"},
        "callback",
        bad=[{"every": 0}, {"every": "step"}, {"bins": 9}, {"include": 1}, {"probe": 1}],
    ),
    Case(
        callbacks.StrengthSchedule,
        lambda: {"schedule": lambda epoch: epoch / 2, "layers": [layers.DropPath(keras_reg.Strength(0.2))]},
        "callback",
        bad=[{"schedule": 0.5}, {"schedule": None}],
    ),
    Case(
        callbacks.SnapshotEnsemble,
        {"cycles": 2},
        "callback",
        bad=[*({"cycles": value} for value in (0, 1.5, "2", None)), {"initial_learning_rate": 0}, {"verbose": "yes"}],
    ),
    Case(
        callbacks.WeightAverage,
        {"kind": "swa", "decay": 0.9, "start": 1, "every": "epoch", "data": images(8), "swap": "validation"},
        "callback",
        bad=[
            *({"decay": value} for value in (-0.1, 1.0, float("nan"), "slow")),
            *({"start": value} for value in (-1, 0.5)),
            {"kind": "mean"},
            {"every": 2},
            {"warmup": "yes"},
            {"swap": "always"},
            {"update_batch_normalization": "yes"},
            {"update_batch_normalization": True, "data": None},
        ],
    ),
    # Transfer.
    Case(
        transfer.Phase,
        {"name": "top", "epochs": 3, "unfreeze": ["block4*", "block5*"], "batch_norm": True},
        "tool",
        bad=[
            *({"name": value} for value in ("", None, 3)),
            *({"epochs": value} for value in (0, -1, 1.5, "ten", None)),
            *({"unfreeze": value} for value in (0, -2, 1.5, "", [], [1])),
            *({"optimizer": value} for value in (3, keras.optimizers.Adam)),
            *({"layer_decay": value} for value in (0, 1.1, "some", float("nan"))),
            {"layer_decay": 0.5, "unfreeze": None},
            *({"cache_features": value} for value in ("", 3, None, True, "folder")),
            *({"callbacks": value} for value in (3, [3], [keras.callbacks.BackupAndRestore("folder")])),
        ],
    ),
    Case(
        transfer.TransferLearner,
        lambda: {
            "backbone": small_network(),
            "head": [keras.layers.Dense(2)],
            "preprocess": keras.layers.Rescaling(1 / 255),
            "augmentation": layers.CutMix(0.7, seed=1),
            "loss": "mse",
        },
        "tool",
        bad=[
            *({"backbone": value} for value in (None, "resnet50", keras.layers.Dense(3), keras.Sequential())),
            *({"head": value} for value in (0, -1, 2.5, None, [], ["dense"])),
            *({"preprocess": value} for value in (3, "caffe", "auto")),
            {"augmentation": "cutmix"},
            {"loss": None},
        ],
    ),
]


def cases(*kinds):
    """The rows of some kinds, for `@pytest.mark.parametrize("case", cases("layer"), ids=name)`."""
    return [case for case in CASES if not kinds or case.kind in kinds]


def name(case):
    """For `ids=name`."""
    return case.name if isinstance(case, Case) else str(case)
