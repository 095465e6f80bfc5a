"""Checks of labels that compiled code could not make: it would take wrong labels for something else."""

import keras
import numpy as np

from keras_reg._validation import fail, have_shape_of_ids
from keras_reg.losses import LabelSmoothingCrossentropy
from keras_reg.losses._targets import check_ids


def check_classes(labels, model, loss):
    """Raises for class ids that are not classes of the model. Compiled code could only make the loss NaN.

    Only a NumPy array of integers is checked, for a model of one output with a loss of this package.
    """
    outputs = getattr(model, "outputs", None) or ()
    if len(outputs) != 1 or not isinstance(loss, LabelSmoothingCrossentropy) or type(labels) is not np.ndarray:
        return
    shape, axis = tuple(outputs[0].shape), loss.axis
    if labels.dtype.kind not in "iu" or not -len(shape) <= axis < len(shape) or shape[axis] is None:
        return
    if have_shape_of_ids(labels.shape, shape, axis):
        check_ids(labels, max(shape[axis], 2), loss.ignore_class)  # one logit stands for two classes


def check_not_ids(labels, outputs):
    """Raises for class ids in a float dtype, which would be mixed like the targets of a regression."""
    labels, outputs = keras.tree.flatten(labels), keras.tree.flatten(outputs)
    if len(labels) != len(outputs):
        return
    for label, output in zip(labels, outputs, strict=True):
        _check_is_not_ids(label, output)


def _check_is_not_ids(label, output):
    shape, outputs = (tuple(getattr(array, "shape", ())) for array in (label, output))
    if not shape or not outputs or outputs[-1] in (None, 1):
        return
    dtype = keras.backend.standardize_dtype(label.dtype)
    if have_shape_of_ids(shape, outputs) and keras.backend.is_float_dtype(dtype):
        fail(
            "Expected integer class ids as `y`, or one label per output.",
            dtype=dtype,
            shape=shape,
            outputs=outputs,
        )
