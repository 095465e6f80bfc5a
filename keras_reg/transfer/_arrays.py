"""Arrays that users pass as data, in NumPy."""

import keras
import numpy as np
from keras import ops, tree

from keras_reg._validation import fail


def to_numpy(x):
    """Returns a tensor or anything array-like as a NumPy array, without a copy if it is one already."""
    return ops.convert_to_numpy(x) if ops.is_tensor(x) else x if isinstance(x, np.ndarray) else np.asarray(x)


def unpacked(batch):
    """Returns (x, y, sample_weight) of a batch in NumPy, with `None` for missing parts."""
    parts = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
    arrays = tuple(None if part is None else tree.map_structure(to_numpy, part) for part in parts)
    inputs, others = _lengths(arrays[0]), _lengths(arrays[1:])
    if len(inputs) == 1 and not set(others) <= set(inputs):
        fail("A batch must have as many labels and weights as inputs.", inputs=inputs[0], labels_and_weights=others)
    return arrays


def data_arrays(name, data, several_inputs):
    """Returns (x, y) or (x, y, sample_weight) as NumPy arrays of equal length, after checking them."""
    if len(data) not in (2, 3):
        fail(f"`{name}` must be (x, y), (x, y, sample_weight) or a dataset.", **{name: f"{len(data)} items"})
    x, y, *rest = data
    if y is None:
        fail(f"`{name}` must contain labels.", y=y)
    x = x if several_inputs else _stacked(x, y)
    arrays = tuple(_to_array(name, part) for part in (x, y, *rest) if part is not None)
    if any(array.dtype.kind in "OUSM" for array in tree.flatten((arrays[0], arrays[2:]))):
        fail(f"`{name}` must contain arrays of numbers.", dtype=[str(array.dtype) for array in tree.flatten(arrays)])
    lengths = sorted({len(array) if array.ndim else 0 for array in tree.flatten(arrays)})
    if len(lengths) != 1 or lengths == [0]:
        fail(f"`{name}` must have arrays of equal length, of at least 1.", lengths=lengths)
    return arrays


def _lengths(nest):
    return sorted({len(array) for array in tree.flatten(nest) if array is not None and array.ndim})


def _stacked(x, y):
    """Returns the input of a model of one input that was passed as a list: of single images, or of that one input."""
    if not isinstance(x, (list, tuple)) or not x or not all(hasattr(item, "shape") for item in x):
        return x
    if len(x) == 1 and (len(x[0].shape) == 4 or (len(x[0].shape) > 1 and len(x[0]) == _count(y) > 1)):
        return x[0]
    same = len({tuple(item.shape) for item in x}) == 1
    return np.stack([to_numpy(item) for item in x]) if same else x


def _count(y):
    """Returns the number of examples of labels: an array, a nest of arrays, or a list with one entry per example."""
    if isinstance(y, (list, tuple)) and not any(hasattr(label, "shape") for label in y):
        return len(y)
    return next((len(array) for array in tree.flatten(y) if getattr(array, "shape", ())), 0)


def _to_array(name, part):
    try:
        if isinstance(part, list) and not any(np.ndim(item) for item in part if hasattr(item, "shape")):
            return np.asarray([to_numpy(item) if ops.is_tensor(item) else item for item in part])
        return tree.map_structure(to_numpy, part)
    except (ValueError, TypeError) as error:  # rows of unequal length, or something that is not an array
        fail(f"`{name}` must consist of arrays: {error}.", **{name: type(part).__name__})
