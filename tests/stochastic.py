"""What the tests of stochastic layers share."""

import numpy as np
from harness import BACKEND, jit, to_numpy
from keras import ops

from keras_reg import layers

# The layers for use inside a network that take images, as functions of further arguments.
STOCHASTIC = {
    "DropPath": lambda **k: layers.DropPath(0.5, seed=1, **k),
    "DropBlock2D": lambda **k: layers.DropBlock2D(0.5, (2, 3), seed=1, **k),
    "FractionalMaxPooling2D": lambda **k: layers.FractionalMaxPooling2D(1.5, seed=1, **k),
    "NoisyBatchNormalization": lambda **k: layers.NoisyBatchNormalization(0.5, seed=1, **k),
    "NoisyBatchNormalization of statistics": lambda **k: layers.NoisyBatchNormalization(
        noise="statistics", virtual_batch_size=2, seed=1, **k
    ),
    "GhostBatchNormalization": lambda **k: layers.GhostBatchNormalization(2, **k),
}


def training_calls(layer, x, count=None, **kwargs):
    """The outputs of training calls on `x` as NumPy, stacked where there is a `count`.

    Eager, but compiled as a whole on JAX, which otherwise compiles every operation for every shape, for seconds.
    """
    if not layer.built:
        layer.build(x.shape)

    def call(t):
        return layer(t, training=True, **kwargs)

    call = jit(call, layer) if BACKEND == "jax" or (count or 0) > 50 else call
    x = ops.convert_to_tensor(x)
    if count is None:
        return to_numpy(call(x))
    return np.stack([to_numpy(call(x)) for _ in range(count)])
