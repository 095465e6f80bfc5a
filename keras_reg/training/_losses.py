"""Turns a loss as in `compile`, a name, a function or an object, into a `Loss`, in the same way as Keras."""

import re

import keras
from keras import ops


def as_loss(given):
    """Returns the `Loss` that Keras makes of one loss argument, with the same name."""
    if is_crossentropy(given):
        return FunctionLoss(_crossentropy, given)
    found = keras.losses.get(given)
    if isinstance(found, keras.losses.Loss):
        return found
    return FunctionLoss(found, given if isinstance(given, str) else _name_of(found))


def is_crossentropy(given):
    """Whether a loss argument is a name with which Keras chooses a cross-entropy by the shapes."""
    return isinstance(given, str) and given.lower() in ("crossentropy", "ce")


class FunctionLoss(keras.losses.Loss):
    """Turns a loss function into a `Loss`, as `compile` does: averaged over the batch, with aligned ranks.

    If one function serves several outputs, labels and outputs are nests of arrays.
    """

    def __init__(self, function, name):
        self.function = function
        super().__init__(name=name)

    def call(self, y_true, y_pred):
        flat_true, flat_pred = keras.tree.flatten(y_true), keras.tree.flatten(y_pred)
        if len(flat_true) == len(flat_pred):
            pairs = [_aligned(*pair) for pair in zip(flat_true, flat_pred, strict=True)]
            y_true = keras.tree.pack_sequence_as(y_true, [true for true, _ in pairs])
            y_pred = keras.tree.pack_sequence_as(y_pred, [predicted for _, predicted in pairs])
        return self.function(y_true, y_pred)


def _aligned(y_true, y_pred):
    """Returns labels and outputs of equal rank, if they differ only in a last axis of size 1."""
    more = len(y_true.shape) - len(y_pred.shape)
    if more == 1 and y_true.shape[-1] == 1:
        if len(y_pred.shape) == 1:
            return y_true, ops.expand_dims(y_pred, -1)
        return ops.squeeze(y_true, -1), y_pred
    if more == -1 and y_pred.shape[-1] == 1:
        if len(y_true.shape) == 1:
            return ops.expand_dims(y_true, -1), y_pred
        return y_true, ops.squeeze(y_pred, -1)
    return y_true, y_pred


def _crossentropy(y_true, y_pred):
    """Computes the loss that Keras calls "crossentropy": binary, sparse or categorical, depending on the shapes."""
    if y_pred.shape[-1] == 1:
        return keras.losses.binary_crossentropy(y_true, y_pred)
    if len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1] == 1:
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
    return keras.losses.categorical_crossentropy(y_true, y_pred)


def _name_of(function):
    name = getattr(function, "name", None) or getattr(function, "__name__", type(function).__name__)
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
