"""The largest and the smallest numbers along axes, also of empty batches."""


def largest(array, axis, ops):
    """Returns the maximum along an axis or axes, which are kept with size 1."""
    return _extreme(ops.max, array, axis, ops)


def smallest(array, axis, ops):
    """Returns the minimum along an axis or axes, which are kept with size 1."""
    return _extreme(ops.min, array, axis, ops)


def _extreme(reduce, array, axis, ops):
    """Reduces an array. Keras refuses empty ones on TensorFlow, although an empty batch has no number to look for."""
    reduce = ops.sum if 0 in array.shape else reduce
    return reduce(array, axis=axis, keepdims=True)
