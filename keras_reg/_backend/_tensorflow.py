"""The operations of `keras.ops` that the pure functions use, by TensorFlow, whatever Keras' backend."""

import functools
import sys
import types

import numpy as np
from keras import ops

from keras_reg._backend._current import BACKEND


@functools.cache
def _tensorflow_ops():
    tf = sys.modules["tensorflow"]

    def shape(x):
        dynamic = tf.shape(x)
        return tuple(dynamic[i] if size is None else size for i, size in enumerate(x.shape))

    def take(x, indices, axis=None):
        return tf.gather(tf.reshape(x, [-1]) if axis is None else x, indices, axis=axis or 0)

    def take_along_axis(x, indices, axis):
        return tf.experimental.numpy.take_along_axis(x, indices, axis)

    def where(condition, x1, x2):
        return tf.where(condition, *of_one_dtype(x1, x2))

    def of_one_dtype(x1, x2):
        """A plain number takes the dtype of the tensor beside it: TensorFlow takes a 1 for an int32."""
        dtype = next((x.dtype for x in (x1, x2) if isinstance(x, tf.Tensor)), None)
        return (x1, x2) if dtype is None else (tf.cast(x1, dtype), tf.cast(x2, dtype))

    def pick(function):
        return lambda x, axis=None, keepdims=False: function(x, axis=axis, keepdims=keepdims)

    return types.SimpleNamespace(
        abs=tf.abs,
        all=pick(tf.reduce_all),
        any=pick(tf.reduce_any),
        arange=lambda *args, dtype=None: tf.range(*args, dtype=dtype),
        broadcast_to=tf.broadcast_to,
        cast=tf.cast,
        clip=lambda x, low, high: tf.clip_by_value(x, tf.cast(low, x.dtype), tf.cast(high, x.dtype)),
        concatenate=lambda xs, axis=0: tf.concat(xs, axis),
        convert_to_tensor=lambda x, dtype=None: tf.convert_to_tensor(x) if dtype is None else tf.cast(x, dtype),
        cos=tf.cos,
        einsum=tf.einsum,
        equal=tf.equal,
        exp=tf.exp,
        expand_dims=tf.expand_dims,
        floor=tf.floor,
        isfinite=tf.math.is_finite,
        log=tf.math.log,
        logical_and=tf.logical_and,
        matmul=tf.matmul,
        max=pick(tf.reduce_max),
        maximum=lambda x1, x2: tf.maximum(*of_one_dtype(x1, x2)),
        mean=pick(tf.reduce_mean),
        min=pick(tf.reduce_min),
        minimum=lambda x1, x2: tf.minimum(*of_one_dtype(x1, x2)),
        mod=tf.math.floormod,
        ones_like=lambda x, dtype=None: tf.ones_like(x, dtype=dtype),
        prod=pick(tf.reduce_prod),
        repeat=tf.repeat,
        reshape=tf.reshape,
        round=tf.round,
        shape=shape,
        sin=tf.sin,
        sqrt=tf.sqrt,
        square=tf.square,
        squeeze=tf.squeeze,
        stack=tf.stack,
        stop_gradient=tf.stop_gradient,
        sum=pick(tf.reduce_sum),
        switch=lambda index, branches, *operands: tf.switch_case(
            index, [functools.partial(branch, *operands) for branch in branches]
        ),
        take=take,
        take_along_axis=take_along_axis,
        tile=tf.tile,
        transpose=tf.transpose,
        where=where,
        zeros=lambda shape, dtype="float32": tf.zeros(shape, dtype),
        zeros_like=lambda x, dtype=None: tf.zeros_like(x, dtype=dtype),
    )


def as_written(function):
    """`function`, which AutoGraph takes as it is: to translate all that it calls takes the first tf.data map seconds.

    What layers of Keras' `call` do is not translated anyway.
    """
    tf = sys.modules.get("tensorflow")
    if tf is None or tf.executing_eagerly():
        return function
    return tf.autograph.experimental.do_not_convert(function)


def _in_graph():
    """Whether a TensorFlow graph is being traced, which `tf.distribute` does in a thread for each replica."""
    return BACKEND == "tensorflow" and not sys.modules["tensorflow"].executing_eagerly()


def _is_called_by(name):
    """Whether a function of this name is running. A recomputation of TensorFlow shows nowhere else."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != name:
        frame = frame.f_back
    return frame is not None


def _replica_id(tf):
    context = tf.distribute.get_replica_context()
    if context is None or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.constant(0, tf.int64)
    return tf.cast(context.replica_id_in_sync_group, tf.int64)


def read_outside(variable, framework):
    """The present value of one of Keras' variables, a scalar, where a batch lives outside of Keras' backend.

    A tf.data graph is traced once, so under JAX and PyTorch it asks again for each batch.
    """

    def read(*_):
        return np.float32(ops.convert_to_numpy(variable))

    if framework.name != "tensorflow":
        return read()
    tf = sys.modules["tensorflow"]
    value = tf.numpy_function(read, [], tf.float32)
    value.set_shape(())
    return value
