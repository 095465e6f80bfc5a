"""Changes of colors. Images have three channels, red, green and blue, along one axis, and values in [0, 1]."""

from keras_reg._validation import fail
from keras_reg.layers._batch._forms import static

WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in the brightness of a pixel: ITU-R BT.601, as in Pillow


def check_rgb(batch, data_format, layer):
    """Checks that images have three channels."""
    if static(batch.images, channel_axis(data_format)) not in (None, 3):
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
