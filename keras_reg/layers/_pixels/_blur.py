"""Blurs images with a Gaussian kernel of their own, first along the rows, then along the columns."""

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg.layers._pixels._rounding import as_pixels
from keras_reg.layers._pixels._rows import Rows


def blurred(array, sigmas, weights, place, data_format):
    """Returns the images, convolved with a Gaussian kernel. Images are mirrored at the border, without repeating it.

    Args:
        array: The images.
        sigmas: The standard deviation of the kernel of each image, in pixels, (batch,). 0 leaves an image as it is.
        weights: The `gaussian_weights` of these standard deviations.
        place: The `Place` where the images live.
        data_format: "channels_last" or "channels_first".
    """
    rows, ops, dtype = Rows(array, place, data_format), place.ops, dtype_of(array)
    if any(isinstance(size, int) and size == 0 for size in rows.sizes):
        return array  # without pixels
    axis, step = 2 if rows.channels_first else 1, rows.shape[3] if rows.joined else 1
    wide = at_least_float32(dtype)
    weights = [rows.of_images(ops.cast(weight, wide)) for weight in weights]
    pixels = ops.cast(rows.pixels, wide)
    pixels = _convolved(pixels, axis, rows.sizes[0], 1, weights, place)
    (pixels,) = place.computed_once(pixels)
    pixels = _convolved(pixels, axis + 1, rows.sizes[1], step, weights, place)
    blur = as_pixels(pixels, dtype, ops)
    return rows.restore(ops.where(rows.of_images(sigmas) > 0, blur, rows.pixels))


def gaussian_weights(sigmas, radius, ops):
    """Returns the weight of the center and of the pixels at distances 1 to `radius`, each (batch,). Their sum is 1."""
    sigmas = ops.where(sigmas > 0, sigmas, 1.0)
    others = [ops.exp(-0.5 * ops.square(distance / sigmas)) for distance in range(1, radius + 1)]
    total = 1.0 + 2.0 * sum(others)
    return [1.0 / total, *(other / total for other in others)]


def _convolved(pixels, axis, size, step, weights, place):
    """Returns the sum of the pixels at all distances along an axis. `radius` pixels are mirrored at each end.

    Only these are gathered, which is slow. With a compiler, the ends of a long axis are summed apart. So no copy of all
    pixels with their border is made.
    """
    radius, concatenate = len(weights) - 1, place.ops.concatenate

    def part(start, end):
        return pixels[(slice(None),) * axis + (slice(start * step, end * step),)]

    index = (mirrored(start, radius, size, step, place.ops) for start in (-radius, size))
    before, behind = (place.entries(pixels, shown, axis) for shown in index)
    if not (place.fuses and isinstance(size, int) and size > 4 * radius):
        (padded,) = place.computed_once(concatenate([before, pixels, behind], axis=axis))
        return _weighted_sum(padded, axis, size, step, weights)
    first = concatenate([before, part(0, 2 * radius)], axis=axis)
    last = concatenate([part(size - 2 * radius, size), behind], axis=axis)
    parts = (first, radius), (pixels, size - 2 * radius), (last, radius)
    return concatenate([_weighted_sum(padded, axis, count, step, weights) for padded, count in parts], axis=axis)


def mirrored(start, count, size, step, ops):
    """Returns the entries along an axis that the `count` pixels from `start` on show, outside of the image."""
    index = start + ops.arange(0, count, dtype="int32")
    period = ops.maximum(2 * size - 2, 1)
    index = ops.mod(index, period)
    index = ops.minimum(index, period - index)
    if step == 1:
        return index
    # The channels of a pixel stay together.
    return ops.reshape(ops.expand_dims(index * step, 1) + ops.arange(0, step, dtype="int32"), [count * step])


def _weighted_sum(padded, axis, size, step, weights):
    """Returns the sum of the pixels at all distances along an axis, for `size` pixels: those without the border."""
    radius = len(weights) - 1

    def shifted(distance):
        start = (radius + distance) * step
        return padded[(slice(None),) * axis + (slice(start, start + size * step),)]

    total = weights[0] * shifted(0)
    for distance, weight in enumerate(weights[1:], 1):
        total = total + weight * (shifted(-distance) + shifted(distance))
    return total
