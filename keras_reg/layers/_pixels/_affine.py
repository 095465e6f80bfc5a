"""Affine maps, one per image. They tell for each new pixel from where in the image it comes."""

from typing import Any, NamedTuple

import numpy as np

FAR = -1e9  # a position that no map brings back into an image


class Affine(NamedTuple):
    """The source of the pixel at (column, row) is (xx * column + xy * row + x, yx * column + yy * row + y).

    Positions are in pixels, and the centers of pixels are whole numbers. Each entry has shape (batch,) and dtype
    float32. Two maps after one another are again such a map, so that images can be resampled once.
    """

    xx: Any
    xy: Any
    x: Any
    yx: Any
    yy: Any
    y: Any

    @property
    def source(self):
        """The map from the pixels of the result to positions in the image, as that of a `Warp`."""
        return self

    @property
    def visible(self):
        """Which rows and columns of the image can be seen: all."""
        return None, None

    @property
    def kept(self):
        """Which rows and columns of the result are not cut off: all."""
        return None, None

    @property
    def cuts(self):
        """Which pixels an earlier step has cut off: none."""
        return ()

    @property
    def steps(self):
        """The maps that follow one another. Boxes and points are clipped after each of them."""
        return (self,)

    def affine(self, size, ops):
        """Returns this map, as `Moves` do."""
        return self

    def along_lines(self, size, ops, kept=(None, None)):
        """Returns the `Lines` of images of this size.

        `kept` are the rows and the columns of the result that are not cut off: (first, one after the last) or `None`
        for all. Those that are cut off have a source far outside the image.
        """
        rows, columns = _rows_and_columns(size, ops)
        xx, xy, x, yx, yy, y = (ops.reshape(entry, [-1, 1, 1]) for entry in self)
        x, y = _unless_cut(xx * columns + x, columns, kept[1], ops), _unless_cut(yy * rows + y, rows, kept[0], ops)
        return Lines(x, xy, y, yx)

    def then(self, later):
        """Returns this map and then the `later` one as one map."""
        return Affine(
            self.xx * later.xx + self.xy * later.yx,
            self.xx * later.xy + self.xy * later.yy,
            self.xx * later.x + self.xy * later.y + self.x,
            self.yx * later.xx + self.yy * later.yx,
            self.yx * later.xy + self.yy * later.yy,
            self.yx * later.x + self.yy * later.y + self.y,
        )

    def is_identity(self):
        """Returns which images the map leaves as they are, (batch,)."""
        alike = (self.xx == 1) & (self.yy == 1)
        for entry in (self.xy, self.x, self.yx, self.y):
            alike = alike & (entry == 0)
        return alike

    def move_pixels(self, kernels, array, fill, fill_mode, smooth):
        """Returns the images resampled at the positions of this map."""
        return kernels.warp(array, self, fill, fill_mode, smooth)

    def move_corners(self, x1, y1, x2, y2, size, ops):
        """Returns the smallest upright boxes around boxes (left, top, right, bottom) that move with their images.

        The corners are the edges of pixels, which lie half a pixel beyond the centers. Each is an array (batch, n).
        """
        xx, xy, _, yx, yy, _ = (ops.abs(ops.expand_dims(entry, -1)) for entry in self)
        area = ops.abs(ops.expand_dims(self.xx * self.yy - self.xy * self.yx, -1))
        x, y = self.move_points((x1 + x2) / 2 - 0.5, (y1 + y2) / 2 - 0.5, size, ops)
        x, y, wide, high = x + 0.5, y + 0.5, (x2 - x1) / 2, (y2 - y1) / 2
        wide, high = (yy * wide + xy * high) / area, (yx * wide + xx * high) / area
        return x - wide, y - high, x + wide, y + high

    def move_points(self, x, y, size, ops):
        """Returns where points (x, y), each (batch, n), go with their images."""
        xx, xy, left, yx, yy, top = (ops.expand_dims(entry, -1) for entry in self)
        x, y, area = x - left, y - top, xx * yy - xy * yx
        return (yy * x - xy * y) / area, (xx * y - yx * x) / area

    def size_of_result(self, size):
        return size


class Lines(NamedTuple):
    """An `Affine` for images of one size, with one number for each row and column instead of each pixel.

    The source of the pixel at (column, row) is (x[column] + xy * row, y[row] + yx * column). x has the shape
    (batch, 1, width), y (batch, height, 1), and the other two (batch, 1, 1).
    """

    x: Any
    xy: Any
    y: Any
    yx: Any

    @property
    def visible(self):
        """Which rows and columns of the image can be seen: all."""
        return None, None

    def each(self, function):
        """Returns the lines with function(array) in the place of each array."""
        return Lines(*map(function, self))

    def positions(self, size, ops):
        """Returns the source columns and rows of all pixels of images of this size, each (batch, height, width)."""
        rows, columns = _rows_and_columns(size, ops)
        return self.x + self.xy * rows, self.y + self.yx * columns


def _rows_and_columns(size, ops):
    """Returns the numbers of the rows, (1, height, 1), and of the columns, (1, 1, width)."""
    height, width = (counted(n, ops) for n in size)
    return ops.reshape(height, [1, -1, 1]), ops.reshape(width, [1, 1, -1])


def _unless_cut(positions, pixels, kept, ops):
    return positions if kept is None else ops.where(lies_between(pixels, kept, ops), positions, FAR)


def lies_between(places, kept, ops):
    """Returns which places are not before the first and before the end of `kept`, two arrays (batch,)."""
    first, end = (ops.reshape(ops.cast(edge, "float32"), [-1, 1, 1]) for edge in kept)
    return (places >= first) & (places < end)


def counted(size, ops):
    """Returns the numbers of the rows or columns, float32 (size,)."""
    is_known = isinstance(size, int)
    return ops.arange(0, size, dtype="float32") if is_known else ops.cast(ops.arange(0, size, dtype="int32"), "float32")


def around_center(linear, shifts, size, ops):
    """Returns the `Affine` of images that move by (right, down) and by the inverse of `linear`, (xx, xy, yx, yy)."""
    (xx, xy, yx, yy), (right, down) = linear, shifts
    row, column = ((ops.cast(n, "float32") - 1.0) / 2.0 for n in size)
    x = column - (xx * (column + right) + xy * (row + down))
    y = row - (yx * (column + right) + yy * (row + down))
    return Affine(xx, xy, x, yx, yy, y)


def cosine_and_sine(degrees, ops):
    """Returns cosine and sine of angles. They are exact for quarter turns."""
    turns = ops.round(degrees / 90.0)
    rest = (degrees - 90.0 * turns) * (np.pi / 180.0)
    cos, sin = ops.cos(rest), ops.sin(rest)
    quarter = ops.mod(turns, 4.0)

    def chosen(*values):
        first, second, third, last = values
        return ops.where(quarter < 1, first, ops.where(quarter < 2, second, ops.where(quarter < 3, third, last)))

    return chosen(cos, -sin, -cos, sin), chosen(sin, cos, -sin, -cos)
