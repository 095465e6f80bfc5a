"""Kernels that resample a few images at a time on the host, at given positions."""

import keras
import numpy as np

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg.layers._pixels._rounding import as_pixels, float32_holds
from keras_reg.layers._pixels._warp import BEYOND, shown

USUAL = 1e30  # numbers up to it have a difference that is finite


class _Kernel:
    """Resamples a few images at a time.

    Args:
        like: An array (batch, channels, height, width) with the dtype and the memory layout of the result. `batch` is
            the largest number of images that it resamples at a time.
        fills: The value of pixels from outside the image for each channel, or `None` if none are seen.
        place: The place of the images.

    Attributes:
        ops: The operations for computing positions.
    """

    _PIXELS = 2**15  # so many pixels of small images stay in the cache

    def __init__(self, like, fills, place):
        self.shape, self.dtype, self.fills, self.place, self.ops = like.shape, dtype_of(like), fills, place, place.ops
        self.wide = at_least_float32(self.dtype)
        self.before, self.after = (0, 1) if fills is None else (BEYOND, BEYOND + 1)  # the border for interpolation

    @classmethod
    def images_at_once(cls, count, pixels, place):
        """Returns how many of `count` images, each with so many pixels, are best resampled at a time."""
        return max(1, min(count, cls._PIXELS // max(1, pixels)))

    def prepared(self, lines):
        """Returns the lines of all images, as arrays of `ops`."""
        return lines

    def __call__(self, images, out, visible, x, y):
        """Writes the images, seen at the columns `x` and the rows `y`, to `out`.

        `images` and `out` are (batch, channels, height, width), `x` and `y` are (batch, height, width).
        """
        raise NotImplementedError

    def inner(self, bordered):
        """Returns the part of images (..., height, width) with a border that shows the images themselves."""
        height, width = self.shape[2:]
        return bordered[..., self.before : self.before + height, self.before : self.before + width]


class Nearest(_Kernel):
    """Takes the nearest pixels."""

    def __call__(self, images, out, visible, x, y):
        count, channels, height, width = images.shape
        row, column = (np.rint(position).astype("intp") for position in (y, x))
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        for index, pixels in zip((row, column), visible, strict=True):
            if pixels is not None:
                first, end = (edge.reshape(-1, 1, 1) for edge in pixels)
                inside = inside & (index >= first) & (index < end)
        index = np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1) + _starts(count, height * width)
        for channel in range(channels):
            found = np.take(np.ascontiguousarray(images[:, channel]), index)
            out[:, channel] = found if self.fills is None else np.where(inside, found, self.fills[channel])


class Sampled(_Kernel):
    """Interpolates between four pixels by the `Sampler` of the place. No pixel may be infinite or NaN."""

    _PIXELS = 2**16

    def __init__(self, like, fills, place):
        super().__init__(like, fills, place)
        (count, channels, height, width), border = like.shape, self.before + self.after
        by_channel = like.strides[1] >= like.strides[3]
        self.sampler = place.sampler((count, channels, height + border, width + border), self.wide, by_channel)
        self.ops = self.sampler.ops
        if fills is not None:
            self.fills = self.ops.reshape(self.sampler.tensor(fills.astype(self.wide)), (-1, 1, 1))
            if fills.any():
                self.sampler.images[...] = self.fills

    @classmethod
    def images_at_once(cls, count, pixels, place):
        few = super().images_at_once(count, pixels, place)
        return max(few, min(count // 4, place.sampler.threads()))  # each thread handles whole images

    def prepared(self, lines):
        return lines.each(self.sampler.tensor)

    def __call__(self, images, out, visible, x, y):
        pixels, seen = self.sampler.tensor(images), shown(visible, self.shape[2:], self.ops)
        if seen is not None:
            pixels = self.ops.where(self.ops.expand_dims(seen, 1), self.ops.cast(pixels, self.wide), self.fills)
        self.inner(self.sampler.images[: len(images)])[...] = pixels
        found = self.sampler.at(x, y, self.before)
        if not keras.backend.is_float_dtype(self.dtype):
            found = self.sampler.tensor(as_pixels(found.numpy(), self.dtype, self.place.ops))
        self.sampler.tensor(out)[...] = found


class Bilinear(_Kernel):
    """Interpolates between four pixels. A border of the fill replaces the comparison of positions with the image.

    Fresh memory for each corner and channel would take most of the time.
    """

    def __init__(self, like, fills, place):
        super().__init__(like, fills, place)
        self.corners = np.empty((4, len(like), *like.shape[2:]), self.wide)

    def __call__(self, images, out, visible, x, y):
        fills, wide, ops = self.fills, self.wide, self.ops
        count, channels, height, width = images.shape
        border = self.before + self.after
        padded, filled = np.zeros((count, height + border, width + border), wide), 0
        seen = shown(visible, (height, width), ops)
        flat, stride = padded.reshape(-1), padded.shape[2]
        left, top = np.floor(x), np.floor(y)
        across, down = (x - left).astype(wide), (y - top).astype(wide)
        index = (top.astype("int32") + self.before) * stride + (left.astype("int32") + self.before)
        index = index.astype("intp") + _starts(count, padded[0].size)
        corners = self.corners[:, :count]
        for channel in range(channels):
            if fills is not None and fills[channel] != filled:
                padded[...] = filled = fills[channel]
            np.copyto(self.inner(padded), images[:, channel], where=True if seen is None else seen)
            for corner, start in zip(corners, (0, 1, stride, stride + 1), strict=True):
                np.take(flat[start:], index, out=corner, mode="wrap")  # by default, it would use a buffer
            between = _between if padded.min() > -USUAL and padded.max() < USUAL else _between_unusual
            above, below = between(*corners[:2], across), between(*corners[2:], across)
            out[:, channel] = as_pixels(between(above, below, down), self.dtype, ops)
        if not float32_holds(self.dtype):
            exact, whole = np.empty(out.shape, out.dtype), (across == 0) & (down == 0)
            Nearest(exact, fills, self.place)(images, exact, visible, x, y)
            np.copyto(out, exact, where=whole[:, None])


def _starts(count, size):
    """Returns the index of the first pixel of each image, to add to indices (batch, height, width)."""
    return np.arange(count).reshape(-1, 1, 1) * size


def _between(first, second, share):
    """Returns first + share * (second - first), computed in place."""
    second -= first
    second *= share
    first += second
    return first


def _between_unusual(first, second, share):
    """Returns the same, and `first` where the share is 0, even if the difference is infinite or NaN. It is slower."""
    with np.errstate(all="ignore"):
        second -= first
        second *= share
        return np.add(first, second, out=first, where=share > 0)
