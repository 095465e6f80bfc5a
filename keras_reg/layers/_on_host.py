"""Passes over pixels that NumPy can reach: one fresh array, and then only the pixels that change.

Where a compiler fuses, comparing every pixel with its box is free; where each operation is a pass over memory, slices
are several times as fast. NumPy also asks for large pages, which PyTorch does not: fresh memory costs a quarter.
"""

import numpy as np

_CHUNK = 2**16  # numbers that are worked on at a time, so that they stay in the cache between operations


def mixed(own, partner, blend, box, channels_first):
    """Each image blended with its partner by `blend`, and cut from it in `box`; either may be `None`."""
    partner = np.asarray(partner)
    out = own.copy() if blend is None or not len(own) else _blended(own, partner, np.asarray(blend))
    if box is not None:
        for i, region in boxes(box, channels_first):
            out[(i, *region)] = own[(partner[i], *region)]
    return out


def _blended(own, partner, kept):
    rows, out = own.reshape(len(own), -1), np.empty(own.shape, own.dtype)
    flat, kept = out.reshape(rows.shape), kept.astype(own.dtype)[:, None]
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    buffer = np.empty((min(step, len(own)), rows.shape[1]), own.dtype)
    with np.errstate(all="ignore"):  # not a number among the pixels is the user's
        for start in range(0, len(own), step):
            part = slice(start, start + step)
            np.multiply(rows[part], kept[part], out=flat[part])
            other = _taken(rows, partner[part], buffer)
            np.multiply(other, 1 - kept[part], out=other)
            flat[part] += other
    # Exactly itself or exactly its partner, whatever the other holds.
    for i in np.flatnonzero((kept >= 1) | (kept <= 0)):
        out[i] = own[i] if kept[i] >= 1 else own[partner[i]]
    return out


def _taken(rows, index, buffer):
    return np.take(rows, index, axis=0, out=buffer[: len(index)], mode="clip")


def filled(images, all_boxes, fill, channels_first):
    """The images with their boxes filled: `fill(i, box, region)` returns what goes into one, to broadcast over it."""
    out = images.copy()
    for number, box in enumerate(all_boxes):
        for i, region in boxes(box, channels_first):
            out[(i, *region)] = fill(i, number, region)
    return out


def boxes(box, channels_first):
    """(index of the image, slices of its box) for each image that has one."""
    top, left, height, width = (np.asarray(x) for x in box)
    channels = (slice(None),) if channels_first else ()
    bottom, right = (top + height).tolist(), (left + width).tolist()
    top, left = top.tolist(), left.tolist()
    for i in np.flatnonzero((height > 0) & (width > 0)).tolist():
        yield i, (*channels, slice(top[i], bottom[i]), slice(left[i], right[i]))
