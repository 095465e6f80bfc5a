from typing import Any, Literal

import keras
from keras import ops

from keras_reg._backend import uniform
from keras_reg._renamed import renamed
from keras_reg._strength import Strength, plain, serialize
from keras_reg._typing import Config, Shape, StrengthLike, Tensors
from keras_reg._validation import check_choice, check_integer, check_seed
from keras_reg.layers._noise._one_array import TakesOneArray
from keras_reg.layers._noise._random_layer import RandomLayer, in_compute_dtype
from keras_reg.layers._strength_weight import given, scale_of_kept


@keras.saving.register_keras_serializable(package="keras_reg")
class DropPath(TakesOneArray, RandomLayer, keras.layers.Layer):
    """Drops the whole input of some examples, and scales the input of the others by 1 / (1 - rate).

    At the end of a residual branch, before the addition, it trains each example with a random part of the depth. The
    expectation of the output is the input. In inference, the output is the input. Under `keras.RematScope`, the layer
    keeps its random numbers. Rematerializing a whole model is refused, since the layer would draw new ones.

    Args:
        rate: Probability in [0, 1] that an example is dropped, or a `keras_reg.Strength`. At 1 the output is 0.
        mode: "sample" decides per example, "batch" once for the whole batch.
        seed: Integer of at least 0, or `None`.

    Call arguments:
        inputs: Tensor whose first axis is the batch.
        training: Whether to drop.

    Input shape:
        Any shape of rank at least 1.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import keras, keras_reg
    >>> y = keras_reg.layers.DropPath(0.5)(keras.ops.ones((100, 8)), training=True)
    >>> sorted(set(keras.ops.convert_to_numpy(y).ravel().tolist()))
    [0.0, 2.0]

    References:
        - [Huang et al., 2016](https://arxiv.org/abs/1603.09382), who drop a branch for the whole batch, as
          `mode="batch"` does, and scale in inference; [Larsson et al., 2017](https://arxiv.org/abs/1605.07648).
    """

    @renamed(drop_prob="rate", p="rate")
    def __init__(
        self, rate: StrengthLike, mode: Literal["sample", "batch"] = "sample", seed: int | None = None, **kwargs: Any
    ) -> None:
        mode = check_choice("mode", mode, ("sample", "batch"))
        seed = check_seed(seed)
        super().__init__(**kwargs)
        self.set_strength("rate", rate, high=1)
        self.mode = mode
        self.supports_masking = True
        self._set_seed(seed)

    def call(self, inputs: Tensors, training: bool | None = False) -> Tensors:
        inputs = in_compute_dtype(self, inputs)
        if not training or self._is_plain("rate", 0):
            return inputs
        rate = self._value_or_weight("rate")
        draws = ops.shape(inputs)[0] if self.mode == "sample" else 1
        keep = uniform(self.random.key(), (draws, *[1] * (len(inputs.shape) - 1))) >= rate
        scale = ops.cast(ops.where(keep, scale_of_kept(rate), 0), inputs.dtype)
        return ops.where(keep, inputs * scale, 0)  # `where` also removes infinities and NaN

    def compute_output_shape(self, input_shape: Shape) -> Any:
        return input_shape

    def get_config(self) -> Config:
        return {**super().get_config(), "rate": serialize(self.rate), "mode": self.mode, "seed": self.seed}


def drop_path_rates(rate: StrengthLike, depth: int) -> list[float] | list[Strength]:
    """Returns rates for `depth` residual blocks, from 0 for the first to `rate` for the last, in equal steps.

    Args:
        rate: Number in [0, 1], or a `keras_reg.Strength`, which gives one `Strength` per block.
        depth: Number of blocks, at most 65536. A single block gets `rate`.

    Returns:
        List of `depth` numbers, or of `depth` objects `Strength`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import keras_reg
    >>> keras_reg.layers.drop_path_rates(0.2, 5)
    [0.0, 0.05, 0.1, 0.15, 0.2]

    References:
        - [Huang et al., 2016](https://arxiv.org/abs/1603.09382), whose first block has rate / depth instead of 0.
    """
    rate = given("rate", rate, high=1)
    depth = check_integer("depth", depth, low=1, high=2**16)
    rates = [round(plain(rate) * i / max(depth - 1, 1), 12) for i in range(depth - 1)] + [plain(rate)]
    return [Strength(value) for value in rates] if isinstance(rate, Strength) else rates
