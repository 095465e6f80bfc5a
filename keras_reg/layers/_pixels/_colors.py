"""Changes of colors. Images have three channels, red, green and blue, along one axis, and values in [0, 1]."""

from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.layers._batch._shapes import number_of_channels

WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in the brightness of a pixel: ITU-R BT.601, as in Pillow


def check_rgb(batch, data_format, layer):
    """Checks that images have three channels."""
    if number_of_channels(batch, data_format, layer) not in (None, 3):
        fail(f"`{layer}` expects images with 3 channels: red, green and blue.", shape=tuple(batch.images.shape))


def channel_axis(data_format):
    return -1 if data_format == "channels_last" else 1


def channels(images, axis):
    """Returns red, green and blue, each with one channel."""
    return tuple(images[..., i : i + 1] if axis == -1 else images[:, i : i + 1] for i in range(3))


def gray(images, axis):
    """Returns the brightness of each pixel, with one channel."""
    red, green, blue = channels(images, axis)
    return WEIGHTS[0] * red + WEIGHTS[1] * green + WEIGHTS[2] * blue


def blended_within(images, other, share, ops):
    """Returns share * images + (1 - share) * other, clipped to [0, 1]. The share may be larger than 1."""
    return ops.clip(other + share * (images - other), 0.0, 1.0)


def mean_gray(images, axis, ops):
    """Returns the mean brightness of each image, in an array with one pixel per image.

    It averages along the columns first, which compilers vectorize, unlike a sum over three interleaved channels.
    """
    rows = 1 if axis == -1 else 2
    return ops.mean(gray(ops.mean(images, axis=rows, keepdims=True), axis), axis=rows + 1, keepdims=True)


def turned_hue(images, turn, axis, ops):
    """Turns the hue by a share of the color circle. The largest and the smallest channel of a pixel keep their values.

    In the circle of six segments, a channel is at its maximum for two segments around its own color, and falls and
    rises in one segment on each side.
    """
    red, green, blue = channels(images, axis)
    most = ops.maximum(ops.maximum(red, green), blue)
    spread_of_colors = most - ops.minimum(ops.minimum(red, green), blue)
    # No comparison with `most`: XLA may compute the channels twice and round them differently. Products and sums of the
    # comparisons take NumPy a fifth of the time of `where`, whose branches cannot be predicted.
    dtype = dtype_of(images)
    is_red = ops.cast((red >= green) & (red >= blue), dtype)
    is_green = (1.0 - is_red) * ops.cast(green >= blue, dtype)
    is_blue = 1.0 - is_red - is_green
    difference = is_red * (green - blue) + is_green * (blue - red) + is_blue * (red - green)
    segment = difference / (spread_of_colors + ops.cast(spread_of_colors == 0, dtype))
    segment = segment + (2.0 * is_green + 4.0 * is_blue)
    own = ops.cast(ops.convert_to_tensor([5.0, 3.0, 1.0]), dtype)
    away = ops.reshape(own, (1, 1, 1, 3) if axis == -1 else (1, 3, 1, 1)) + (segment + 6.0 * turn)
    away = away - 6.0 * ops.floor(away * (1.0 / 6.0))  # much faster than `ops.mod`
    return most - spread_of_colors * ops.clip(ops.minimum(away, 4.0 - away), 0.0, 1.0)
