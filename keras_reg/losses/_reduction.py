"""Reducing losses like `keras.losses.Loss`, for targets that must not be cast and elements that do not count."""

import keras
from keras import ops

from keras_reg._validation import fail, fits
from keras_reg.losses._targets import as_numbers


class Reduction(keras.losses.Loss):
    """Masks, weights and reduces the losses of `loss` as Keras does, without casting the targets.

    `keras.losses.Loss.__call__` casts targets to a float dtype, which merges class ids. So it is not given the targets.
    """

    def __init__(self, loss, y_true):
        dtype = "float64" if loss.dtype == "float64" else "float32"  # a sum in float16 overflows at 65504
        super().__init__(loss.name, loss.reduction, dtype)
        self.losses_of = loss.call
        self.y_true = y_true

    def call(self, y_true, y_pred):
        return self.losses_of(self.y_true, y_pred)


def checked_weights(sample_weight, y_pred, axis):
    """Returns weights as float32, one per element or row of elements. Keras would broadcast other shapes silently."""
    weights = ops.cast(as_numbers("sample_weight", sample_weight), "float32")
    elements = list(y_pred.shape)
    if not -len(elements) <= axis < len(elements):
        return weights  # the loss raises the error
    del elements[axis]
    shape = tuple(weights.shape)
    rows = shape[:-1] if len(shape) == len(elements) + 1 and shape[-1] == 1 else shape
    if len(rows) > len(elements) or any(
        n not in (1, None) and not fits((n,), (m,)) for n, m in zip(rows, elements, strict=False)
    ):
        fail(
            "`sample_weight` must have one number per element of the loss.",
            sample_weight=shape,
            y_pred=tuple(y_pred.shape),
        )
    return weights


def own_weights(sample_weight, y_pred, axis):
    """Returns a copy of the weights, one per element of the loss if their rank is not larger.

    Keras aligns weights of a lower rank with the last axes of the losses, so weights (batch,) would weight the columns
    of a batch of maps. On PyTorch, it also multiplies the mask into the weights in place. That changes the caller's
    tensor, and raises an error if one weight is broadcast to several elements.
    """
    elements = list(ops.shape(ops.convert_to_tensor(y_pred)))
    del elements[axis]
    return one_per_element(ops.convert_to_tensor(sample_weight), elements)


def one_per_element(weights, shape):
    """Returns a copy of weights (batch, ...) in the given shape of the losses, if their rank is not larger."""
    missing = len(shape) - len(weights.shape)
    if missing > 0:
        weights = ops.reshape(weights, (*ops.shape(weights), *[1] * missing))
    return ops.multiply(weights, ops.ones(shape if missing >= 0 else (), weights.dtype))
