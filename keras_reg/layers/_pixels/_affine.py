"""Affine maps, one per image. They tell for each new pixel from where in the image it comes."""

from typing import Any, NamedTuple

import numpy as np


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

    def positions(self, size, ops):
        """Returns the source columns and rows of all pixels of images of this size, each (batch, height, width)."""
        height, width = (ops.cast(ops.arange(0, n, dtype="int32"), "float32") for n in size)
        rows, columns = ops.reshape(height, [1, -1, 1]), ops.reshape(width, [1, 1, -1])
        xx, xy, x, yx, yy, y = (ops.reshape(entry, [-1, 1, 1]) for entry in self)
        return (xx * columns + x) + xy * rows, (yy * rows + y) + yx * columns

    def is_identity(self):
        """Returns which images the map leaves as they are, (batch,)."""
        alike = (self.xx == 1) & (self.yy == 1)
        for entry in (self.xy, self.x, self.yx, self.y):
            alike = alike & (entry == 0)
        return alike

    def moved(self, x1, y1, x2, y2, ops):
        """Returns the smallest upright boxes around boxes (left, top, right, bottom) that move with their images.

        The corners are the edges of pixels, which lie half a pixel beyond the centers. Each is an array (batch, n).
        """
        xx, xy, x, yx, yy, y = (ops.expand_dims(entry, -1) for entry in self)
        across, down = (x1 + x2) / 2 - 0.5 - x, (y1 + y2) / 2 - 0.5 - y
        wide, high = (x2 - x1) / 2, (y2 - y1) / 2
        area = xx * yy - xy * yx
        center = (yy * across - xy * down) / area + 0.5, (xx * down - yx * across) / area + 0.5
        wide, high = (
            (ops.abs(yy) * wide + ops.abs(xy) * high) / ops.abs(area),
            (ops.abs(yx) * wide + ops.abs(xx) * high) / ops.abs(area),
        )
        return center[0] - wide, center[1] - high, center[0] + wide, center[1] + high


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
