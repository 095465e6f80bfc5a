"""What can be seen of labels before a step takes them for something else."""

import keras
import numpy as np

from keras_reg._validation import fail, fits
from keras_reg.losses import LabelSmoothingCrossentropy
from keras_reg.losses._targets import check_ids


def check_classes(labels, model, loss):
    """Refuses class ids that the loss has no class for. Compiled code could only make the loss NaN.

    Checks one NumPy array of integers for one output whose loss is one of this package.
    """
    outputs = getattr(model, "outputs", None) or ()
    if len(outputs) != 1 or not isinstance(loss, LabelSmoothingCrossentropy) or type(labels) is not np.ndarray:
        return
    shape, axis = tuple(outputs[0].shape), loss.axis
    if labels.dtype.kind not in "iu" or not -len(shape) <= axis < len(shape) or shape[axis] is None:
        return
    axis %= len(shape)
    before, after = shape[:axis], shape[axis + 1 :]
    if fits(labels.shape, before + after) or fits(labels.shape, (*before, 1, *after)):
        check_ids(labels, max(shape[axis], 2), loss.ignore_class)  # one logit stands for two classes


def check_not_ids(labels, outputs):
    """Class ids that are floats would be mixed like what a regression aims at."""
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
    ids = fits(shape, outputs[:-1]) or (shape[-1] == 1 and fits(shape[:-1], outputs[:-1]))
    if ids and keras.backend.is_float_dtype(dtype):
        fail(
            "Expected integer class ids as `y`, or one label for each output.",
            dtype=dtype,
            shape=shape,
            outputs=outputs,
        )
