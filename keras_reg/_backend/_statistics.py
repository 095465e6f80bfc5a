"""What a training step counts, on the device that it runs on."""

import sys

from keras import ops

from keras_reg._backend._current import BACKEND


def count(ids, length):
    """How often each of 0, ..., `length` - 1 occurs among the integers `ids`: exact, on the device, shape (length,)."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # tf.math.bincount takes the size from the data, which XLA cannot compile.
        return tf.raw_ops.DenseBincount(input=ids, size=tf.constant(length), weights=tf.constant([], tf.int32))
    if BACKEND == "jax":
        import jax

        return jax.numpy.bincount(ids, length=length)
    return ops.cast(sys.modules["torch"].bincount(ids, minlength=length), "int32")


def bucket(values, edges, guess):
    """The i of each value for which edges[i] <= value < edges[i + 1]; `guess()` returns one that may be off by one.

    Comparing the guess with the edges next to it is fused into one pass by XLA. PyTorch is faster with a search.
    """
    if BACKEND == "torch":
        return ops.searchsorted(edges[1:], values, side="right")
    index = guess()
    above = ops.cast(values >= ops.take(edges, index + 1), "int32")
    below = ops.cast(values < ops.take(edges, index), "int32")
    return index + above - below


def sum_over_replicas(tensors):
    """The tensors added up over the replicas of a `tf.distribute` step; elsewhere Keras has added them up already."""
    if BACKEND != "tensorflow":
        return tensors
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
