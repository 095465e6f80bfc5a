"""What can be seen of labels before a step takes them for something else."""

import keras
import numpy as np
from keras import ops

from keras_reg._validation import fail, fits
from keras_reg.layers._batch import leaves


def check_held(labels):
    """Refuses integers on the host that the tensors of the backend cannot hold: JAX makes a 1 of 2**32 + 1."""
    for array in leaves(labels):
        array = np.asarray(array) if hasattr(array, "iloc") else array  # a column of pandas
        if not isinstance(array, (np.ndarray, np.generic)) or array.dtype.kind not in "iu" or not array.size:
            continue
        if array.dtype.itemsize < 8:
            continue
        ends = np.stack([array.min(), array.max()])
        held = ops.convert_to_numpy(ops.convert_to_tensor(ends))
        if list(map(int, held)) != list(map(int, ends)):
            dtype = keras.backend.standardize_dtype(held.dtype)
            fail(f"Expected labels that {dtype} can hold.", least=int(ends[0]), most=int(ends[1]))


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
        fail("Expected integer class ids, or one label for each output.", dtype=dtype, shape=shape, outputs=outputs)
