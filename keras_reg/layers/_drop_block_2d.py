import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_reg._backend import uniform
from keras_reg._renamed import renamed
from keras_reg._strength import Strength, serialize
from keras_reg._typing import Config, DataFormat, Shape, StrengthLike, Tensors
from keras_reg._validation import check_data_format, check_flag, check_seed, fail, is_integer, native
from keras_reg.layers._noise._one_array import TakesOneArray
from keras_reg.layers._noise._random_layer import RandomLayer, in_compute_dtype

NEWTON_STEPS = 24  # twice the number that any rate below 1 needs in float32
LARGEST_SCALE = 1000.0  # limits the scale of units that are almost always dropped; the float16 maximum is 65504


@keras.saving.register_keras_serializable(package="keras_reg")
class DropBlock2D(TakesOneArray, RandomLayer, keras.layers.Layer):
    """Drops square blocks of feature maps. The expected share of dropped units is `rate`.

    Blocks lie inside the map and may overlap. A block that is larger than the map covers it along that side. Units in
    the middle are covered by more blocks than units at the border, so they are dropped more often. Each unit that is
    kept is divided by its probability of being kept, so the expectation of each output is its input. In inference, the
    output is the input.

    Args:
        rate: Share in [0, 1] of the units to drop, or a `keras_reg.Strength`. At 1 the output is 0.
        block_size: Side length of a block, a positive integer, or a pair (height, width).
        per_channel: Whether blocks are drawn per channel. Otherwise, all channels of an example share them.
        data_format: "channels_last", "channels_first" or `None` for Keras' own setting.
        seed: Integer of at least 0, or `None`.

    Call arguments:
        inputs: Feature maps.
        training: Whether to drop.

    Input shape:
        (batch, height, width, channels), or (batch, channels, height, width) with "channels_first".

    Output shape:
        The shape of the input.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import keras, keras_reg
    >>> layer = keras_reg.layers.DropBlock2D(0.5, block_size=7, seed=1)
    >>> y = layer(keras.ops.ones((100, 14, 10, 32)), training=True)
    >>> round(float(keras.ops.mean(keras.ops.cast(y == 0, "float32"))), 1)
    0.5

    References:
        - [Ghiasi et al., 2018](https://arxiv.org/abs/1810.12890). Their rate of blocks ignores overlaps (a rate of
          0.5 drops 0.37 of the units), and they scale by the share that is kept in the batch. This layer computes the
          rate of blocks including overlaps, and scales each unit by its own probability.
    """

    @renamed(drop_prob="rate", p="rate")
    def __init__(
        self,
        rate: StrengthLike,
        block_size: int | Sequence[int] = 7,
        per_channel: bool = True,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        _sides(block_size)
        per_channel = check_flag("per_channel", per_channel)
        data_format = check_data_format(data_format)
        seed = check_seed(seed)
        super().__init__(**kwargs)
        self.set_strength("rate", rate, high=1)
        self.block_size = native(block_size)
        self.per_channel = per_channel
        self.data_format = data_format or keras.config.image_data_format()
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self._set_seed(seed)

    @property
    def _sides(self):
        return _sides(self.block_size)

    def call(self, inputs: Tensors, training: bool | None = False) -> Tensors:
        inputs = in_compute_dtype(self, inputs)
        if not training or self._is_plain("rate", 0):
            return inputs
        first = self.data_format == "channels_first"
        shape = ops.shape(inputs)
        batch, (height, width) = shape[0], shape[2 if first else 1 :][:2]
        channels = shape[1 if first else 3] if self.per_channel else 1
        block_rate, scale = self._solve(height, width)

        # On CPU, pooling only supports channels last. With channels first, the channels are moved to the batch axis.
        outer, inner = (batch * channels, 1) if first else (batch, channels)
        starts = (outer, *map(_starts, (height, width), self._sides), inner)
        dropped = _grow(uniform(self.random.key(), starts) < block_rate, (height, width), self._sides)
        if first:
            dropped = ops.reshape(dropped, (batch, channels, height, width))
        scale = ops.reshape(scale, (1, height, width) if first else (height, width, 1))
        return ops.where(dropped, 0, inputs * ops.cast(scale, inputs.dtype))

    def _solve(self, height, width):
        if isinstance(self.rate, Strength) or not isinstance(height, int) or not isinstance(width, int):
            return _solve(
                ops, height, width, self._sides, ops.convert_to_tensor(self._value_or_weight("rate"), "float32")
            )
        return _solve_once(height, width, self._sides, self.rate)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        return input_shape

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "rate": serialize(self.rate),
            "block_size": self.block_size,
            "per_channel": self.per_channel,
            "data_format": self.data_format,
            "seed": self.seed,
        }


def _sides(block_size):
    """Returns the height and width of a block."""
    found = native(block_size)
    sides = tuple(found) if isinstance(found, (tuple, list)) else (found, found)
    if len(sides) != 2 or not all(is_integer(side) and side >= 1 for side in sides):
        fail(
            "`block_size` must be an integer of at least 1, or a pair (height, width) of such integers.",
            block_size=block_size,
        )
    return sides


def _least(a, b):
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else ops.minimum(a, b)


def _starts(size, block):
    """Returns the number of positions of a block along a side."""
    return size - _least(block, size) + 1


def _coverage(xp, size, block):
    """Returns the number of block positions that cover each index of a side."""
    index = xp.arange(size)
    least = xp.minimum(xp.minimum(index + 1, size - index), xp.minimum(block, _starts(size, block)))
    return xp.minimum(least, size)


def _solve(xp, height, width, sides, rate):
    """Returns the probability of a block at each position, and the scale of the kept units, (height, width).

    A unit that is covered by c positions is kept with probability (1 - p)^c = exp(-t c). Newton's method finds the t
    for which the mean of this probability is 1 - rate. Minus the logarithm of the mean is concave, increasing and
    nearly linear in t, so t increases from 0 and never passes the root.
    """
    covers = _coverage(xp, height, sides[0])[:, None] * _coverage(xp, width, sides[1])[None, :]
    covers = ops.cast(covers, "float32") if xp is ops else covers.astype("float64")
    everything = rate >= 1
    wanted = -xp.log1p(-xp.where(everything, 0.0, rate))
    t = 0.0
    for _ in range(NEWTON_STEPS):
        kept = xp.exp(-t * covers)
        mean = xp.mean(kept)
        t = t + (wanted + xp.log(mean)) * mean / xp.mean(covers * kept)
    return xp.where(everything, 1.0, -xp.expm1(-t)), xp.minimum(xp.exp(t * covers), LARGEST_SCALE)


@functools.lru_cache(maxsize=256)
def _solve_once(height, width, sides, rate):
    block_rate, scale = _solve(np, height, width, sides, rate)
    return float(block_rate), scale


def _grow(seeds, sizes, sides):
    """Turns each seed into the block that starts there: (batch, starts, starts, ...) to (batch, height, width, ...)."""
    dropped = ops.cast(seeds, "float32")
    for axis, (size, block) in enumerate(zip(sizes, sides, strict=True), 1):
        side = _least(block, size)
        window = side if isinstance(side, int) else block
        pads = [[0, 0] for _ in range(4)]
        pads[axis] = [window - 1, side - 1]
        pool = (window, 1) if axis == 1 else (1, window)
        dropped = ops.max_pool(ops.pad(dropped, pads), pool, strides=1, padding="valid", data_format="channels_last")
    return dropped > 0
