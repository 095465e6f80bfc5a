"""Crops of fractions of pixels that are resized, bilinearly by one matrix product along each axis."""

from typing import Any, NamedTuple

import numpy as np

from keras_reg._dtypes import dtype_of
from keras_reg.layers._pixels._gather import gather_pixels, sources
from keras_reg.layers._pixels._moves import Move, Moves


class Crop(NamedTuple):
    """A box in each image, in pixels and each (batch,) float32, and the height and width to which it is resized.

    The resized crops may then be moved by `moves`.
    """

    top: Any
    left: Any
    tall: Any
    wide: Any
    sizes: tuple[int, int]
    moves: Moves = Moves()

    def then(self, later, size, ops):
        """Returns this map and then the `later` moves as one map."""
        return self._replace(moves=self.moves.then(later, self.sizes, ops))

    def after(self, flips, size, ops):
        """Returns this map of images that are mirrored before, `Moves` without shifts, as one map."""
        flips = Moves(*(Move(move.flip) for move in flips))
        top, left = (
            start if move.flip is None else ops.where(move.flip, ops.cast(n, "float32") - start - length, start)
            for move, n, start, length in zip(flips, size, (self.top, self.left), (self.tall, self.wide), strict=True)
        )
        return self._replace(top=top, left=left, moves=flips.then(self.moves, self.sizes, ops))

    @property
    def steps(self):
        """The maps that follow one another. Boxes and points are clipped after each of them."""
        return (self,)

    def size_of_result(self, size):
        return self.sizes

    def is_identity(self):
        """No image stays."""

    def move_pixels(self, kernels, array, fill, fill_mode, smooth):
        """Returns the resized crops."""
        return kernels.crop(array, self, fill, smooth)

    def move_corners(self, x1, y1, x2, y2, size, ops):
        """Returns the corners of the moved boxes. The corners are edges of pixels."""
        top, left, down, across = self._scales(ops)
        return (x1 - left) * across, (y1 - top) * down, (x2 - left) * across, (y2 - top) * down

    def move_points(self, x, y, size, ops):
        """Returns the moved points. The centers of pixels are whole numbers."""
        top, left, down, across = self._scales(ops)
        return (x + 0.5 - left) * across - 0.5, (y + 0.5 - top) * down - 0.5

    def _scales(self, ops):
        new_height, new_width = self.sizes
        entries = (self.top, self.left, new_height / self.tall, new_width / self.wide)
        return tuple(ops.expand_dims(entry, -1) for entry in entries)


def cropped(array, crop, fill, smooth, channels_first, place):
    """Returns the resized crops of images, or of masks if not `smooth`, which take the nearest pixels."""
    ops = place.ops
    sizes = ops.shape(array)[2:4] if channels_first else ops.shape(array)[1:3]
    weights, resized = (_bilinear, _products) if smooth else (_nearest, _taken)
    rows, rows_in = sources(crop.sizes[0], crop.moves.rows, False, ops)
    columns, columns_in = sources(crop.sizes[1], crop.moves.columns, False, ops)
    rows = weights(crop.top, crop.tall, rows, crop.sizes[0], sizes[0], ops)
    columns = weights(crop.left, crop.wide, columns, crop.sizes[1], sizes[1], ops)
    found = resized(array, rows, columns, channels_first, place)
    if not crop.moves.shifts:
        return found
    inside, fill = ops.expand_dims(rows_in, 2) & ops.expand_dims(columns_in, 1), ops.cast(fill, dtype_of(array))
    if len(array.shape) == 4:
        inside = ops.expand_dims(inside, 1 if channels_first else -1)
    fill = ops.reshape(fill, [-1, 1, 1]) if channels_first and len(fill.shape) else fill
    return ops.where(inside, found, fill)


def _products(images, rows, columns, channels_first, place):
    """Returns the images after both products.

    A pixel that is infinite or NaN makes the new pixels NaN in which it has a weight. A product alone would spread it
    over the whole crop, since 0 * NaN is NaN.
    """
    ops, dtype = place.ops, dtype_of(images)
    images, rows, columns = (ops.cast(array, place.dtype_of_arithmetic(dtype)) for array in (images, rows, columns))

    def product(images):
        return _product(images, rows, columns, channels_first, ops)

    def separately(images):
        finite, wide = ops.isfinite(images), dtype_of(images)
        found, spoiled = (product(x) for x in (ops.where(finite, images, ops.cast(0, wide)), ops.cast(~finite, wide)))
        return ops.where(spoiled > 0, ops.cast(float("nan"), wide), found)

    with np.errstate(all="ignore"):  # a sum reads the pixels once; if it overflows, the longer way is right as well
        finite = ops.isfinite(ops.sum(images))
    return ops.cast(place.either(finite, product, separately, images), dtype)


def _product(images, rows, columns, channels_first, ops):
    """Returns both products. With NumPy 1.26, `einsum` would take thirty times as long as `matmul`."""
    shape = ops.shape(images)
    tall, wide = rows.shape[1], columns.shape[1]
    if channels_first:
        count, channels, _, width = shape
        planes = ops.matmul(ops.expand_dims(rows, 1), images)
    else:
        count, height, width, channels = shape
        resized = ops.matmul(rows, ops.reshape(images, (count, height, width * channels)))
        planes = ops.transpose(ops.reshape(resized, (count, tall, width, channels)), (0, 3, 1, 2))
    lines = ops.reshape(planes, (count, channels * tall, width))
    found = ops.matmul(lines, ops.transpose(columns, (0, 2, 1)))
    found = ops.reshape(found, (count, channels, tall, wide))
    return found if channels_first else ops.transpose(found, (0, 2, 3, 1))


def _taken(masks, rows, columns, channels_first, place):
    ops = place.ops
    found = gather_pixels(ops.transpose(masks, (0, 2, 3, 1)) if channels_first else masks, rows, columns, place)
    return ops.transpose(found, (0, 3, 1, 2)) if channels_first else found


def _bilinear(start, length, places, new_size, size, ops):
    """Returns triangular weights (batch, new_size, size) that resample [start, start + length).

    `places` are the pixels of the resized crop, (1 or batch, new_size).

    The triangles are wider if the crop shrinks. A pixel is a square with its value at the center. Pixels outside the
    crop have weight 0.
    """
    step = ops.reshape(length / new_size, [-1, 1, 1])
    start, end = (ops.reshape(x, [-1, 1, 1]) for x in (start, start + length))
    centers = start + (ops.expand_dims(ops.cast(places, "float32"), 2) + 0.5) * step
    sources = ops.reshape(ops.cast(ops.arange(0, size, dtype="int32"), "float32"), [1, 1, -1]) + 0.5
    inside = (sources > start - 0.5) & (sources < end + 0.5)
    weights = ops.maximum(1.0 - ops.abs(sources - centers) / ops.maximum(step, 1.0), 0.0)
    weights = ops.where(inside, weights, 0.0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _nearest(start, length, places, new_size, size, ops):
    """Returns the pixel that contains the center of each new pixel, (batch, new_size)."""
    shares = (ops.cast(places, "float32") + 0.5) / new_size
    index = ops.floor(ops.expand_dims(start, 1) + shares * ops.expand_dims(length, 1))
    limit = ops.cast(size - 1, "float32")
    return ops.cast(ops.minimum(ops.maximum(index, 0.0), limit), "int32")
