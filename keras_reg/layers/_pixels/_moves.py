"""Mirrored and shifted images. Such a map only moves whole pixels, so no value changes."""

from typing import Any, NamedTuple

from keras_reg.layers._pixels._affine import Affine


class Move(NamedTuple):
    """A map along one axis. Pixel j shows pixel k = j + offset of the image, or `size` - 1 - k if it is mirrored.

    Attributes:
        flip: Which images are mirrored, bools (batch,), or `None` if none are.
        offset: How far each image moves up or to the left, int32 (batch,), or `None` if none move.
        visible: The first pixel of each image that can be seen, and the one after the last, each int32 (batch,).
            `None` if an earlier step has not cut off pixels. They may lie outside the image.
    """

    flip: Any = None
    offset: Any = None
    visible: Any = None

    def then(self, later, size, ops):
        """Returns this map and then the `later` one as one map. What one of them cuts off stays invisible."""
        flip, offset, visible = self.flip, self.offset, self.visible
        if later.flip is not None:
            flip = later.flip if flip is None else ops.where(later.flip, ~flip, flip)
            offset = None if offset is None else ops.where(later.flip, -offset, offset)
        if later.visible is not None or (self.offset is not None and later.offset is not None):
            seen = self.source_of(later.visible or (0, size), size, ops)
            visible = seen if visible is None else both(visible, seen, ops)
        if later.offset is not None:
            offset = later.offset if offset is None else offset + later.offset
        return Move(flip, offset, visible)

    def source_of(self, pixels, size, ops):
        """Returns which pixels of the image the given ones show, as (first, one after the last)."""
        first, end = pixels if self.offset is None else (pixels[0] + self.offset, pixels[1] + self.offset)
        return self._mirrored(first, end, size, ops)

    def visible_in_result(self, size, ops):
        """Returns where the visible part of the image is in the result. `None` if the whole result is visible."""
        if self.visible is None and self.offset is None:
            return None
        shown = (0, size) if self.visible is None else both(self.visible, (0, size), ops)
        first, end = self._mirrored(*shown, size, ops)
        return (first, end) if self.offset is None else (first - self.offset, end - self.offset)

    def visible_in_image(self, size, ops):
        """Returns which part of the image is visible in the result. `None` if the whole image is."""
        whole = None if self.offset is None else self.source_of((0, size), size, ops)
        return whole if self.visible is None else self.visible if whole is None else both(self.visible, whole, ops)

    def _mirrored(self, first, end, size, ops):
        if self.flip is None:
            return first, end
        return ops.where(self.flip, size - end, first), ops.where(self.flip, size - first, end)

    def scale_and_start(self, size, ops):
        """Returns (scale, start): pixel j shows the position scale * j + start of the image."""
        start = 0.0 if self.offset is None else ops.cast(self.offset, "float32")
        if self.flip is None:
            return 1.0, start
        mirrored = ops.cast(size, "float32") - 1.0 - start
        return ops.cast(ops.where(self.flip, -1.0, 1.0), "float32"), ops.where(self.flip, mirrored, start)

    def placed(self, low, high, size, ops):
        """Returns where an interval (batch, n) of positions goes. `size` is the sum of a position and its mirror image.

        That is the length of the axis for edges of pixels, and 1 less for centers.
        """
        if self.flip is not None:
            flip = ops.expand_dims(self.flip, -1)
            low, high = ops.where(flip, size - high, low), ops.where(flip, size - low, high)
        if self.offset is None:
            return low, high
        offset = ops.expand_dims(ops.cast(self.offset, "float32"), -1)
        return low - offset, high - offset

    def is_identity(self):
        """Returns which images stay, (batch,), or `None` if all do."""
        if self.flip is None:
            return None if self.offset is None else self.offset == 0
        return ~self.flip if self.offset is None else ~self.flip & (self.offset == 0)


class Moves(NamedTuple):
    """The maps of rows and columns of each image, two `Move`s."""

    rows: Move = Move()
    columns: Move = Move()

    @property
    def steps(self):
        """The maps that follow one another. Boxes and points are clipped after each of them."""
        return (self,)

    @property
    def shifts(self):
        """Whether images may be shifted. Otherwise, they are only mirrored."""
        return any(move.offset is not None for move in self)

    def then(self, later, size, ops):
        """Returns this map and then the `later` one as one map."""
        return Moves(*(a.then(b, n, ops) for a, b, n in zip(self, later, size, strict=True)))

    def affine(self, size, ops):
        """Returns the same map as an `Affine`."""
        (yy, y), (xx, x) = (move.scale_and_start(n, ops) for move, n in zip(self, size, strict=True))
        return Affine(xx, 0.0, x, 0.0, yy, y)

    def move_pixels(self, kernels, array, fill, fill_mode, smooth):
        """Returns the moved images. Whole pixels are not interpolated."""
        return kernels.move(array, self, fill, reflect=fill_mode == "reflect")

    def move_corners(self, x1, y1, x2, y2, size, ops):
        """Returns the corners of the moved boxes. The corners are edges of pixels."""
        height, width = (ops.cast(n, "float32") for n in size)
        (x1, x2), (y1, y2) = self.columns.placed(x1, x2, width, ops), self.rows.placed(y1, y2, height, ops)
        return x1, y1, x2, y2

    def move_points(self, x, y, size, ops):
        """Returns the moved points. The centers of pixels are whole numbers."""
        height, width = (ops.cast(n, "float32") - 1.0 for n in size)
        return self.columns.placed(x, x, width, ops)[0], self.rows.placed(y, y, height, ops)[0]

    def is_identity(self):
        """Returns which images stay, (batch,)."""
        rows, columns = (move.is_identity() for move in self)
        return rows if columns is None else columns if rows is None else rows & columns

    def size_of_result(self, size):
        return size


def both(one, other, ops):
    """Returns the intersection of two intervals (first, end)."""
    return ops.maximum(one[0], other[0]), ops.minimum(one[1], other[1])
