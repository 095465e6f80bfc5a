from typing import Any

import keras
from keras import ops

from keras_reg._backend import normal
from keras_reg._strength import serialize
from keras_reg._typing import Config, StrengthLike, Tensor
from keras_reg.layers._noise._weight_wrapper import WeightWrapper
from keras_reg.layers._strength_weight import given


@keras.saving.register_keras_serializable(package="keras_reg")
class WeightNoise(WeightWrapper):
    """Calls a layer with Gaussian noise on its weights.

    Each training call adds N(0, stddev^2) to each kernel. Kernels are all float weights whose names end in "kernel";
    biases are not changed. The expectation of the kernel is the stored kernel, which is not changed and is used in
    inference.

    A quantized layer is called unchanged, since its integer kernels do not train. A layer created inside a
    `keras.RematScope` is refused in training, since its gradients would belong to the stored kernels.

    Args:
        layer: The layer: `Dense`, a convolution, a recurrent or attention layer, or any other with a kernel.
        stddev: Number of at least 0, or a `keras_reg.Strength`.
        seed: Integer of at least 0, or `None`.
        **kwargs: `name` and `trainable`. The `dtype` is that of `layer`.

    Call arguments:
        The arguments of `layer`, positional or by keyword: tensors, states, masks and flags; and
        training: Whether to add noise.
        mask: Passed on if `layer` takes it.

    Input shape:
        The input shape of `layer`.

    Output shape:
        The output shape of `layer`.

    Raises:
        ValueError: If `stddev` is negative or not finite, or if `layer` is not a layer, has no kernel, or assigns its
            kernel in training, as `SpectralNormalization` does.

    Example:

    >>> import keras, keras_reg
    >>> layer = keras_reg.layers.WeightNoise(keras.layers.Dense(5000, kernel_initializer="ones"), stddev=0.1)
    >>> round(keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 1)), training=True)).std().item(), 2)
    0.1

    References:
        - [Graves, 2011](https://papers.nips.cc/paper/2011/hash/7eb3c8be3d411e8ebfab08eba5f49632-Abstract.html).
    """

    def __init__(self, layer: keras.layers.Layer, stddev: StrengthLike, seed: int | None = None, **kwargs: Any) -> None:
        stddev = given("stddev", stddev)
        super().__init__(layer, "stddev", stddev, seed, **kwargs)

    def disturb(self, kernel: Tensor, key: Any, strength: Any) -> Tensor:
        return kernel + ops.cast(strength * normal(key, kernel.shape), kernel.dtype)

    def get_config(self) -> Config:
        return {**super().get_config(), "stddev": serialize(self.stddev), "seed": self.seed}
