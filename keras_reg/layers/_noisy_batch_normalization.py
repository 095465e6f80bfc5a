from typing import Any, Literal

import keras
from keras import ops

from keras_reg._backend import normal, uniform
from keras_reg._strength import Strength, serialize
from keras_reg._typing import Config, Shape, StrengthLike, Tensors
from keras_reg._validation import check_choice, check_integer, check_seed, fail
from keras_reg.layers._noise._example_moments import (
    along_channels,
    check_axis,
    example_counts,
    example_sums,
    move_statistics,
    to_weights,
)
from keras_reg.layers._noise._one_array import TakesOneArray
from keras_reg.layers._noise._random_layer import RandomLayer
from keras_reg.layers._strength_weight import given


@keras.saving.register_keras_serializable(package="keras_reg")
class NoisyBatchNormalization(TakesOneArray, RandomLayer, keras.layers.BatchNormalization):
    """Batch normalization with additional noise, which imitates the noise of small batches.

    In training, `noise="output"` normalizes by the moments of the batch and adds N(0, stddev^2) to the normalized
    activations, before `gamma` and `beta`. `noise="statistics"` normalizes by the mean and variance of
    `virtual_batch_size` examples of the batch, drawn with replacement, as in training with batches of that size. Whole
    examples are drawn, so the noise equals that of real batches, also for correlated maps and skewed activations. The
    gradient flows through the drawn examples.

    In inference, and with `trainable=False`, the layer equals `keras.layers.BatchNormalization` bit for bit, and has
    the same weights in the same order. The moving statistics are those of the whole batch, without the noise.

    Args:
        stddev: Number of at least 0, or a `keras_reg.Strength`, whose weight is the last one. Used by "output".
        noise: "output" or "statistics".
        virtual_batch_size: Integer of at least 2, for "statistics". Smaller values give more noise.
        seed: Integer of at least 0, or `None`.
        **kwargs: Arguments of `keras.layers.BatchNormalization`. With `synchronized=True`, each replica has its
            own "statistics" noise around the moments of all replicas. `renorm=True` supports only "output".

    Call arguments:
        inputs: Tensor of rank at least 2. One example is one element of the first axis.
        training: Whether to normalize by the batch, with noise, or by the moving statistics.
        mask: Tensor with one dimension less than `inputs`, or `None`. Masked positions are ignored in the statistics.

    Input shape:
        Any shape; `axis` must have a known size.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import keras, keras_reg
    >>> noisy = keras_reg.layers.NoisyBatchNormalization(stddev=0.5)
    >>> x = keras.random.normal((1000, 4))
    >>> bool(abs(keras.ops.std(noisy(x, training=True)) - (1 + 0.5**2) ** 0.5) < 0.05)
    True
    >>> plain, noisy = keras.layers.BatchNormalization(), keras_reg.layers.NoisyBatchNormalization()
    >>> bool(keras.ops.all(noisy(x) == plain(x)))
    True

    References:
        - [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167), section 3.4, on the noise of batch statistics.
    """

    least_rank = 2

    def __init__(
        self,
        stddev: StrengthLike = 0.1,
        noise: Literal["output", "statistics"] = "output",
        virtual_batch_size: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        stddev = given("stddev", stddev)
        noise = check_choice("noise", noise, ("output", "statistics"))
        optional = noise == "output"
        virtual_batch_size = check_integer("virtual_batch_size", virtual_batch_size, 2, optional, high=2**20)
        seed = check_seed(seed)
        super().__init__(**kwargs)
        if noise == "statistics":
            self._check_statistics(stddev)
        self.stddev = stddev
        self.noise = noise
        self.virtual_batch_size = virtual_batch_size
        self._set_seed(seed)

    def _check_statistics(self, stddev):
        if isinstance(stddev, Strength):
            fail('`stddev` is not used with noise="statistics", so it must not be a `Strength`.', stddev=stddev)
        if getattr(self, "renorm", False):
            fail('`renorm` must be False with noise="statistics".', renorm=self.renorm)

    def build(self, input_shape: Shape) -> None:
        if self.noise == "statistics":
            check_axis(self.axis, len(input_shape))
        super().build(input_shape)
        # After the four weights of the plain layer, so that these keep their positions.
        self.set_strength("stddev", self.stddev)

    def call(self, inputs: Tensors, training: bool | None = None, mask: Tensors = None) -> Tensors:
        plain = not training or not self.trainable
        if plain or (self.noise == "output" and self._is_plain("stddev", 0)):
            return super().call(inputs, training=training, mask=mask)
        if self.noise == "output":
            return self._add_noise(super().call(inputs, training=training, mask=mask))
        return self._normalize_by_examples(inputs, mask)

    def _add_noise(self, outputs):
        noise = self._value_or_weight("stddev") * normal(self.random.key(), ops.shape(outputs))
        if self.scale:
            noise = noise * along_channels(ops.cast(self.gamma, noise.dtype), outputs, self.axis)
        return outputs + ops.cast(noise, outputs.dtype)

    def _normalize_by_examples(self, inputs, mask):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        weights = to_weights(mask, x)
        counts = example_counts(x, self.axis, weights)
        sums = example_sums(x, self.axis, weights)
        if self.synchronized and mask is None:
            axes = [i for i in range(len(x.shape)) if i != self.axis % len(x.shape)]
            mean, variance = ops.moments(x, axes, synchronized=True)
        else:
            mean, variance = _share(sums, counts), None
        # Moments about the batch mean: E[x^2] - E[x]^2 would lose the variance of data far from zero.
        first = sums - counts * mean
        second = example_sums(ops.square(x - along_channels(mean, x, self.axis)), self.axis, weights)
        variance = _share(second, counts) if variance is None else variance
        move_statistics(self, mean, variance)

        times = self._draw(ops.shape(x)[0], x.dtype)
        shift = _share(first, counts, times) - _share(first, counts)
        change = _share(second, counts, times) - _share(second, counts)
        if mask is not None:  # a draw that contains only masked examples has no statistics
            some = ops.sum(times * counts, 0) > 0
            shift, change = ops.where(some, shift, 0), ops.where(some, change, 0)
        outputs = ops.batch_normalization(
            x,
            mean=mean + shift,
            variance=ops.maximum(variance + change - ops.square(shift), 0),
            axis=self.axis,
            offset=ops.cast(self.beta, x.dtype) if self.center else None,
            scale=ops.cast(self.gamma, x.dtype) if self.scale else None,
            epsilon=self.epsilon,
        )
        return ops.cast(outputs, self.compute_dtype)

    def _draw(self, batch, dtype):
        """Draws how many times each example is used, (batch, 1)."""
        u = uniform(self.random.key(), (self.virtual_batch_size, 1))
        drawn = ops.cast(u * ops.cast(batch, "float32"), "int32")
        drawn = ops.minimum(drawn, batch - 1)  # the product may round up
        return ops.sum(ops.cast(ops.equal(drawn, ops.arange(batch, dtype="int32")), dtype), 0)[:, None]

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "stddev": serialize(self.stddev),
            "noise": self.noise,
            "virtual_batch_size": self.virtual_batch_size,
            "seed": self.seed,
        }


def _share(sums, counts, times=1):
    """Returns the mean over weighted examples, (channels,)."""
    return ops.sum(times * sums, 0) / ops.maximum(ops.sum(times * counts, 0), 1)
