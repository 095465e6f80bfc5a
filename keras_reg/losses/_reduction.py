"""What `keras.losses.Loss` does around `call`, for targets that must not be cast and elements that do not count."""

import keras
from keras import ops


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


def own_weights(sample_weight, y_pred, axis):
    """A copy of the weights, one for each element where their rank allows.

    Under PyTorch, Keras multiplies a mask into the weights where they lie: into the caller's tensor, and with an error
    where one weight serves many elements.
    """
    sample_weight, y_pred = ops.convert_to_tensor(sample_weight), ops.convert_to_tensor(y_pred)
    elements = list(ops.shape(y_pred))
    del elements[axis]
    return ops.multiply(sample_weight, ops.ones(elements if len(elements) == len(sample_weight.shape) else ()))
