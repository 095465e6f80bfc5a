"""Kernels for the host: one fresh array, and then only the pixels that change.

Where a compiler fuses, comparing every pixel with its box is free; where each operation is a pass over memory, slices
are several times as fast. NumPy also asks for large pages, which PyTorch does not: fresh memory costs a quarter.
"""

import numpy as np

from keras_reg.layers._batch._forms import channels_first
from keras_reg.layers._pixels._gather import shifted

_LARGE = 2**16  # bytes of an image from which on a call for each costs little


class ForHost:
    """The kernels of `ForCompilers` on NumPy's arrays, box by box.

    Arrays that are `fresh`, made by the layer before and seen by nobody else, are changed where they lie.
    """

    def __init__(self, place, data_format):
        self.place, self.data_format = place, data_format

    def mix(self, array, partner, kept=None, box=None, source=None, fresh=False):
        """Each image blended with that of its partner, then cut from it."""
        if array.size == 0:
            return np.copy(array)
        kept = None if kept is None else kept.astype(array.dtype)[:, None]
        regions = () if box is None else _regions(box, channels_first(array, self.data_format))
        large = array[0].nbytes >= _LARGE
        if large and source is None and (fresh or (kept is not None and box is not None)):
            out = array if fresh else self.place.copy(array)
            return _mixed_one_by_one(array, partner, kept, dict(regions), out, self.place.blend)
        out = self.place.copy(array) if kept is None else _blended(array, partner, kept, self.place.blend)
        source = array if source is None else source
        for i, region in regions:
            out[(i, *region)] = source[(partner[i], *region)]
        return out

    def fill(self, array, boxes, content, fresh=False):
        """The images with their boxes filled by a content of `_contents`."""
        first = channels_first(array, self.data_format)
        out, values = array if fresh else self.place.copy(array), content.for_host(array, first)
        for number, box in enumerate(boxes):
            for i, region in _regions(box, first):
                out[(i, *region)] = values(i, number, region)
        return out

    def move(self, array, offsets, fill, reflect=False):
        """The images moved up and to the left by `offsets`."""
        first = channels_first(array, self.data_format)
        if reflect:  # which takes pixels from all over an image
            return shifted(array, offsets, fill, reflect, first, self.place.ops)
        out, channels = np.full(array.shape, fill, array.dtype), _channels(first)
        height, width = array.shape[2:4] if first else array.shape[1:3]
        for i, (down, across) in enumerate(zip(*(offset.tolist() for offset in offsets), strict=True)):
            (top, bottom), (left, right) = _overlap(down, height), _overlap(across, width)
            here = (i, *channels, slice(top, bottom), slice(left, right))
            out[here] = array[(i, *channels, slice(top + down, bottom + down), slice(left + across, right + across))]
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


def _overlap(offset, size):
    """The places, first and behind the last, that are still in the image when `offset` is added."""
    first = min(max(0, -offset), size)
    return first, max(first, min(size, size - offset))


def _regions(box, channels_first):
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
