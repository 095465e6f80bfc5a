"""What the tests of batch augmentations share: the layers, and batches that tell where pixels and labels came from."""

import keras
import numpy as np
from harness import BACKEND, jit, to_numpy
from hypothesis import Phase, settings

from keras_reg import layers

# What the statistics must not fall below. Seeds are fixed, so a test either always passes or always fails; of honest
# ones, one in ten thousand would fail.
LEAST_P = 1e-4

# For tests by hypothesis: the same examples every time, fewer where each is a compilation.
properties = settings(
    max_examples=4 if BACKEND == "jax" else 15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)

# Tables of layers that change every sample, as functions of further arguments. A choice hands them on to its layers.
MIXERS = {
    "MixUp": lambda **k: layers.MixUp(1.0, **k),
    "CutMix": lambda **k: layers.CutMix(1.0, **k),
    "RandomChoice": lambda seed=None, **k: layers.RandomChoice(
        [layers.MixUp(1.0, **k), layers.CutMix(1.0, **k)], mode="sample", seed=seed
    ),
}
AUGMENTATIONS = {
    **MIXERS,
    "RandomErasing": lambda **k: layers.RandomErasing(1.0, **k),
    "PCAColorJitter": lambda **k: layers.PCAColorJitter(0.1, **k),
    "RandomPadCrop": lambda **k: layers.RandomPadCrop(1, **k),
    "RandomResizedCrop": lambda size=(8, 6), **k: layers.RandomResizedCrop(size, **k),
    "LabelNoise": lambda **k: layers.LabelNoise(1.0, **k),
}


def box_formats(height, width):
    """{format: function of (x1, y1, x2, y2) in pixels that writes a box}, for images of this size."""
    formats = {
        "xyxy": lambda x1, y1, x2, y2: (x1, y1, x2, y2),
        "yxyx": lambda x1, y1, x2, y2: (y1, x1, y2, x2),
        "xywh": lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1),
        "center_xywh": lambda x1, y1, x2, y2: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
    }

    def relative(write):
        return lambda x1, y1, x2, y2: write(x1 / width, y1 / height, x2 / width, y2 / height)

    return formats | {f"rel_{name}": relative(formats[name]) for name in ("xyxy", "yxyx", "xywh")}


# Layers that move pixels.
MOVERS = {
    "RandomAffine": lambda: layers.RandomAffine(20, seed=1),
    "RandomFlip": lambda: layers.RandomFlip(seed=1),
    "RandAugment": lambda: layers.RandAugment(operations=["rotate", "invert"], value_range=(0, 1), seed=1),
    "RandomPadCrop": lambda: layers.RandomPadCrop(2, seed=1),
    "RandomResizedCrop": lambda: layers.RandomResizedCrop((4, 4), seed=1),
    "a flip by Keras": lambda: layers.Pipeline([keras.layers.RandomFlip(seed=1)]),
    "a rotation of some": lambda: layers.RandomApply(keras.layers.RandomRotation(0.1, seed=1)),
    "a choice": lambda: layers.RandomChoice(
        [layers.PCAColorJitter(), keras.layers.RandomTranslation(0.1, 0.1, seed=1)]
    ),
}


def augmenter(layer, **options):
    """`layer` as a function from data to NumPy.

    Compiled as a whole on JAX, which otherwise compiles every operation for every shape, for seconds.
    """

    def call(*data):
        return layer(*data, **options)

    call = jit(call, layer) if BACKEND == "jax" else call
    return lambda *data: to_numpy(call(*data))


def augment(layer, *data, **options):
    """One call of `layer`, as NumPy."""
    return augmenter(layer, **options)(*data)


def numbered(count, height=4, width=4, channels=1, dtype="float32"):
    """Images of which each holds its number, counted from 1, in every pixel."""
    return np.ones((count, height, width, channels), dtype) * np.arange(1, count + 1, dtype=dtype)[:, None, None, None]


def coded(count):
    """Labels (count, 2 n) float32: the n binary digits of each sample's number, and their complements."""
    digits = np.arange(count)[:, None] >> np.arange(max(1, (count - 1).bit_length())) & 1
    return np.concatenate([digits, 1 - digits], axis=1).astype("float32")


def decoded(labels):
    """What mixed `coded` labels say: (kept, given, partner), each (count,).

    `kept` is read from digits that the partner does not have and `given` from those that only it has, so both are
    exact however small. Where nothing is given, `partner` is the sample itself.
    """
    own = coded(len(labels)) == 1
    kept = np.where(own, labels, 1).min(axis=1)
    given = np.where(own, 0, labels).max(axis=1)
    flipped = (np.where(own, 0, labels) > 0).reshape(len(labels), 2, -1).any(axis=1)
    partner = np.arange(len(labels)) ^ (flipped << np.arange(flipped.shape[1])).sum(axis=1)
    return kept, given, partner


def boxes_of(region):
    """(top, left, height, width), each (count,), of regions (count, height, width) that must be solid boxes."""
    rows, columns = region.any(axis=2), region.any(axis=1)
    top, left, height, width = rows.argmax(axis=1), columns.argmax(axis=1), rows.sum(axis=1), columns.sum(axis=1)
    row, column = np.ogrid[: region.shape[1], : region.shape[2]]
    down, across = row - top[:, None, None], column - left[:, None, None]
    solid = (down >= 0) & (down < height[:, None, None]) & (across >= 0) & (across < width[:, None, None])
    np.testing.assert_array_equal(region, solid)
    return top, left, height, width


def assert_same_bits(actual, expected):
    """Equal bit for bit, NaN included."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes()
