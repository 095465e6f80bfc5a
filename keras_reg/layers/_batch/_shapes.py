"""Questions about the shapes and axes of images, maps and labels."""

import keras

from keras_reg._validation import fail


def one_number_each(array):
    """Whether labels have one number per sample, (batch,) or (batch, 1), like class ids."""
    return len(array.shape) == 1 or (len(array.shape) == 2 and static(array, 1) == 1)


def static(array, axis):
    """Returns the size of an axis if it is known statically, or `None`."""
    size = array.shape[axis]
    return size if isinstance(size, int) else None


def number_of_channels(batch, data_format, layer):
    """Returns the number of channels of the images, and refuses images if nobody knows it.

    It is `None` for videos without frames, or of unknown length, whose frames lie along the axis of the channels.
    `layer` is the name for the message.
    """
    channels = static(batch.images, -1 if data_format == "channels_last" else -3)
    if channels is None and isinstance(batch.frames, int):
        fail(
            f"`{layer}` needs a known number of channels. Decode images with `channels=3`, or set the shape with "
            "`tf.ensure_shape`.",
            shape=tuple(batch.images.shape),
        )  # fmt: skip
    return channels // batch.frames if channels is not None and batch.frames else None


def spec_of(shape, dtype):
    """Returns a specification with a fixed name.

    Keras numbers unnamed specifications, and torch.compile would recompile for each number.
    """
    return keras.KerasTensor(shape, dtype, name="spec")


def spatial_axes(data_format, kind="image"):
    """Returns the axes of time, rows and columns, of those that this kind of sample has."""
    first = 1 if data_format == "channels_last" else 2
    return tuple(range(first, first + {"signal": 1, "image": 2, "video": 3}[kind]))


def channels_first(array, data_format):
    """Whether channels come first. Maps may have no channels."""
    return len(array.shape) == 4 and data_format == "channels_first"


def height_width(images, data_format, ops):
    shape = ops.shape(images)
    return tuple(shape[axis] for axis in spatial_axes(data_format))


def is_map(array, images, data_format):
    """Whether labels are a dense map, with one label per pixel of the images."""
    rank = len(array.shape)
    if rank < 3 or not hasattr(images, "shape") or len(images.shape) != 4:
        return False
    axes = spatial_axes(data_format) if rank == 4 else (1, 2)
    of_images = spatial_axes(data_format)
    return all(
        static(array, axis) in (None, static(images, of_image)) or static(images, of_image) is None
        for axis, of_image in zip(axes, of_images, strict=True)
    )


def spread(values, like, ops):
    """Reshapes (batch,) to (batch, 1, ..., 1), to broadcast over an array with the rank of `like`."""
    return ops.reshape(values, [-1] + [1] * (len(like.shape) - 1))
