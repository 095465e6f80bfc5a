"""Kernels for the host: they copy the array once, and then write only the pixels that change.

If a compiler fuses operations, comparing every pixel with its box is free. If each operation is a pass over memory,
slices are several times as fast. NumPy also requests huge pages, unlike PyTorch, so new memory costs only a quarter.
"""

import numpy as np

from keras_reg._dtypes import dtype_of
from keras_reg.layers._batch._shapes import channels_first
from keras_reg.layers._pixels._crop import cropped
from keras_reg.layers._pixels._filters_on_host import blurred_on_host, sharpened_on_host
from keras_reg.layers._pixels._gather import gathered
from keras_reg.layers._pixels._slices import move_by_slices
from keras_reg.layers._pixels._warp_on_host import warped_on_host

_LARGE = 2**16  # the size of an image, in bytes, from which one call per image costs little


class ForHost:
    """The kernels of `ForCompilers` on NumPy arrays, one box at a time.

    An array that is `fresh`, which means that the layer before allocated it and nothing else uses it, is changed in
    place if it is contiguous.
    """

    def __init__(self, place, data_format):
        self.place, self.data_format = place, data_format

    def mix(self, array, partner, kept=None, box=None, source=None, fresh=False):
        """Blends each image with its partner, and then pastes the box of the partner."""
        if array.size == 0:
            return np.copy(array)
        kept = None if kept is None else kept.astype(self.place.dtype_of_arithmetic(dtype_of(array)))[:, None]
        regions = () if box is None else _regions(box, channels_first(array, self.data_format))
        large = array[0].nbytes >= _LARGE
        if large and source is None and (fresh or (kept is not None and box is not None)):
            out = array if fresh and array.flags.c_contiguous else self.place.copy(array)
            return _mixed_one_by_one(array, partner, kept, dict(regions), out, self.place.blend)
        out = self.place.copy(array) if kept is None else _blended(array, partner, kept, self.place.blend)
        source = array if source is None else source
        for i, region in regions:
            out[(i, *region)] = source[(partner[i], *region)]
        return out

    def fill(self, array, boxes, content, fresh=False):
        """Fills the boxes of the images with a content of `_contents`."""
        first = channels_first(array, self.data_format)
        out, values = array if fresh else self.place.copy(array), content.for_host(array, first)
        for number, box in enumerate(boxes):
            for i, region in _regions(box, first):
                out[(i, *region)] = values(i, number, region)
        return out

    def move(self, array, moves, fill, reflect=False):
        """Mirrors and shifts the images by `Moves`."""
        first = channels_first(array, self.data_format)
        if reflect:  # slices are not enough
            return gathered(array, moves, fill, reflect, first, self.place)
        out = np.empty(array.shape, array.dtype)
        move_by_slices(array, out, moves, fill, first, range(len(array)))
        return out

    def crop(self, array, crop, fill, smooth):
        """Resizes a box of each image, a `Crop`. Pixels from outside the resized crop are `fill`."""
        return cropped(array, crop, fill, smooth, channels_first(array, self.data_format), self.place)

    def warp(self, array, source, fill, fill_mode, smooth):
        """Resamples the images at the positions of `source`."""
        first = channels_first(array, self.data_format)
        return warped_on_host(array, source, fill, fill_mode, smooth, first, self.place)

    def sharpen(self, array, factors, value_range):
        """Blends each image with a smoothed one."""
        first = channels_first(array, self.data_format)
        return sharpened_on_host(array, factors, value_range, first, self.place.ops)

    def blur(self, array, sigmas, weights):
        """Convolves each image with a Gaussian kernel."""
        if 0 in array.shape[1:]:
            return array  # without pixels
        return blurred_on_host(array, sigmas, weights, channels_first(array, self.data_format), self.place.ops)


def _mixed_one_by_one(own, partner, kept, regions, out, blend):
    """Mixes one image at a time into `out`, which is `own` or a copy. The image is still in the cache for its box."""
    for i, other in _from_partner_to_partner(own, partner) if out is own else enumerate(own[i] for i in partner):
        if kept is not None and kept[i] <= 0:  # exactly the partner, even if the image itself has NaN
            out[i] = other
        elif kept is not None and kept[i] < 1:
            blend(*(image.reshape(1, -1) for image in (own[i], other)), kept[i : i + 1], out[i].reshape(1, -1))
        if i in regions:
            out[(i, *regions[i])] = other[regions[i]]
    return out


def _from_partner_to_partner(images, partner):
    """Yields the index and the original partner of each image, which may then be overwritten.

    It follows the cycles of partners, so that only the first image of each cycle has to be copied.
    """
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
    # Runs of consecutive partners are used without a copy. A cyclic shift has two of them.
    starts = np.flatnonzero(np.diff(partner, prepend=-2) != 1).tolist()
    for start, end in zip(starts, [*starts[1:], len(own)], strict=True):
        first, run = int(partner[start]), slice(start, end)
        blend(rows[run], rows[first : first + end - start], kept[run], flat[run])
    # Exactly the image or exactly its partner, even if the other one has NaN.
    for i in np.flatnonzero((kept >= 1) | (kept <= 0)).tolist():
        out[i] = own[i] if kept[i] >= 1 else own[partner[i]]
    return out


def _regions(box, channels_first):
    """Yields the index and the slices of the box for each image that has one."""
    top, left, height, width = box
    channels = _channels(channels_first)
    bottom, right = (top + height).tolist(), (left + width).tolist()
    top, left = top.tolist(), left.tolist()
    for i in np.flatnonzero((height > 0) & (width > 0)).tolist():
        yield i, (*channels, slice(top[i], bottom[i]), slice(left[i], right[i]))


def _channels(first):
    """Returns the slice that selects all channels if they are the second axis, or nothing."""
    return (slice(None),) if first else ()
