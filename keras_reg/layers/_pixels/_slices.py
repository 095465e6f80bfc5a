"""Moves images on the host by slices, which copy whole rows."""

import numpy as np

_FEW_CHANNELS = 8  # so few that NumPy copies a mirrored row channel by channel faster than pixel by pixel


def move_by_slices(array, out, moves, fill, channels_first, images):
    """Writes the given `images` of an array to `out`, moved by `Moves`. What is outside of them becomes `fill`."""
    height, width = array.shape[2:4] if channels_first else array.shape[1:3]
    rows, columns = _slices(moves.rows, height, len(array)), _slices(moves.columns, width, len(array))
    channels = (slice(None),) if channels_first else ()
    fill = np.reshape(fill, (-1, 1, 1)) if channels_first and np.ndim(fill) else fill
    for i in images:
        (to_rows, from_rows), (to_columns, from_columns) = rows[i], columns[i]
        if to_rows != slice(0, height) or to_columns != slice(0, width):
            out[i] = fill
        by_channel = from_columns.step == -1 and array.ndim == 4 and not channels_first
        _put(array[(i, *channels, from_rows, from_columns)], out[(i, *channels, to_rows, to_columns)], by_channel)


def _put(image, out, by_channel):
    """Copies an image whose rows or columns run backwards. A few channels are copied faster one by one."""
    if by_channel and image.shape[-1] <= _FEW_CHANNELS:
        for channel in range(image.shape[-1]):
            out[..., channel] = image[..., channel]
    else:
        out[...] = image


def _slices(move, size, count):
    """Returns for each image the slice of the rows or columns of the result, and the slice of those of the image."""
    flips = [False] * count if move.flip is None else move.flip.tolist()
    offsets = [0] * count if move.offset is None else move.offset.tolist()
    first, end = move.visible or (np.zeros(count, int), np.full(count, size))
    return [_pair(*numbers, size) for numbers in zip(flips, offsets, first.tolist(), end.tolist(), strict=True)]


def _pair(flip, offset, first, end, size):
    first, end = max(first, 0), min(end, size)
    low, high = (size - end, size - first) if flip else (first, end)
    low, high = max(low - offset, 0), min(high - offset, size)
    if low >= high:
        return slice(0, 0), slice(0, 0)
    if not flip:
        return slice(low, high), slice(low + offset, high + offset)
    start, stop = size - 1 - (low + offset), size - 1 - (high + offset)
    return slice(low, high), slice(start, stop if stop >= 0 else None, -1)
