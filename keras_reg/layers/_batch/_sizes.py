"""Ranks, sizes and layouts of a batch: what fits, what may be two things, and what looks like another layout."""

import warnings

from keras_reg._validation import fail
from keras_reg.layers._batch._forms import is_integer, leaves, static

CHANNELS = 4  # what an image has at most where nothing else tells an image from a batch of grey ones
FAR = 8  # times as long as the channels: what looks like height and width


def check_sizes(batch, data_format, one_image=False):
    """Ranks, and one batch size for all, as far as they are known; `one_image` is whether it need not be a batch."""
    rank, shape = len(batch.images.shape), tuple(batch.images.shape)
    if rank == 3 and one_image:
        _check_is_one_image(batch, data_format)
        return
    if rank == 3:
        fail(
            "Expected a batch of images of shape (batch, height, width, channels). Grey images need a channel axis, "
            "`images[..., None]`; a single image needs a batch axis, `images[None]`.",
            shape=shape,
        )  # fmt: skip
    if rank != 4:
        one = " or (height, width, channels)" if one_image else ""
        fail(f"Expected images of shape (batch, height, width, channels){one}.", shape=shape)
    size = static(batch.images, 0)
    for name in ("labels", "sample_weights", "masks", "boxes") if size is not None else ():
        for array in leaves(getattr(batch, name)):
            if len(array.shape) == 0 or static(array, 0) not in (None, size):
                name = {"masks": "segmentation_masks", "boxes": "bounding_boxes"}.get(name, name)
                fail(f"Expected `{name}` for a batch of {size} images.", shape=tuple(array.shape))


def _check_is_one_image(batch, data_format):
    """A batch of grey images without an axis for the channels looks like one image with many channels."""
    size, shape = static(batch.images, 0), tuple(batch.images.shape)
    for array in leaves(batch.labels):
        if len(array.shape) == 1 and static(array, 0) == size and (size is None or is_integer(array)):
            fail(
                "Expected images of shape (batch, height, width, channels), or a single image and its label.",
                shape=shape, labels=tuple(array.shape),
            )  # fmt: skip
    channels = static(batch.images, -1 if data_format == "channels_last" else 0)
    if channels is not None and channels > CHANNELS and not _belongs_to_one_image(batch, size):
        fail(
            "This may be a single image (height, width, channels) or a batch of grey images without a channel axis. "
            "Pass a single image as `images[None]`, grey images as `images[..., None]`.",
            shape=shape, data_format=data_format,
        )  # fmt: skip


def _belongs_to_one_image(batch, size):
    """Whether labels, weights or masks show that there is no batch: its axis is missing, or has another size."""
    apart = [*leaves(batch.labels), *leaves(batch.sample_weights)]
    if any(len(array.shape) == 0 or (size is not None and static(array, 0) not in (None, size)) for array in apart):
        return True
    return any(len(array.shape) == 2 for array in leaves(batch.masks))


def warn_of_other_layout(images, data_format, layer):
    """Says so where the axis taken for the channels is far longer than the one that the other layout has for them."""
    if not _looks_like_other_layout(images, data_format):
        return
    other = "channels_first" if data_format == "channels_last" else "channels_last"
    warnings.warn(
        f'`{layer}` reads images of shape {tuple(images.shape)} as "{data_format}", but they look like "{other}". '
        f'Pass `data_format="{other}"`, or transpose the images.',
        stacklevel=2,
    )


def _looks_like_other_layout(images, data_format):
    if len(images.shape) != 4:
        return False
    first, middle, last = (static(images, axis) for axis in (1, 2, 3))
    channels, across = (first, last) if data_format == "channels_last" else (last, first)
    if None in (channels, middle, across) or not 1 <= channels <= CHANNELS:
        return False
    return min(middle, across) >= FAR * channels
