"""Checks of labels. Compiled code cannot make them, and would silently misread wrong labels."""

import keras
import numpy as np
from keras import ops

from keras_reg._backend import is_concrete
from keras_reg._dtypes import dtype_of
from keras_reg._outputs import by_output, losses_by_output, names_of_outputs
from keras_reg._validation import fail, have_shape_of_ids
from keras_reg.losses import LabelSmoothingCrossentropy
from keras_reg.losses._targets import check_ids


def check_classes(labels, model, losses):
    """Raises for class ids that are not classes of the model. Compiled code could only make the loss NaN.

    Checks NumPy arrays and eager tensors, for each output whose loss is one of this package. A dataset is not read
    before training.
    """
    for label, output, loss in _pairs(labels, model, losses):
        if isinstance(loss, LabelSmoothingCrossentropy) and is_concrete(label):
            _check_classes_of(np.asarray(ops.convert_to_numpy(label)), tuple(output.shape), loss)


def _pairs(labels, model, losses):
    """Returns [(labels, output, loss)] of all outputs, or nothing if labels or losses do not fit them."""
    if not getattr(model, "outputs", None):
        return []
    names = names_of_outputs(model)
    labels, losses = by_output(names, labels), losses_by_output(names, losses)
    return zip(labels, model.outputs, losses, strict=True) if labels and losses else []


def _check_classes_of(labels, shape, loss):
    axis = loss.axis
    if labels.dtype.kind not in "iuf" or not -len(shape) <= axis < len(shape) or shape[axis] is None:
        return
    if labels.dtype.kind == "f" and shape[axis] == 1:
        return  # shares of the second of two classes
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
    dtype = dtype_of(label)
    if have_shape_of_ids(shape, outputs) and keras.backend.is_float_dtype(dtype):
        fail(
            "`y` must be integer class ids, or have one label per output. Cast ids to integers.",
            dtype=dtype,
            shape=shape,
            outputs=outputs,
        )
