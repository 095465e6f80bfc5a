"""Changes the sharpness of images: a blend of each image with a smoothed one, as in Pillow and torchvision."""

from keras_reg._dtypes import at_least_float32, dtype_of, is_float
from keras_reg.layers._pixels._rows import Rows

CENTER = 5.0  # the weight of a pixel in the smoothed image, in which each of its eight neighbors has weight 1


def sharpened(array, factors, value_range, place, data_format, whole=None):
    """Returns factor * image + (1 - factor) * smoothed image, clipped to `value_range`.

    The outermost rows and columns are unchanged. At a factor of 1, the whole image is. As in torchvision, the smoothed
    pixels of integer images are rounded, and the result is rounded down.

    Args:
        array: The images.
        factors: The factor of each image, (batch,).
        value_range: The pair (least, most).
        place: The `Place` where the images live.
        data_format: "channels_last" or "channels_first".
        whole: Whether pixels are whole numbers. The default depends on the dtype.
    """
    rows, ops, dtype = Rows(array, place, data_format), place.ops, dtype_of(array)
    wide, whole = at_least_float32(dtype), not is_float(array) if whole is None else whole
    axis, step = 2 if rows.channels_first else 1, rows.shape[3] if rows.joined else 1
    middle = _part(rows.pixels, axis, 1, -1)
    inner = _part(middle, axis + 1, step, -step)
    pixels, center = ops.cast(rows.pixels, wide), ops.cast(inner, wide)
    around = _sums_of_three(_sums_of_three(pixels, axis, 1), axis + 1, step)
    smooth = (around + (CENTER - 1.0) * center) * (1.0 / (CENTER + 8.0))
    factor = rows.of_images(ops.cast(factors, wide))
    blend = center + (1.0 - factor) * ((ops.round(smooth) if whole else smooth) - center)
    blend = ops.clip(blend, *map(float, value_range))
    blend = ops.where(factor == 1, inner, ops.cast(ops.floor(blend) if whole else blend, dtype))
    blend = _framed(blend, middle, axis + 1, step, ops)
    return rows.restore(_framed(blend, rows.pixels, axis, 1, ops))


def _part(array, axis, start, stop):
    return array[(slice(None),) * axis + (slice(start, stop),)]


def _sums_of_three(array, axis, step):
    """Returns the sum of three neighbors along an axis, for all but the first and the last one."""
    first, second = _part(array, axis, None, -2 * step), _part(array, axis, step, -step)
    return first + second + _part(array, axis, 2 * step, None)


def _framed(inner, array, axis, step, ops):
    """Puts the first and the last entries of `array` along an axis around `inner`."""
    last = _part(_part(array, axis, step, None), axis, -step, None)  # none if there is only one entry
    return ops.concatenate([_part(array, axis, None, step), inner, last], axis=axis)
