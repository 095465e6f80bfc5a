"""The operations of the policies, and how strong each of them is: the numbers of torchvision."""

from typing import NamedTuple

import numpy as np

from keras_reg._validation import fail, native

MOVING = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDING = ("brightness", "color", "contrast", "sharpness")
SIGNED = (*MOVING, *BLENDING)  # the direction of these operations is drawn
ALWAYS = ("identity", *MOVING, *BLENDING, "posterize", "solarize", "auto_contrast", "equalize")
OPERATIONS = (*ALWAYS, "invert")
WITHOUT_MAGNITUDE = ("identity", "auto_contrast", "equalize", "invert")


class Space(NamedTuple):
    """The largest magnitude of each operation.

    Attributes:
        shear: Shift from one row or column to the next, in pixels.
        translation: Shift of the image, in pixels or as a share of its width or height.
        rotation: Angle in degrees.
        blend: Change of brightness, color, contrast and sharpness.
        bits: The bits that "posterize" keeps at the smallest and at the largest magnitude.
        by_share: Whether `translation` is a share.
    """

    shear: float
    translation: float
    rotation: float
    blend: float
    bits: tuple[int, int]
    by_share: bool = True


NARROW = Space(0.3, 150 / 331, 30, 0.9, (8, 4))  # AutoAugment and RandAugment
WIDE = Space(0.99, 32, 135, 0.99, (8, 2), by_share=False)  # TrivialAugmentWide
MIXED = Space(0.3, 1 / 3, 30, 0.9, (4, 0))  # AugMix


def check_operations(operations):
    """Returns a list of different names of operations, or `None`, after checking it."""
    names = native(operations)
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or not names or any(name not in OPERATIONS for name in names):
        fail(f"`operations` must be a list of names from {OPERATIONS}, or None.", operations=operations)
    if len(set(names)) < len(names):
        fail("`operations` must not name an operation twice.", operations=operations)
    return names


def magnitudes(names, space, bins, size, whole, ops):
    """Returns the magnitudes of each operation in rising order, float32 (operations * bins,).

    Args:
        names: The operations.
        space: A `Space`.
        bins: The number of magnitudes.
        size: Height and width of the images.
        whole: Whether pixels are whole numbers up to 255 rather than floats up to 1.
        ops: The operations of the place.
    """
    height, width = size

    def shifts(length):
        length = length if isinstance(length, int) else ops.cast(length, "float32")
        most = space.translation * (length if space.by_share else 1)
        return ops.floor(_rising(ops.cast(most, "float32"), bins, ops))

    def row(name):
        if name in ("translate_x", "translate_y"):
            return shifts(width if name == "translate_x" else height)
        return ops.convert_to_tensor(_constant_row(name, space, bins, whole))

    return ops.concatenate([row(name) for name in names], axis=0)


def _constant_row(name, space, bins, whole):
    steps = np.arange(bins, dtype="float32")
    if name == "posterize":  # the distance of the levels that remain of 256
        first, last = space.bits
        bits = np.round(np.float32(first) - steps / np.float32((bins - 1) / (first - last)))
        return np.exp2(8 - bits).astype("float32")
    if name == "solarize":  # the threshold; the product is exact in float64
        falling = _linear(1.0, 0.0, bins)
        return np.ceil(255 * falling.astype("float64")).astype("float32") if whole else falling
    most = {"rotate": space.rotation, **dict.fromkeys(("shear_x", "shear_y"), space.shear)}
    most.update(dict.fromkeys(BLENDING, space.blend))
    return _linear(0.0, most.get(name, 0.0), bins)


def _linear(start, end, bins):
    """Returns `bins` float32 numbers from `start` to `end`, each computed from the nearer end, as PyTorch does."""
    start, end, steps = np.float32(start), np.float32(end), np.arange(bins, dtype="float32")
    step = (end - start) / np.float32(bins - 1)
    return np.where(steps < bins // 2, start + step * steps, end - step * (bins - 1 - steps)).astype("float32")


def _rising(end, bins, ops):
    """Returns `_linear(0, end, bins)` for an `end` that may be a tensor."""
    steps = np.arange(bins, dtype="float32")
    near, far = (ops.convert_to_tensor(x.astype("float32")) for x in (steps, bins - 1 - steps))
    step = end / float(bins - 1)
    return ops.where(near < float(bins // 2), step * near, end - step * far)


def signs_of(names):
    """Returns for each operation whether its direction is drawn, (operations,)."""
    return np.asarray([name in SIGNED for name in names])
