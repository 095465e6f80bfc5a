"""Blurs images with a Gaussian kernel of their own, first along the rows, then along the columns."""

from keras_reg.layers._batch._forms import at_least_float32, dtype_of
from keras_reg.layers._pixels._rounding import as_pixels
from keras_reg.layers._pixels._rows import Rows


def blurred(array, sigmas, radius, place, data_format):
    """Returns the images, convolved with a Gaussian kernel. Images are mirrored at the border, without repeating it.

    Args:
        array: The images.
        sigmas: The standard deviation of the kernel of each image, in pixels, (batch,). 0 leaves an image as it is.
        radius: The number of pixels on each side of the center of the kernel.
        place: The `Place` where the images live.
        data_format: "channels_last" or "channels_first".
    """
    rows, ops, dtype = Rows(array, place, data_format), place.ops, dtype_of(array)
    if any(isinstance(size, int) and size == 0 for size in rows.sizes):
        return array  # without pixels
    axis, step = 2 if rows.channels_first else 1, rows.shape[3] if rows.joined else 1
    wide = at_least_float32(dtype)
    weights = [rows.of_images(ops.cast(weight, wide)) for weight in _weights(sigmas, radius, ops)]
    pixels = _blurred_along(rows.pixels, axis, rows.sizes[0], 1, weights, wide, place)
    pixels = _blurred_along(pixels, axis + 1, rows.sizes[1], step, weights, wide, place)
    blur = as_pixels(pixels, dtype, ops)
    return rows.restore(ops.where(rows.of_images(sigmas) > 0, blur, rows.pixels))


def _weights(sigmas, radius, ops):
    """Returns the weight of the center and of the pixels at distances 1 to `radius`, each (batch,). Their sum is 1."""
    sigmas = ops.where(sigmas > 0, sigmas, 1.0)
    others = [ops.exp(-0.5 * ops.square(distance / sigmas)) for distance in range(1, radius + 1)]
    total = 1.0 + 2.0 * sum(others)
    return [1.0 / total, *(other / total for other in others)]


def _blurred_along(pixels, axis, size, step, weights, dtype, place):
    """Returns the weighted sum of the pixels at all distances along an axis. A step is the distance of two pixels."""
    radius, ops = len(weights) - 1, place.ops
    index = _mirrored(size, radius, ops)
    if step != 1:  # the channels of a pixel stay together
        index = ops.expand_dims(index * step, 1) + ops.arange(0, step, dtype="int32")
        index = ops.reshape(index, [(size + 2 * radius) * step])
    (padded,) = place.computed_once(ops.cast(ops.take(pixels, index, axis=axis), dtype))

    def shifted(distance):
        start = (radius + distance) * step
        return padded[(slice(None),) * axis + (slice(start, start + size * step),)]

    total = weights[0] * shifted(0)
    for distance, weight in enumerate(weights[1:], 1):
        total = total + weight * (shifted(-distance) + shifted(distance))
    return total


def _mirrored(size, radius, ops):
    """Returns the pixels that an image shows from `radius` pixels before it to `radius` pixels behind it."""
    index = ops.arange(-radius, size + radius, dtype="int32")
    period = ops.maximum(2 * size - 2, 1)
    index = ops.mod(index, period)
    return ops.minimum(index, period - index)
