"""Counts of a training step, computed on its device."""

import sys

from keras import ops

from keras_reg._backend._current import BACKEND


def count(ids, length):
    """Counts how often each of 0, ..., `length` - 1 occurs in the integers `ids`.

    The counts are exact, of shape (length,), and computed on the device.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # tf.math.bincount derives the size from the data, which XLA cannot compile.
        return tf.raw_ops.DenseBincount(input=ids, size=tf.constant(length), weights=tf.constant([], tf.int32))
    if BACKEND == "jax":
        import jax

        return jax.numpy.bincount(ids, length=length)
    return ops.cast(sys.modules["torch"].bincount(ids, minlength=length), "int32")


def bucket(values, edges, guess):
    """Returns for each value the i with edges[i] <= value < edges[i + 1]. `guess()` may be off by one.

    XLA fuses the comparison of the guess with the neighboring edges into one pass. On PyTorch, a search is faster.
    """
    if BACKEND == "torch":
        return ops.searchsorted(edges[1:], values, side="right")
    index = guess()
    above = ops.cast(values >= ops.take(edges, index + 1), "int32")
    below = ops.cast(values < ops.take(edges, index), "int32")
    return index + above - below


def sum_over_replicas(tensors):
    """Sums the tensors over the replicas of a `tf.distribute` step. On other backends, Keras has already done so."""
    if BACKEND != "tensorflow":
        return tensors
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def share_of_replica(loss):
    """Returns the share of a mean loss that this replica adds to the sum over all replicas of `tf.distribute`."""
    replicas = _replicas()
    return loss if replicas == 1 else loss / replicas


def mean_of_replica(share):
    """Returns the mean loss of which `share_of_replica`, or a loss of Keras, has given the share."""
    replicas = _replicas()
    return share if replicas == 1 else share * replicas


def _replicas():
    if BACKEND != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
