"""Gathers pixels by rows and columns."""

import math

from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail

MOST = 2**31 - 1  # the largest number in int32


def gather_pixels(array, rows, columns, place):
    """Returns array[b, rows[b, i], columns[b, j]] of (batch, H, W) or (batch, H, W, C), in one gather of pixels."""
    ops, shape = place.ops, place.ops.shape(array)
    dtype = dtype_of_numbers(shape[:3], place)
    starts = ops.reshape(ops.arange(0, shape[0], dtype=dtype) * shape[1], [-1, 1, 1])
    rows, columns = (ops.cast(index, dtype) for index in (rows, columns))
    index = (starts + ops.expand_dims(rows, 2)) * shape[2] + ops.expand_dims(columns, 1)
    # The size is explicit, since JAX cannot infer -1 if there are no channels.
    found = place.entries(ops.reshape(array, (shape[0] * shape[1] * shape[2], *shape[3:])), index)
    # For an empty batch, JAX ignores the shape of the index.
    return ops.reshape(found, (shape[0], ops.shape(rows)[1], ops.shape(columns)[1], *shape[3:]))


def dtype_of_numbers(sizes, place):
    """Returns an integer dtype for the numbers of all pixels of a batch with these sizes."""
    if not all(isinstance(size, int) for size in sizes) or math.prod(sizes) <= MOST:
        return "int32"
    if place.held_dtype("int64") != "int64":
        fail(f"Expected at most {MOST} pixels per batch, as many as 32-bit integers can count.", shape=tuple(sizes))
    return "int64"


def gathered(array, moves, fill, reflect, channels_first, place):
    """Returns the images moved by `Moves`. Pixels from outside are `fill` or those of the mirrored image."""
    ops = place.ops
    pixels = ops.transpose(array, (0, 2, 3, 1)) if channels_first else array
    shape = ops.shape(pixels)
    rows, rows_in = sources(shape[1], moves.rows, reflect, ops)
    columns, columns_in = sources(shape[2], moves.columns, reflect, ops)
    moved = gather_pixels(pixels, rows, columns, place)
    if not reflect:
        within = ops.expand_dims(rows_in, 2) & ops.expand_dims(columns_in, 1)
        within = within if len(array.shape) == 3 else ops.expand_dims(within, -1)
        moved = ops.where(within, moved, ops.cast(fill, dtype_of(array)))
    return ops.transpose(moved, (0, 3, 1, 2)) if channels_first else moved


def source_of(size, move, reflect, ops):
    """Returns the source of each new row or column, (batch or 1, size), which may lie outside the image."""
    index = ops.expand_dims(ops.arange(0, size, dtype="int32"), 0)
    index = index if move.offset is None else index + ops.expand_dims(move.offset, 1)
    if reflect:
        index = ops.abs(index)
        index = size - 1 - ops.abs(size - 1 - index)
    return index if move.flip is None else ops.where(ops.expand_dims(move.flip, 1), size - 1 - index, index)


def is_seen(index, move, ops):
    """Returns which of these rows or columns are in the visible part of the image, which `move` must have."""
    first, end = (ops.expand_dims(edge, 1) for edge in move.visible)
    return (index >= first) & (index < end)


def sources(size, move, reflect, ops):
    """Returns the source of each new row or column, (batch or 1, size), and whether it is visible."""
    index = source_of(size, move, reflect, ops)
    within = (index >= 0) & (index < size)
    if move.visible is not None:
        within = within & is_seen(index, move, ops)
    return ops.minimum(ops.maximum(index, 0), size - 1), within
