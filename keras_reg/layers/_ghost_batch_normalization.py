from typing import Any

import keras
from keras import ops

from keras_reg._typing import Config, Shape, Tensors
from keras_reg._validation import check_integer, fail
from keras_reg.layers._noise._example_moments import (
    along_channels,
    check_axis,
    example_counts,
    example_sums,
    move_statistics,
    to_weights,
)
from keras_reg.layers._noise._one_array import TakesOneArray
from keras_reg.layers._noise._random_layer import NotRematerialized


@keras.saving.register_keras_serializable(package="keras_reg")
class GhostBatchNormalization(TakesOneArray, NotRematerialized, keras.layers.BatchNormalization):
    """Batch normalization that normalizes consecutive parts of the batch (virtual batches) with their own statistics.

    This gives large batches the noise of small ones. In training, each part of `virtual_batch_size` examples has mean 0
    and variance 1 in every channel. The last part is smaller if the batch cannot be divided evenly. In inference, with
    `trainable=False`, and if the batch is not larger than a virtual batch, the layer equals
    `keras.layers.BatchNormalization`. It has the same weights in the same order.

    The moving statistics are updated once per step by the means over all parts, so the number of parts does not change
    their speed.

    Args:
        virtual_batch_size: Integer of at least 1.
        **kwargs: Arguments of `keras.layers.BatchNormalization`, except `renorm` and `synchronized`.

    Call arguments:
        inputs: Tensor of rank at least 2. One example is one element of the first axis.
        training: Whether to normalize by the virtual batches or by the moving statistics.
        mask: Tensor with one dimension less than `inputs`, or `None`. Masked positions are ignored in the statistics.

    Input shape:
        Any shape; `axis` must have a known size.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: If `virtual_batch_size` is not a positive integer, `axis` is the batch axis, or `renorm` or
            `synchronized` is set.

    Example:

    >>> import keras, keras_reg
    >>> ghost = keras_reg.layers.GhostBatchNormalization(virtual_batch_size=16)
    >>> y = ghost(keras.random.normal((64, 4)), training=True)
    >>> bool(keras.ops.max(abs(keras.ops.mean(y[16:32], axis=0))) < 1e-5)
    True

    References:
        - [Hoffer et al., 2017](https://arxiv.org/abs/1705.08741). They update the moving statistics once per part,
          so these change faster with larger batches. Here they are updated once per step.
    """

    least_rank = 2

    def __init__(self, virtual_batch_size: int = 32, **kwargs: Any) -> None:
        virtual_batch_size = check_integer("virtual_batch_size", virtual_batch_size, low=1, high=2**20)
        for name in ("renorm", "synchronized"):
            if kwargs.get(name):
                fail(
                    f"`{name}` must be False, since each virtual batch has its own statistics.", **{name: kwargs[name]}
                )
        super().__init__(**kwargs)
        self.virtual_batch_size = virtual_batch_size

    def build(self, input_shape: Shape) -> None:
        check_axis(self.axis, len(input_shape))
        super().build(input_shape)

    def call(self, inputs: Tensors, training: bool | None = None, mask: Tensors = None) -> Tensors:
        batch = inputs.shape[0]
        if not training or not self.trainable or (batch is not None and batch <= self.virtual_batch_size):
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        weights = to_weights(mask, x)
        counts = self._sum_parts(example_counts(x, self.axis, weights))
        counted = ops.maximum(counts, 1)  # a part may be masked completely
        mean = self._sum_parts(example_sums(x, self.axis, weights)) / counted
        centered = x - self._spread(mean, x)
        variance = self._sum_parts(example_sums(ops.square(centered), self.axis, weights)) / counted
        share = counts / ops.maximum(ops.sum(counts, 0), 1)
        move_statistics(self, ops.sum(share * mean, 0), ops.sum(share * variance, 0))

        scale = ops.rsqrt(variance + self.epsilon)
        if self.scale:
            scale = scale * ops.cast(self.gamma, x.dtype)
        outputs = centered * self._spread(scale, x)
        if self.center:
            outputs = outputs + along_channels(ops.cast(self.beta, x.dtype), x, self.axis)
        return ops.cast(outputs, self.compute_dtype)

    def _sum_parts(self, values):
        """Sums (batch, channels) over the examples of each part, to (parts, channels)."""
        batch, channels = ops.shape(values)[0], values.shape[1]
        missing = -batch % self.virtual_batch_size
        if not isinstance(missing, int) or missing:
            values = ops.concatenate([values, ops.zeros((missing, channels), values.dtype)])
        return ops.sum(ops.reshape(values, (-1, self.virtual_batch_size, channels)), 1)

    def _spread(self, parts, x):
        """Repeats (parts, channels) for all examples of each part, shaped to broadcast against `x`."""
        return along_channels(ops.repeat(parts, self.virtual_batch_size, 0)[: ops.shape(x)[0]], x, self.axis)

    def get_config(self) -> Config:
        return {**super().get_config(), "virtual_batch_size": self.virtual_batch_size}
