"""What layers with noise inside the network share."""

from keras import ops

from keras_reg._random_state import KeepsPosition
from keras_reg._validation import fail
from keras_reg.layers._strength_weight import HoldsStrengths


class NotRematerialized:
    """A mixin for layers whose call must run once: it draws numbers, or moves statistics."""

    def rematerialized_call(self, layer_call, *args, **kwargs):
        """The call as it is: under `keras.RematScope` a second call would draw other numbers than the first."""
        return layer_call


class RandomLayer(NotRematerialized, KeepsPosition, HoldsStrengths):
    """A mixin for layers that draw random numbers, with arguments that may be a `Strength`."""


def in_compute_dtype(layer, inputs):
    """`inputs` in the dtype that `layer` says it returns: Keras casts floats alone, and not under `autocast=False`."""
    dtype = str(getattr(inputs, "dtype", None))
    if "complex" in dtype:
        fail(f"`inputs` of {type(layer).__name__} must be real numbers.", dtype=dtype)
    return ops.cast(inputs, layer.compute_dtype)
