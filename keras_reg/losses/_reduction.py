"""What `keras.losses.Loss` does around `call`, for targets that must not be cast and elements that do not count."""

import keras
from keras import ops

from keras_reg._validation import fail, fits
from keras_reg.losses._targets import as_numbers


class Reduction(keras.losses.Loss):
    """Masks, weights and reduces the losses of `loss` as Keras does, without casting the targets.

    Keras' `Loss.__call__` casts the targets it is given to a float dtype, which merges class ids. Here it gets none.
    """

    def __init__(self, loss, y_true):
        dtype = "float64" if loss.dtype == "float64" else "float32"  # a sum in float16 ends at 65504
        super().__init__(loss.name, loss.reduction, dtype)
        self.losses_of = loss.call
        self.y_true = y_true

    def call(self, y_true, y_pred):
        return self.losses_of(self.y_true, y_pred)


class Masked(keras.layers.Layer):
    """Gives the first tensor of a pair the second as its mask; a layer is the public way to do so."""

    def __init__(self):
        super().__init__(autocast=False)

    def call(self, inputs):
        return inputs[0]

    def compute_mask(self, inputs, previous_mask=None):
        return inputs[1]


def checked_weights(sample_weight, y_pred, axis):
    """Weights as float32, one for each element, or for a row of them: what Keras would spread in silence is refused."""
    weights = ops.cast(as_numbers("sample_weight", sample_weight), "float32")
    elements = list(y_pred.shape)
    if not -len(elements) <= axis < len(elements):
        return weights  # the loss says so
    del elements[axis]
    shape = tuple(weights.shape)
    rows = shape[:-1] if len(shape) == len(elements) + 1 and shape[-1] == 1 else shape
    if len(rows) > len(elements) or any(
        n not in (1, None) and not fits((n,), (m,)) for n, m in zip(rows, elements, strict=False)
    ):
        fail(
            "`sample_weight` must have one number for each element of the loss.",
            sample_weight=shape,
            y_pred=tuple(y_pred.shape),
        )
    return weights


def own_weights(sample_weight, y_pred, axis):
    """A copy of the weights, one for each element where their rank allows.

    Under PyTorch, Keras multiplies a mask into the weights where they lie: into the caller's tensor, and with an error
    where one weight serves many elements.
    """
    sample_weight, y_pred = ops.convert_to_tensor(sample_weight), ops.convert_to_tensor(y_pred)
    elements = list(ops.shape(y_pred))
    del elements[axis]
    return ops.multiply(sample_weight, ops.ones(elements if len(elements) == len(sample_weight.shape) else ()))
