"""The operations of `keras.ops`, implemented by TensorFlow, for use under any backend."""

import functools
import sys

import numpy as np

from keras_reg._backend._operations import Operations


@functools.cache
def tensorflow_ops():
    """Returns the operations, implemented by TensorFlow."""
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
        """Casts both to the dtype of the tensor among them. TensorFlow would convert a plain 1 to int32."""
        dtype = next((x.dtype for x in (x1, x2) if isinstance(x, tf.Tensor)), None)
        return (x1, x2) if dtype is None else (tf.cast(x1, dtype), tf.cast(x2, dtype))

    def every(x):
        return list(range(len(x.shape)))

    def pick(function):
        return lambda x, axis=None, keepdims=False: function(x, axis=axis, keepdims=keepdims)

    return Operations(
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
        cumsum=lambda x, axis: tf.cumsum(x, axis),
        einsum=tf.einsum,
        equal=tf.equal,
        exp=tf.exp,
        expand_dims=tf.expand_dims,
        flip=lambda x, axis=None: tf.reverse(x, every(x) if axis is None else np.atleast_1d(axis)),
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
        segment_sum=tf.math.unsorted_segment_sum,
        shape=shape,
        sign=tf.sign,
        sin=tf.sin,
        sqrt=tf.sqrt,
        square=tf.square,
        squeeze=tf.squeeze,
        stack=tf.stack,
        sum=pick(tf.reduce_sum),
        take=take,
        take_along_axis=take_along_axis,
        tile=tf.tile,
        transpose=tf.transpose,
        where=where,
        zeros=lambda shape, dtype="float32": tf.zeros(shape, dtype),
        zeros_like=lambda x, dtype=None: tf.zeros_like(x, dtype=dtype),
    )
