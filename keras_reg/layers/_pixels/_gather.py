"""Pixels gathered by rows and columns, whole pixels at a time."""


def gather_pixels(array, rows, columns, ops):
    """array[b, rows[b, i], columns[b, j]] for (batch, H, W) or (batch, H, W, C): one gather of whole pixels."""
    shape = ops.shape(array)
    starts = ops.reshape(ops.arange(0, shape[0], dtype="int32") * shape[1], [-1, 1, 1])
    index = (starts + ops.expand_dims(rows, 2)) * shape[2] + ops.expand_dims(columns, 1)
    # Not -1, which JAX cannot tell where there are no channels.
    found = ops.take(ops.reshape(array, (shape[0] * shape[1] * shape[2], *shape[3:])), index, axis=0)
    # JAX takes from an empty batch without a look at the shape of the index.
    return ops.reshape(found, (shape[0], ops.shape(rows)[1], ops.shape(columns)[1], *shape[3:]))
