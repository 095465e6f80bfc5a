"""Blurs and sharpens images on the host: a few rows at a time, in buffers that stay in the cache.

Along the columns, the rows of an image are one long vector, so that NumPy works on thousands of numbers at a time. What
is computed from the end of one row and the start of the next one is not used.
"""

import numpy as np

from keras_reg._dtypes import at_least_float32, dtype_of, is_float
from keras_reg.layers._pixels._blur import mirrored
from keras_reg.layers._pixels._in_cache import by_planes
from keras_reg.layers._pixels._rounding import as_pixels
from keras_reg.layers._pixels._sharpness import CENTER

AT_ONCE = 2**16  # the numbers of a buffer


def blurred_on_host(array, sigmas, weights, channels_first, ops):
    """Returns the images, convolved with a Gaussian kernel. The arguments are those of `blurred`."""
    dtype = dtype_of(array)
    wide, radius = at_least_float32(dtype), len(weights) - 1

    def blur(planes, out, step, *weights):
        height, width = planes.shape[1], planes.shape[2] // step
        shown = mirrored(-radius, height + 2 * radius, height, 1, ops)
        left, right = (mirrored(start, radius, width, step, ops) for start in (-radius, width))
        weights = [weight.astype(wide).reshape(-1, 1, 1) for weight in weights]
        for top, bottom in _bands(planes, 0, height):
            pixels = planes[:, shown[top : bottom + 2 * radius]].astype(wide, copy=False)
            down = _weighted_sum(pixels.reshape(len(pixels), 1, -1), planes.shape[2], weights)
            down = down.reshape(len(pixels), bottom - top, -1)
            lines = np.concatenate([down[:, :, left], down, down[:, :, right]], axis=2)
            across = np.empty(lines.shape, wide)
            sums = _weighted_sum(lines.reshape(len(lines), 1, -1), step, weights)
            across.reshape(len(lines), 1, -1)[:, :, : sums.shape[2]] = sums
            out[:, top:bottom] = as_pixels(across[:, :, : width * step], dtype, ops)

    return by_planes(blur, array, sigmas > 0, channels_first, AT_ONCE, *weights)


def _weighted_sum(lines, step, weights):
    """Returns the sum of the numbers at all distances along the last axis. A step is the distance of two pixels."""
    radius = len(weights) - 1
    length = lines.shape[2] - 2 * radius * step

    def shifted(distance):
        return lines[:, :, (radius + distance) * step :][:, :, :length]

    total = weights[0] * shifted(0)
    pair = np.empty(total.shape, total.dtype)
    for distance, weight in enumerate(weights[1:], 1):
        np.add(shifted(-distance), shifted(distance), out=pair)
        np.multiply(weight, pair, out=pair)
        np.add(total, pair, out=total)
    return total


def sharpened_on_host(array, factors, value_range, channels_first, ops):
    """Returns the images, blended with smoothed ones. The arguments are those of `sharpened`."""
    dtype, whole = dtype_of(array), not is_float(array)
    wide = at_least_float32(dtype)
    low, high = map(float, value_range)

    def sharpen(planes, out, step, factors):
        out[...] = planes
        height, length = planes.shape[1:]
        if height < 3 or length < 3 * step:
            return
        given = (1.0 - factors.astype(wide)).reshape(-1, 1)
        for top, bottom in _bands(planes, 1, height - 1):
            pixels = planes[:, top - 1 : bottom + 1].astype(wide, copy=False)
            down = pixels[:, :-2] + pixels[:, 1:-1]
            down += pixels[:, 2:]
            rows, center = down.reshape(len(down), -1), pixels[:, 1:-1].reshape(len(down), -1)
            center = center[:, step:-step]
            result = np.empty(rows.shape, wide)
            smooth = result[:, step:-step]
            np.add(rows[:, : -2 * step], rows[:, step:-step], out=smooth)
            smooth += rows[:, 2 * step :]
            smooth += (CENTER - 1.0) * center
            smooth *= 1.0 / (CENTER + 8.0)
            if whole:
                np.rint(smooth, out=smooth)
            smooth -= center
            smooth *= given
            smooth += center
            np.clip(smooth, low, high, out=smooth)
            if whole:
                np.floor(smooth, out=smooth)
            blend = result.reshape(down.shape)[:, :, step:-step]
            np.copyto(out[:, top:bottom, step:-step], blend, casting="unsafe")

    return by_planes(sharpen, array, factors != 1, channels_first, AT_ONCE, factors)


def _bands(planes, first, end):
    """Yields where bands of rows begin and end, so that those of all planes fit into a buffer."""
    rows = max(1, AT_ONCE // max(1, planes[:, :1].size))
    for top in range(first, end, rows):
        yield top, min(top + rows, end)
