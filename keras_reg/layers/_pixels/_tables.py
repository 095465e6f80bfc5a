"""Tables of new levels, 256 numbers per image and channel."""

import functools

import numpy as np

from keras_reg.layers._pixels._extremes import largest, smallest


def stretched(levels, axes, place):
    """Returns the levels of each image and channel, stretched to the range from 0 to 255, as in torchvision.

    The arguments are those of `equalized`. A channel of one level stays.
    """
    ops = place.ops
    least, last = extremes(levels, axes, place)
    table = ops.convert_to_tensor(_stretched_levels().reshape(-1))
    found = place.entries(table, (last - least) * 256 + (levels - least))
    return ops.where(last > least, found, levels)


def extremes(values, axes, place):
    """Returns the least and the largest value of each image and channel, in arrays with one pixel per image.

    If the channels are last, rows are compared first: over both axes at once, NumPy takes fifty times as long.
    """
    steps = [axes] if axes == (2, 3) or place.starts_slowly else [(axis,) for axis in axes]
    found = []
    for extreme in (smallest, largest):
        reduced = values
        for step in steps:
            reduced = extreme(reduced, step, place.ops)
        found.append(reduced)
    return found


@functools.cache
def _stretched_levels():
    """Returns the new level for each range of levels and each distance from the least one, int32 (256, 256).

    torchvision divides in float32 and cuts decimals off. Not every framework rounds divisions correctly, so that they
    are not left to the frameworks.
    """
    width = np.maximum(np.arange(256, dtype="float32")[:, None], 1)
    return np.minimum(np.arange(256, dtype="float32") / (width * np.float32(1 / 255)), 255).astype("int32")


def equalized(levels, axes, place):
    """Returns the levels after histogram equalization of each image and channel, as in Pillow.

    Args:
        levels: Integers from 0 to 255, int32 of shape (batch, ...).
        axes: The two axes of rows and columns.
        place: The `Place` where the levels live.
    """
    ops, shape = place.ops, place.ops.shape(levels)
    channel = next(axis for axis in (1, 3) if axis not in axes)
    count, channels = shape[0], shape[channel]
    # The number of the first entry of the table for each pixel.
    starts = ops.arange(0, count * channels * 256, 256, dtype="int32")
    starts = ops.reshape(starts, [count, *(channels if axis == channel else 1 for axis in (1, 2, 3))])
    index = ops.reshape(starts + levels, [-1])
    counts = place.frequencies(index, count * channels * 256)
    table = _table_of(ops.reshape(counts, [count * channels, 256]), shape[axes[0]] * shape[axes[1]], ops)
    return ops.reshape(place.entries(ops.reshape(table, [-1]), index), shape)


def _table_of(counts, pixels, ops):
    """Returns the tables of histograms (n, 256) that each count this number of pixels."""
    through = ops.cumsum(counts, axis=-1)
    # Pixels at the largest level are not counted. If too few are left, the image stays.
    step = largest(ops.where(through < pixels, through, 0), -1, ops) // 255
    below = through - counts
    found = ops.minimum((below + step // 2) // ops.maximum(step, 1), 255)
    same = ops.expand_dims(ops.arange(0, 256, dtype="int32"), 0)
    return ops.where(step > 0, found, same)
