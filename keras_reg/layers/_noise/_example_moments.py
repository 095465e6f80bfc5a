"""Statistics per example for normalization layers: the number of unmasked positions, and sums over positions."""

from keras import ops

from keras_reg._validation import fail


def to_weights(mask, x):
    """Broadcasts a mask as in `keras.layers.BatchNormalization`, without the last axis, to booleans shaped like `x`."""
    if mask is None:
        return None
    if len(mask.shape) != len(x.shape) - 1:
        raise ValueError(
            f"The mask must have one dimension less than the inputs. Received: mask.shape={mask.shape}, "
            f"inputs.shape={x.shape}"
        )
    return ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), ops.shape(x))


def positions(x, axis):
    """Returns the axes of `x` that are neither the batch nor the channels."""
    rank = len(x.shape)
    return [i for i in range(1, rank) if i != axis % rank]


def example_sums(x, axis, weights=None):
    """Sums over the positions of each example, to (batch, channels)."""
    x = x if weights is None else ops.where(weights, x, 0)
    axes = positions(x, axis)
    return ops.sum(x, axes) if axes else x


def example_counts(x, axis, weights=None):
    """Counts the unmasked positions of each example: (batch, channels) with a mask, (batch, 1) without."""
    if weights is not None:
        return example_sums(ops.cast(weights, x.dtype), axis)
    shape = ops.shape(x)
    count = 1
    for i in positions(x, axis):
        count = count * shape[i]
    return ops.ones((shape[0], 1), x.dtype) * ops.cast(count, x.dtype)


def along_channels(values, x, axis):
    """Reshapes (channels,) or (batch, channels) to broadcast against `x`."""
    rank = len(x.shape)
    shape = [1] * rank
    shape[axis % rank] = x.shape[axis]
    if len(values.shape) == 2:
        shape[0] = -1
    return ops.reshape(values, shape)


def move_statistics(layer, mean, variance):
    """Updates the moving statistics of a batch normalization by one step."""
    for weight, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        weight.assign(ops.cast(weight, value.dtype) * layer.momentum + value * (1.0 - layer.momentum))


def check_axis(axis, rank):
    if axis % rank == 0:
        fail("`axis` must not be the batch axis.", axis=axis)
