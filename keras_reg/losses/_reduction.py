"""What `keras.losses.Loss` does around `call`, for targets that must not be cast and elements that do not count."""

import keras


class Reduction(keras.losses.Loss):
    """Masks, weights and reduces the losses of `loss` as Keras does, without casting the targets.

    Keras' `Loss.__call__` casts the targets it is given to a float dtype, which merges class ids. Here it is given none.
    """

    def __init__(self, loss, y_true):
        super().__init__(loss.name, loss.reduction, keras.backend.result_type(loss.dtype, "float32"))
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
