"""Moves images on the host by slices, which copy whole rows."""

import numpy as np

_FEW_CHANNELS = 8  # so few that NumPy copies a mirrored row channel by channel faster than pixel by pixel


def move_by_slices(array, out, moves, fill, channels_first, images):
    """Writes the given `images` of an array to `out`, moved by `Moves`. What is outside of them becomes `fill`."""
    if not images:
        return
    height, width = array.shape[2:4] if channels_first else array.shape[1:3]
    rows, columns = _slices(moves.rows, height, images), _slices(moves.columns, width, images)
    channels = (slice(None),) if channels_first else ()
    fill = np.reshape(fill, (-1, 1, 1)) if channels_first and np.ndim(fill) else fill
    few = array.ndim == 4 and not channels_first and array.shape[-1] <= _FEW_CHANNELS
    for i, (to_rows, from_rows), (to_columns, from_columns) in zip(images, rows, columns, strict=True):
        if to_rows.stop - to_rows.start < height or to_columns.stop - to_columns.start < width:
            out[i] = fill
        source, target = array[(i, *channels, from_rows, from_columns)], out[(i, *channels, to_rows, to_columns)]
        if few and from_columns.step == -1:
            for channel in range(array.shape[-1]):
                target[..., channel] = source[..., channel]
        else:
            target[...] = source


def _slices(move, size, images):
    """Returns for each image the slice of the rows or columns of the result, and the slice of those of the image."""
    if move.flip is None and move.offset is None and move.visible is None:
        return [(slice(0, size), slice(0, size))] * len(images)
    flip = np.zeros(len(images), bool) if move.flip is None else move.flip[images]
    offset = np.zeros(len(images), int) if move.offset is None else move.offset[images].astype(int)
    edges = (0, size) if move.visible is None else (edge[images] for edge in move.visible)
    first, end = (np.minimum(np.maximum(edge, 0), size) for edge in edges)  # `np.clip` starts slowly
    low, high = np.where(flip, size - end, first) - offset, np.where(flip, size - first, end) - offset
    low, high = np.maximum(low, 0), np.minimum(high, size)
    low, high, offset = (np.where(low < high, x, 0) for x in (low, high, offset))  # of some images, nothing is left
    source = low + offset, high + offset
    forward = [slice(*pair) for pair in zip(*(edge.tolist() for edge in source), strict=True)]
    targets = [slice(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True)]
    sources = [
        slice(size - 1 - one.start, size - 1 - one.stop if one.stop < size else None, -1) if turned else one
        for one, turned in zip(forward, flip.tolist(), strict=True)
    ]
    return list(zip(targets, sources, strict=True))
