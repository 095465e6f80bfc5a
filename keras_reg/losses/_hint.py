"""Explains a loss of NaN. Compiled code cannot raise an error, but the loss of an epoch can be checked."""

import math
import warnings

import keras

from keras_reg._backend import number_of
from keras_reg.losses._label_smoothing_crossentropy import LabelSmoothingCrossentropy


def reason_for_nan(losses, value):
    """Returns the likely reason for a value of NaN, or `None` for other values and for losses of Keras.

    Args:
        losses: The `loss` argument of `compile`, a nest.
        value: The loss of an epoch or a batch. A value that is not computed yet is ignored.
    """
    value = number_of(value)
    if value is None or not math.isnan(value):
        return None
    for loss in keras.tree.flatten(losses):
        if isinstance(loss, LabelSmoothingCrossentropy) and not loss.from_logits:
            return (
                f"`{loss.name}` expects probabilities. It is NaN if one of them is negative, as logits can be, or if a "
                "class id is out of range. A model that returns logits needs `from_logits=True`."
            )
    return None


def warn_of_nan(losses, value):
    """Warns of a loss of NaN if one of the losses can explain it, and returns whether it has warned."""
    reason = reason_for_nan(losses, value)
    if reason:
        warnings.warn(f"The loss is NaN: {reason}")
    return reason is not None
