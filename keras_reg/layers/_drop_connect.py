from typing import Any

import keras
from keras import ops

from keras_reg._backend import uniform
from keras_reg._strength import serialize
from keras_reg._typing import Config, StrengthLike, Tensor
from keras_reg.layers._noise._weight_wrapper import WeightWrapper
from keras_reg.layers._strength_weight import given, scale_of_kept


@keras.saving.register_keras_serializable(package="keras_reg")
class DropConnect(WeightWrapper):
    """Calls a layer with dropout on its weights: a random part of them is kept and scaled by 1 / (1 - rate).

    Each training call draws one mask per kernel, which all examples of the batch share. Kernels are all float weights
    whose names end in "kernel"; biases are not changed. The expectation of the kernel is the stored kernel, which is
    not changed and is used in inference.

    A quantized layer is called unchanged, since its integer kernels do not train. A layer created inside a
    `keras.RematScope` is refused in training, since its gradients would belong to the stored kernels.

    Args:
        layer: The layer: `Dense`, a convolution, a recurrent or attention layer, or any other with a kernel.
        rate: Probability in [0, 1] that a weight is dropped, or a `keras_reg.Strength`.
        seed: Integer of at least 0, or `None`.
        **kwargs: `name` and `trainable`. The `dtype` is that of `layer`.

    Call arguments:
        The arguments of `layer`, positional or by keyword: tensors, states, masks and flags; and
        training: Whether to drop.
        mask: Passed on if `layer` takes it.

    Input shape:
        The input shape of `layer`.

    Output shape:
        The output shape of `layer`.

    Raises:
        ValueError: If `rate` is not in [0, 1], or if `layer` is not a layer, has no kernel, or assigns its kernel in
            training, as `SpectralNormalization` does.

    Example:

    >>> import keras, keras_reg
    >>> layer = keras_reg.layers.DropConnect(keras.layers.Dense(1, kernel_initializer="ones"), rate=0.5)
    >>> y = keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 1000)), training=True)).item()
    >>> y % 2 == 0 and 800 < y < 1200
    True

    References:
        - [Wan et al., 2013](https://proceedings.mlr.press/v28/wan13.html), who draw a mask per example and
          sample in inference.
    """

    def __init__(self, layer: keras.layers.Layer, rate: StrengthLike, seed: int | None = None, **kwargs: Any) -> None:
        rate = given("rate", rate, high=1)
        super().__init__(layer, "rate", rate, seed, **kwargs)

    def disturb(self, kernel: Tensor, key: Any, strength: Any) -> Tensor:
        keep = uniform(key, kernel.shape) >= strength
        scale = ops.cast(ops.where(keep, scale_of_kept(strength), 0), kernel.dtype)
        return ops.where(keep, kernel * scale, 0)

    def get_config(self) -> Config:
        return {**super().get_config(), "rate": serialize(self.rate), "seed": self.seed}
