from typing import Any

import keras
import numpy as np
from keras import ops

from keras_reg._backend import fold, uniform
from keras_reg._dtypes import dtype_of
from keras_reg._typing import Config, DataFormat, Pair, Shape, Tensors
from keras_reg._validation import check_data_format, check_flag, check_number, check_seed, fail, native
from keras_reg.layers._noise._one_array import TakesOneArray
from keras_reg.layers._noise._random_layer import RandomLayer, in_compute_dtype


@keras.saving.register_keras_serializable(package="keras_reg")
class FractionalMaxPooling2D(TakesOneArray, RandomLayer, keras.layers.Layer):
    """Takes the maximum over random regions, most of which have one or two rows and one or two columns.

    A side of length n shrinks to floor(n / ratio). The regions between the boundaries a_0 = 0 < a_1 < ... = n cover it
    without gaps. Each training call draws new boundaries for rows and for columns, which all images of the batch share.
    Pseudo-random boundaries are ceil(alpha (i + u)) as in the paper, with the exact ratio alpha of the sides and one
    random u. Random boundaries use steps of the same sizes in random order. In inference, the regions are fixed: the
    pseudo-random regions with the middle value of u.

    Args:
        pool_ratio: Number in [1, 2], or a pair of them for height and width.
        pseudo_random: Whether the boundaries are pseudo-random. Otherwise, they are random.
        overlapping: Whether a region also includes the first row and column of the next one.
        data_format: "channels_last", "channels_first" or `None` for Keras' own setting.
        seed: Integer of at least 0, or `None`.

    Call arguments:
        inputs: Feature maps.
        training: Whether to draw regions.

    Input shape:
        (batch, height, width, channels), or (batch, channels, height, width) with "channels_first".

    Output shape:
        The shape of the input with floor(height / ratio) and floor(width / ratio), each at least 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import keras, keras_reg
    >>> layer = keras_reg.layers.FractionalMaxPooling2D(1.5)
    >>> layer(keras.ops.ones((2, 32, 24, 3)), training=True).shape == (2, 21, 16, 3)
    True

    References:
        - [Graham, 2014](https://arxiv.org/abs/1412.6071), whose boundaries run from 1 to n, so disjoint regions leave
          out the last row. Here they cover it. At a ratio near 2 with an odd length, floor makes one region larger: 3
          rows instead of 2.
    """

    def __init__(
        self,
        pool_ratio: float | Pair,
        pseudo_random: bool = True,
        overlapping: bool = False,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        pool_ratio = native(pool_ratio)
        ratios = _pair(pool_ratio)
        if len(ratios) != 2:
            fail("`pool_ratio` must be a number or a pair of numbers.", pool_ratio=pool_ratio)
        for ratio in ratios:
            check_number("pool_ratio", ratio, 1, 2)
        pseudo_random = check_flag("pseudo_random", pseudo_random)
        overlapping = check_flag("overlapping", overlapping)
        data_format = check_data_format(data_format)
        seed = check_seed(seed)
        super().__init__(**kwargs)
        self.pool_ratio = pool_ratio
        self.pseudo_random = pseudo_random
        self.overlapping = overlapping
        self.data_format = data_format or keras.config.image_data_format()
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self._set_seed(seed)

    def call(self, inputs: Tensors, training: bool | None = False) -> Tensors:
        key = self.random.key() if training else None
        outputs = in_compute_dtype(self, inputs)
        for number, (axis, ratio) in enumerate(zip(self._axes(), _pair(self.pool_ratio), strict=True)):
            size = ops.shape(inputs)[axis]
            if isinstance(size, int) and size == 0:
                fail("`inputs` must have at least one row and one column.", shape=tuple(inputs.shape))
            count = _pooled(size, ratio)
            bounds = self._bounds(size, count, None if key is None else fold(key, number))
            outputs = _pool(outputs, axis, size, count, bounds, self.overlapping)
        return outputs

    def _axes(self):
        return (2, 3) if self.data_format == "channels_first" else (1, 2)

    def _bounds(self, size, count, key):
        """Returns the boundaries 0 = a_0 < ... < a_count = size of the regions along one side, int32."""
        if self.pseudo_random or key is None:
            # ceil(alpha (i + u)) - 1 with alpha = size / count and u in (0, 1 / alpha], so that a_0 = 0. Integers are
            # enough, since the result only depends on the step of size 1 / size in which u lies.
            step = count // 2 if key is None else _integer(uniform(key, ()), count)
            whole, part = _multiples(size, count)
            return whole + (part + step) // count
        order = ops.argsort(ops.argsort(uniform(key, (count,))))
        steps = size // count + ops.cast(order < size % count, "int32")
        return ops.concatenate([ops.zeros((1,), "int32"), ops.cumsum(steps)])

    def compute_output_shape(self, input_shape: Shape) -> Any:
        shape = list(input_shape)
        for axis, ratio in zip(self._axes(), _pair(self.pool_ratio), strict=True):
            shape[axis] = None if shape[axis] is None else _pooled(shape[axis], ratio)
        return tuple(shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "pool_ratio": self.pool_ratio,
            "pseudo_random": self.pseudo_random,
            "overlapping": self.overlapping,
            "data_format": self.data_format,
            "seed": self.seed,
        }


def _pair(pool_ratio):
    return tuple(pool_ratio) if isinstance(pool_ratio, (tuple, list)) else (pool_ratio,) * 2


def _pooled(size, ratio):
    """Returns floor(size / ratio), but at least 1. The tolerance makes 33 / 1.1 equal to 30."""
    if isinstance(size, int):
        return max(1, int(size / ratio + 1e-6))
    return ops.maximum(ops.cast(ops.cast(size, "float64") / ratio + 1e-6, "int32"), 1)


def _multiples(size, count):
    """Returns the quotients and the remainders of i * size / count, i from 0 to count. The products exceed int32."""
    if isinstance(size, int):
        found = np.divmod(size * np.arange(count + 1, dtype="int64"), count)
        return [ops.convert_to_tensor(each.astype("int32")) for each in found]
    products, count = ops.cast(size, "int64") * ops.arange(count + 1, dtype="int64"), ops.cast(count, "int64")
    return [ops.cast(each, "int32") for each in (products // count, products % count)]


def _integer(u, count):
    """Returns a random integer below `count`, from u in [0, 1)."""
    return ops.minimum(ops.cast(u * ops.cast(count, "float32"), "int32"), count - 1)


def _pool(x, axis, size, count, bounds, overlapping):
    """Computes the maximum over each region, by one gather per row of the largest region."""
    starts, ends = bounds[:-1], bounds[1:]
    if overlapping:
        ends = ops.minimum(ends + 1, size)
    largest = (-(-size // count) if isinstance(size, int) else 3) + int(overlapping)
    outputs = ops.take(x, starts, axis)
    for offset in range(1, largest):
        outputs = _maximum(outputs, ops.take(x, ops.minimum(starts + offset, ends - 1), axis))
    return outputs


def _maximum(a, b):
    """Computes `ops.maximum`, but does not round float64 to float32."""
    if dtype_of(a) != "float64":
        return ops.maximum(a, b)
    return ops.where(ops.logical_or(a > b, ops.isnan(a)), a, b)
