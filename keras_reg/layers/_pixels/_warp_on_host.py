"""Resamples images on the host, a few at a time, so that they stay in the cache while their pixels are gathered."""

import numpy as np

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg.layers._pixels._in_cache import as_slice
from keras_reg.layers._pixels._moves import Move, Moves, both
from keras_reg.layers._pixels._rounding import as_pixels, float32_holds
from keras_reg.layers._pixels._slices import move_by_slices
from keras_reg.layers._pixels._warp import BEYOND, shown, within

USUAL = 1e30  # numbers up to it have a difference that is finite
AT_ONCE = 2**15  # the pixels of small images that are resampled in one go


def warped_on_host(array, source, fill, fill_mode, smooth, channels_first, ops):
    """Returns the images resampled at the positions of `source`. The arguments are those of `warped`."""
    out = np.empty(array.shape, array.dtype)
    made = _by_channel(out, channels_first)
    height, width = sizes = made.shape[2:]
    whole, moves = _whole_moves(source, sizes, ops) if fill_mode == "constant" else (source.is_identity(), Moves())
    move_by_slices(array, out, moves, fill, channels_first, np.flatnonzero(whole).tolist())
    rest, count = np.flatnonzero(~whole), max(1, AT_ONCE // max(1, height * width))
    resample = _Bilinear((min(count, len(rest)), *sizes), dtype_of(array)) if smooth else _nearest
    fills = None  # or one for each channel
    if fill_mode == "constant":
        fills = np.broadcast_to(np.asarray(fill, array.dtype), made.shape[1])
    for start in range(0, len(rest), count):
        some = as_slice(rest[start : start + count])
        part = source.part(some)
        x, y = part.positions(sizes, ops)
        x, y = within(x, width, fill_mode, ops), within(y, height, fill_mode, ops)
        given = _by_channel(array[some], channels_first)
        found = made[some]  # a view of a slice, but a copy of single images
        resample(given, found, part.visible, x, y, fills, ops)
        if not isinstance(some, slice):
            made[some] = found
    return out


def _whole_moves(warp, size, ops):
    """Returns which images only move whole pixels, bools (batch,), and how they move."""
    (xx, xy, x, yx, yy, y), moves = warp.source, []
    whole = (np.abs(xx) == 1) & (np.abs(yy) == 1) & (xy == 0) & (yx == 0) & (x == np.rint(x)) & (y == np.rint(y))
    if any(through is not None for through, _ in warp.cuts):
        return np.zeros_like(whole), Moves()
    for axis, scale, start in ((0, yy, y), (1, xx, x)):
        flip = scale < 0
        offset = np.where(whole, np.where(flip, size[axis] - 1 - start, start), 0).astype("int64")
        move = Move(flip, offset, warp.visible[axis])
        for _, kept in warp.cuts:
            if kept[axis] is not None:
                seen = move.source_of(kept[axis], size[axis], ops)
                move = move._replace(visible=seen if move.visible is None else both(move.visible, seen, ops))
        moves.append(move)
    return whole, Moves(*moves)


def _by_channel(array, channels_first):
    """Returns a view (batch, channels, height, width): NumPy is fast along rows, and slow along a few channels."""
    if array.ndim == 3:
        return array[:, None]
    return array if channels_first else array.transpose(0, 3, 1, 2)


def _nearest(images, out, visible, x, y, fills, ops):
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
        out[:, channel] = found if fills is None else np.where(inside, found, fills[channel])


class _Bilinear:
    """Interpolates between four pixels. A border of the fill replaces the comparison of positions with the image.

    Fresh memory for each corner and channel would take most of the time.
    """

    def __init__(self, shape, dtype):
        self.wide = at_least_float32(dtype)
        self.corners = np.empty((4, *shape), self.wide)

    def __call__(self, images, out, visible, x, y, fills, ops):
        dtype, wide = dtype_of(images), self.wide
        count, channels, height, width = images.shape
        before, after = (0, 1) if fills is None else (BEYOND, BEYOND + 1)
        padded, filled = np.zeros((count, height + before + after, width + before + after), wide), 0
        inner = padded[:, before : before + height, before : before + width]
        seen = shown(visible, (height, width), ops)
        flat, stride = padded.reshape(-1), padded.shape[2]
        left, top = np.floor(x), np.floor(y)
        across, down = (x - left).astype(wide), (y - top).astype(wide)
        index = (top.astype("int32") + before) * stride + (left.astype("int32") + before)
        index = index.astype("intp") + _starts(count, padded[0].size)
        corners = self.corners[:, :count]
        for channel in range(channels):
            if fills is not None and fills[channel] != filled:
                padded[...] = filled = fills[channel]
            np.copyto(inner, images[:, channel], where=True if seen is None else seen)
            for corner, start in zip(corners, (0, 1, stride, stride + 1), strict=True):
                np.take(flat[start:], index, out=corner, mode="wrap")  # by default, it would use a buffer
            between = _between if padded.min() > -USUAL and padded.max() < USUAL else _between_unusual
            above, below = between(*corners[:2], across), between(*corners[2:], across)
            out[:, channel] = as_pixels(between(above, below, down), dtype, ops)
        if not float32_holds(dtype):
            exact, whole = np.empty(out.shape, out.dtype), (across == 0) & (down == 0)
            _nearest(images, exact, visible, x, y, fills, ops)
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
