"""Explains a loss of NaN: compiled code cannot raise an error, but the value of an epoch can be looked at."""

import math
import warnings

import keras

from keras_reg._backend import number_of
from keras_reg.losses._label_smoothing_crossentropy import LabelSmoothingCrossentropy


def reason_for_nan(losses, value):
    """The reason that one of these losses gives for a value of NaN; `None` for other values and other losses.

    Args:
        losses: What `compile` took as its loss: a nest.
        value: The loss of an epoch or a batch. A value that is not computed yet is ignored.
    """
    value = number_of(value)
    if value is None or not math.isnan(value):
        return None
    for loss in keras.tree.flatten(losses):
        if isinstance(loss, LabelSmoothingCrossentropy) and not loss.from_logits:
            return (
                f"`{loss.name}` takes probabilities, and is NaN if one is negative, as logits can be, or if a class id "
                "is out of range. A network that ends in logits needs `from_logits=True`."
            )
    return None


def warn_of_nan(losses, value):
    """Warns of a loss of NaN if one of the losses can explain it, and returns whether it did."""
    reason = reason_for_nan(losses, value)
    if reason:
        warnings.warn(f"The loss is NaN: {reason}")
    return reason is not None
