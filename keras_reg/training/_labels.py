"""What can be seen of labels before a step takes them for something else."""

import keras

from keras_reg._validation import fail, fits


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
