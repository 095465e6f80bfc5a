"""Passes over pixels that NumPy can reach: one fresh array, and then only the pixels that change.

Where a compiler fuses, comparing every pixel with its box is free; where each operation is a pass over memory, slices
are several times as fast. NumPy also asks for large pages, which PyTorch does not: fresh memory costs a quarter. Images
that are `fresh`, made by the layer before and seen by nobody else, are changed where they lie.
"""

import numpy as np

_LARGE = 2**16  # bytes of an image from which on a call for each costs little


def mixed(own, partner, weight, box, channels_first, place, fresh=False):
    """Each image blended with its partner by `weight`, and cut from it in `box`; either may be `None`."""
    if own.size == 0:
        return np.copy(own)
    kept = None if weight is None else weight.astype(own.dtype)[:, None]
    regions = () if box is None else boxes(box, channels_first)
    if own[0].nbytes >= _LARGE and (fresh or (kept is not None and box is not None)):
        return _mixed_one_by_one(own, partner, kept, dict(regions), own if fresh else place.copy(own), place.blend)
    out = place.copy(own) if kept is None else _blended(own, partner, kept, place.blend)
    for i, region in regions:
        out[(i, *region)] = own[(partner[i], *region)]
    return out


def _mixed_one_by_one(own, partner, kept, regions, out, blend):
    """Image by image, into `out`, which is `own` or a copy: what is cut into an image finds it in the cache."""
    for i, other in _from_partner_to_partner(own, partner) if out is own else enumerate(own[i] for i in partner):
        if kept is not None and kept[i] <= 0:  # exactly its partner, whatever its own holds
            out[i] = other
        elif kept is not None and kept[i] < 1:
            blend(*(image.reshape(1, -1) for image in (own[i], other)), kept[i : i + 1], out[i].reshape(1, -1))
        if i in regions:
            out[(i, *regions[i])] = other[regions[i]]
    return out


def _from_partner_to_partner(images, partner):
    """(i, its partner as it was) for each image, which may then be changed: only the first of a round is kept aside."""
    done = np.zeros(len(images), bool)
    for first in range(len(images)):
        i, saved = first, None if done[first] else images[first].copy()
        while not done[i]:
            done[i], following = True, int(partner[i])
            yield i, saved if following == first else images[following]
            i = following


def _blended(own, partner, kept, blend):
    rows, out = own.reshape(len(own), -1), np.empty(own.shape, own.dtype)
    flat = out.reshape(rows.shape)
    # Partners that lie behind one another, as a cyclic shift has them twice, are used where they lie.
    starts = np.flatnonzero(np.diff(partner, prepend=-2) != 1).tolist()
    for start, end in zip(starts, [*starts[1:], len(own)], strict=True):
        first, run = int(partner[start]), slice(start, end)
        blend(rows[run], rows[first : first + end - start], kept[run], flat[run])
    # Exactly itself or exactly its partner, whatever the other holds.
    for i in np.flatnonzero((kept >= 1) | (kept <= 0)).tolist():
        out[i] = own[i] if kept[i] >= 1 else own[partner[i]]
    return out


def moved(images, down, across, fill, channels_first):
    """The images moved up by `down` rows and to the left by `across` columns, each (batch,), filled from the side."""
    out = np.full(images.shape, fill, images.dtype)
    channels = _channels(channels_first)
    height, width = images.shape[2:4] if channels_first else images.shape[1:3]
    for i, (row, column) in enumerate(zip(down.tolist(), across.tolist(), strict=True)):
        (top, bottom), (left, right) = _overlap(row, height), _overlap(column, width)
        here = (i, *channels, slice(top, bottom), slice(left, right))
        out[here] = images[(i, *channels, slice(top + row, bottom + row), slice(left + column, right + column))]
    return out


def _overlap(offset, size):
    """The places, first and behind the last, that are still in the image when `offset` is added."""
    first = min(max(0, -offset), size)
    return first, max(first, min(size, size - offset))


def filled(images, all_boxes, fill, channels_first, fresh, copy):
    """The images with their boxes filled: `fill(i, box, region)` returns what goes into one, to broadcast over it."""
    out = images if fresh else copy(images)
    for number, box in enumerate(all_boxes):
        for i, region in boxes(box, channels_first):
            out[(i, *region)] = fill(i, number, region)
    return out


def boxes(box, channels_first):
    """(index of the image, slices of its box) for each image that has one."""
    top, left, height, width = box
    channels = _channels(channels_first)
    bottom, right = (top + height).tolist(), (left + width).tolist()
    top, left = top.tolist(), left.tolist()
    for i in np.flatnonzero((height > 0) & (width > 0)).tolist():
        yield i, (*channels, slice(top[i], bottom[i]), slice(left[i], right[i]))


def _channels(first):
    """What selects all channels, where they stand between the image and its rows."""
    return (slice(None),) if first else ()
