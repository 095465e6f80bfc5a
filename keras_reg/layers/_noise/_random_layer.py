"""Mixins of the layers that add noise inside a network."""

from keras import ops

from keras_reg._random_state import KeepsPosition
from keras_reg._validation import fail
from keras_reg.layers._strength_weight import HoldsStrengths


class NotRematerialized:
    """A mixin for layers whose call must run only once, since it draws random numbers or updates statistics."""

    def rematerialized_call(self, layer_call, *args, **kwargs):
        """Returns the call unchanged. Under `keras.RematScope`, a second call would draw other numbers."""
        return layer_call


class RandomLayer(NotRematerialized, KeepsPosition, HoldsStrengths):
    """A mixin for layers that draw random numbers, with arguments that may be a `Strength`."""


def in_compute_dtype(layer, inputs):
    """Casts `inputs` to the output dtype of `layer`. Keras only casts floats, and nothing with `autocast=False`."""
    dtype = str(getattr(inputs, "dtype", None))
    if "complex" in dtype:
        fail(f"`inputs` of {type(layer).__name__} must be real numbers.", dtype=dtype)
    return ops.cast(inputs, layer.compute_dtype)
