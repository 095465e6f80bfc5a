"""Histograms and norms of many tensors at once, on the device. The buckets are logarithmic and cover both signs."""

import math

import numpy as np
from keras import ops

from keras_reg import _backend

# A gradient below the first changes no float32 weight, even with Adam; one above the second has exploded.
SMALLEST, LARGEST = 1e-15, 1e3

ROW = 512  # tensors are cut into rows of this length, so that one operation serves many tensors
CHUNK = 1 << 22  # tensors are measured together up to this many numbers, which bounds the memory; a larger one is alone


def signed_log_edges(bins):
    """Edges (bins + 1,) float32: -inf, -1e3, ..., -1e-15, 0, 1e-15, ..., 1e3, inf, evenly spaced in the logarithm."""
    positive = np.geomspace(SMALLEST, LARGEST, bins // 2 - 1).astype("float32")
    return np.concatenate([[-np.inf], -positive[::-1], [0], positive, [np.inf]]).astype("float32")


def measure(tensors, bins):
    """Returns counts (n, bins + 2) int32 and numbers (n, 4) float32 of n tensors, for `_history.describe`.

    The counts are those of `numpy.histogram` with `signed_log_edges(bins)`, except that the last two columns count the
    zeros and the non-finite values. The numbers are the minimum, maximum, sum and L2 norm of the finite values.
    """
    results, chunk = [], []
    for tensor in tensors:
        if chunk and sum(map(_size, [*chunk, tensor])) > CHUNK:
            results.append(_measure_together(chunk, bins))
            chunk = []
        chunk.append(tensor)
    results.append(_measure_together(chunk, bins))
    return tuple(ops.concatenate(parts, axis=0) for parts in zip(*results, strict=True))


def _size(tensor):
    return math.prod(tensor.shape)


def _measure_together(tensors, bins):
    rows, owner, padding = _rows(tensors)
    finite = ops.isfinite(rows)
    values = ops.where(finite, rows, ops.zeros_like(rows))
    ids = ops.where(values == 0, bins, _bucket(values, bins))
    ids = ops.where(finite, ids, bins + 1) + owner[:, None] * (bins + 2)
    counts = ops.reshape(_backend.count(ops.reshape(ids, (-1,)), len(tensors) * (bins + 2)), (-1, bins + 2))
    counts = counts - ops.convert_to_tensor(np.pad(padding[:, None], ((0, 0), (bins + 1, 0))))
    return counts, _numbers(rows, values, finite, owner, len(tensors))


def _rows(tensors):
    """Returns all tensors as rows (r, ROW), the tensor that each row belongs to, and the padding of each tensor."""
    sizes = np.array([_size(tensor) for tensor in tensors])
    padding = -sizes % ROW
    pieces = []
    for tensor, pad in zip(tensors, padding, strict=True):
        pieces.append(ops.cast(ops.reshape(tensor, (-1,)), "float32"))
        if pad:
            pieces.append(ops.full((int(pad),), np.inf, dtype="float32"))
    owner = np.repeat(np.arange(len(tensors)), (sizes + padding) // ROW)
    rows = ops.reshape(ops.concatenate(pieces), (-1, ROW))
    return rows, ops.convert_to_tensor(owner, "int32"), padding.astype("int32")


def _bucket(values, bins):
    """Returns the bucket of each finite value; the first guess comes from the logarithm."""
    half = bins // 2
    steps = (half - 2) / math.log(LARGEST / SMALLEST)

    def guess():
        step = (ops.log(ops.clip(ops.abs(values), SMALLEST, LARGEST)) - math.log(SMALLEST)) * steps
        step = ops.cast(step, "int32") + 1
        return ops.where(values < 0, half - 1 - step, half + step)

    return _backend.bucket(values, ops.convert_to_tensor(signed_log_edges(bins)), guess)


def _numbers(rows, values, finite, owner, length):
    """Returns minimum, maximum, sum and norm of the finite values, scaled so that no square over- or underflows."""
    low = ops.segment_max(ops.max(ops.where(finite, -rows, -np.inf), axis=-1), owner, length)
    high = ops.segment_max(ops.max(ops.where(finite, rows, -np.inf), axis=-1), owner, length)
    largest = ops.maximum(low, high)
    unit = ops.where(largest > 0, largest, ops.ones_like(largest))
    total = ops.segment_sum(ops.sum(values, axis=-1), owner, length)
    squares = ops.sum(ops.square(values / ops.take(unit, owner)[:, None]), axis=-1)
    norm = unit * ops.sqrt(ops.segment_sum(squares, owner, length))
    return ops.stack([-low, high, total, norm], axis=-1)
