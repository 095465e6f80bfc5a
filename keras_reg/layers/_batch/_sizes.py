"""Checks of the sizes, the layout and the range of a batch."""

import warnings

from keras_reg._backend import number_of, place_of
from keras_reg._validation import fail
from keras_reg.layers._batch._content import FIELDS, KEYS, leaves
from keras_reg.layers._batch._kinds import CHANNELS, RANKS
from keras_reg.layers._batch._shapes import spatial_axes, static

FAR = 8  # how many times longer than the channels an axis must be to look like height or width


def check_sizes(batch):
    """Checks that all arrays have one entry per sample, as far as sizes are known."""
    size = next((static(array, 0) for array in leaves(batch.images)), None)
    for field, name in zip(FIELDS, KEYS, strict=True):
        for array in leaves(getattr(batch, field)):
            if len(array.shape) == 0 or (None not in (size, static(array, 0)) and static(array, 0) != size):
                advice = "" if array.shape else " Batch the data first."
                fail(
                    f"Expected `{name}` for a batch of {size} images: the first axis must have this size.{advice}",
                    shape=tuple(array.shape), images=[tuple(x.shape) for x in leaves(batch.images)],
                )  # fmt: skip


def check_unknown_sizes(batch, data_format, layer):
    """Checks arrays that count as maps because a size of them or of the images is not known before data arrive.

    In a graph of TensorFlow, this raises an error for the batch if the sizes differ.
    """
    if batch.kind not in RANKS or not hasattr(batch.images, "shape"):
        return
    axes, names = spatial_axes(data_format, batch.kind), dict(zip(FIELDS, KEYS, strict=True))
    rank, known = len(batch.images.shape), [static(batch.images, axis) for axis in axes]
    for field, least in (("labels", 3), ("sample_weights", 2), ("masks", 2)):
        for array in leaves(getattr(batch, field)):
            if not max(least, rank - 1) <= len(array.shape) <= rank:
                continue
            of_array = axes if len(array.shape) == rank else range(1, 1 + len(axes))
            pairs = list(zip([static(array, axis) for axis in of_array], known, strict=True))
            unknown = any(None in pair for pair in pairs) and 1 not in [size for size, _ in pairs]
            if unknown and all(None in pair or pair[0] == pair[1] for pair in pairs):
                sizes = [batch.ops.shape(array)[axis] for axis in of_array]
                expected = [batch.ops.shape(batch.images)[axis] for axis in axes]
                batch.place.check_equal(
                    sizes, expected,
                    f"`{layer}` treats `{names[field]}` of shape {tuple(array.shape)} as a map of the images, of shape "
                    f"{tuple(batch.images.shape)}, since sizes are not known, but the sizes differ. Set both shapes "
                    "with `tf.ensure_shape`.",
                )  # fmt: skip


def warn_of_other_layout(images, data_format, layer):
    """Warns if the channel axis is far longer than the channel axis of the other layout would be."""
    if not _looks_like_other_layout(images, data_format):
        return
    other = "channels_first" if data_format == "channels_last" else "channels_last"
    warnings.warn(
        f'`{layer}` reads images of shape {tuple(images.shape)} as "{data_format}", but they look like "{other}". '
        f'Pass `data_format="{other}"`, or transpose the images.',
        stacklevel=2,
    )


def warn_of_other_range(images, value_range, layer):
    """Warns if pixels lie far outside of a range, or if none of them leaves its lowest hundredth."""
    if 0 in images.shape:
        return
    ops, (low, high) = place_of([images]).ops, map(float, value_range)
    pixels, width = ops.cast(images, "float32"), high - low
    least, most = number_of(ops.min(pixels)), number_of(ops.max(pixels))
    if least < low - width / 2 or most > high + width / 2 or (most > least and most <= low + width / 100):
        warnings.warn(
            f"`{layer}` got pixels from {least:.4g} to {most:.4g}, but its `value_range` is {(low, high)}. Pass the "
            "range of the pixels.",
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
