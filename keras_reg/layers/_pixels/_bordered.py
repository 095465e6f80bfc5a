"""Moves and resamples images in few operations, for a place where starting them takes longer than most of them.

The images get a border of the fill, so that no position has to be compared with the image.
"""

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg.layers._pixels._gather import dtype_of_numbers, is_seen, source_of
from keras_reg.layers._pixels._rounding import as_pixels, float32_holds
from keras_reg.layers._pixels._warp import BEYOND, between_corners, shown, within


def warped_with_border(array, source, fill, fill_mode, smooth, channels_first, place):
    """Returns the images resampled at the positions of `source`. The arguments are those of `warped`."""
    ops = place.ops
    pixels = ops.transpose(array, (0, 2, 3, 1)) if channels_first else array
    height, width = sizes = ops.shape(pixels)[1:3]
    x, y = source.along_lines(sizes, ops).positions(sizes, ops)
    x, y = within(x, width, fill_mode, ops), within(y, height, fill_mode, ops)
    bordered = _Bordered(pixels, source.visible, fill if fill_mode == "constant" else None, smooth, place)
    found = _bilinear(bordered, x, y) if smooth else bordered.at(ops.round(x), ops.round(y))
    return ops.transpose(found, (0, 3, 1, 2)) if channels_first else found


def moved_with_border(array, moves, fill, channels_first, place):
    """Returns the images moved by `Moves`. Pixels from outside are `fill`."""
    ops = place.ops
    pixels = ops.transpose(array, (0, 2, 3, 1)) if channels_first else array
    rows, columns = (_sources(size, move, ops) for size, move in zip(ops.shape(pixels)[1:3], moves, strict=True))
    bordered = _Bordered(pixels, (None, None), fill, smooth=False, place=place)
    found = bordered.at(ops.expand_dims(columns, 1), ops.expand_dims(rows, 2))
    return ops.transpose(found, (0, 3, 1, 2)) if channels_first else found


def _sources(size, move, ops):
    """Returns the source of each new row or column, (batch or 1, size), or a position in the border."""
    index = source_of(size, move, False, ops)
    if move.visible is not None:
        index = ops.where(is_seen(index, move, ops), index, -BEYOND)
    return index if move.offset is None else ops.clip(index, -BEYOND, size - 1 + BEYOND)


class _Bordered:
    """Images (batch, height, width, ...) with a border that is wide enough for all positions of `within`."""

    def __init__(self, pixels, visible, fill, smooth, place):
        self.place, self.ops, self.dtype = place, place.ops, dtype_of(pixels)
        self.shape = self.ops.shape(pixels)
        self.before, after = (0, int(smooth)) if fill is None else (BEYOND, BEYOND + smooth)
        filled = self._filled(pixels, visible, fill, (self.before, after))
        count, height, self.stride, *self.channels = self.ops.shape(filled)
        self.size = height * self.stride
        self.flat = self.ops.reshape(filled, (count * self.size, *self.channels))

    def _filled(self, pixels, visible, fill, border):
        ops, shape = self.ops, self.shape
        if fill is None:
            return ops.pad(pixels, _along(border, len(shape))) if any(border) else pixels
        fill = ops.cast(fill, self.dtype) if hasattr(fill, "shape") else fill
        seen = shown(visible, shape[1:3], ops)
        if seen is not None:
            seen = ops.expand_dims(seen, -1) if len(shape) == 4 else seen
            pixels = ops.where(seen, pixels, ops.cast(fill, self.dtype))
        if not hasattr(fill, "shape"):
            return ops.pad(pixels, _along(border, len(shape)), constant_values=fill)
        inside = ops.pad(ops.ones((1, *shape[1:3], 1), "bool"), _along(border, 4), constant_values=False)
        return ops.where(inside, ops.pad(pixels, _along(border, len(shape))), fill)

    def index(self, left, top):
        """Returns the numbers of the pixels at whole positions, in `flat`."""
        ops, first = self.ops, self.before * (self.stride + 1)
        dtype = dtype_of_numbers((self.shape[0] + 1, self.size), self.place)
        starts = ops.reshape(ops.arange(first, first + self.shape[0] * self.size, self.size, dtype=dtype), [-1, 1, 1])
        left, top = ops.cast(left, dtype), ops.cast(top, dtype)
        return (top * self.stride + starts) + left

    def at(self, left, top):
        """Returns the pixels at whole positions."""
        return self.pixels(self.flat, self.index(left, top))

    def pixels(self, flat, index):
        found = self.place.entries(flat, self.ops.reshape(index, [-1]))
        return self.ops.reshape(found, self.shape)

    def spread(self, values):
        """Adds an axis of channels to values (batch, height, width), if the pixels have one."""
        return self.ops.expand_dims(values, -1) if self.channels else values


def _bilinear(bordered, x, y):
    """Interpolates between the four pixels around each position. At whole positions, it is exact, beside NaN too."""
    ops, dtype = bordered.ops, bordered.dtype
    wide = at_least_float32(dtype)
    left, top = ops.floor(x), ops.floor(y)
    index = bordered.index(left, top)
    across, down = (bordered.spread(ops.cast(share, wide)) for share in (x - left, y - top))
    flat = ops.cast(bordered.flat, wide)

    def corner(below, beside):
        return bordered.pixels(flat[below * bordered.stride + beside :], index)

    found = as_pixels(between_corners(corner, across, down, ops), dtype, ops)
    if float32_holds(dtype):
        return found
    return ops.where((across == 0) & (down == 0), bordered.pixels(bordered.flat, index), found)


def _along(border, rank):
    """Returns the border along rows and columns, for each axis."""
    return [(0, 0), border, border] + [(0, 0)] * (rank - 3)
