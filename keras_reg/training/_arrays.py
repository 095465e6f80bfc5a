"""Arguments of a model as arrays that the backend represents exactly, and the structure of labels and weights."""

import keras
import numpy as np

from keras_reg._backend import is_compiling, is_dense, is_tensor
from keras_reg._validation import fail
from keras_reg.layers._batch._arrays import array_of, each_array, written_out
from keras_reg.layers._batch._content import leaves
from keras_reg.layers._batch._shapes import static

ARRAYS = (np.ndarray, np.generic, memoryview, keras.Variable, tuple, list)


def hold_inputs(x, name):
    """Returns the inputs of a model as exact arrays: one array of numbers, or a nest.

    Strings and sparse tensors in a nest are passed on to the network unchanged.
    """
    x = written_out(x)
    if is_compiling() or not isinstance(x, (dict, list, tuple)):
        return x if is_compiling() else array_of(x, name)
    return each_array(x, lambda value: array_of(value, name) if _is_of_numbers(value) else value)


def hold_given(value, name):
    """Returns an argument of `fit` or a similar method with exact arrays. Datasets and generators are not changed.

    Columns of pandas are checked but not changed either, since Keras gives them their shape.
    """
    if name == "x" and not leaves(value):
        fail("`x` must be one or more arrays, or a dataset.", x=value)
    if name == "x" and isinstance(value, (dict, list, tuple)):
        return each_array(value, lambda part: _given(part, name) if _is_of_numbers(part) else part)
    return each_array(value, lambda part: _given(part, name))


def _given(value, name):
    if hasattr(value, "iloc"):
        array_of(np.asarray(value), name)
        return value
    if not isinstance(value, ARRAYS) and not is_tensor(value) and is_dense(value):
        return value
    array = array_of(value, name)
    if len(array.shape) == 0 or (name == "x" and static(array, 0) == 0):
        fail(f"`{name}` must be an array of at least one sample.", **{name: tuple(array.shape)})
    return array


def _is_of_numbers(value):
    """Whether an array is checked as numbers. This includes complex numbers, which the check refuses."""
    dtype = getattr(value, "dtype", None)
    return is_dense(value) and dtype != "string" and getattr(dtype, "kind", None) not in ("O", "S", "U", "T")


def check_batch_sizes(x, **others):
    """Checks that labels and sample weights have one entry per sample, as far as the sizes are known."""
    if any(len(array.shape) == 0 for array in leaves(x)):
        fail("`x` must be a batch, not a single number.", x=keras.tree.map_structure(type, x))
    size = next((static(array, 0) for array in leaves(x)), None)
    for name, value in others.items() if size is not None else ():
        for array in leaves(value):
            if not hasattr(array, "shape") or len(array.shape) == 0 or static(array, 0) not in (None, size):
                shapes = {name: tuple(getattr(array, "shape", ())), "x": tuple(leaves(x)[0].shape)}
                fail(f"`{name}` must have one entry per sample of `x`.", **shapes)


def in_form_of(outputs, value, name, names=()):
    """Checks for one array, or a nest with one array per output. For one output, a list of one array is unpacked.

    A dict with the `names` of the outputs becomes a list, if the outputs are one.
    """
    if value is None or not isinstance(value, (dict, list, tuple)):
        return value
    if isinstance(value, dict) and isinstance(outputs, (list, tuple)) and set(value) == set(names):
        value = [value[name] for name in names]
    if isinstance(outputs, (dict, list, tuple)):
        keys, known = (_keys(nest) for nest in (value, outputs))
        if type(keys) is type(known) and (keys == known if isinstance(keys, int) else keys and keys <= known):
            return value
    elif isinstance(value, (list, tuple)) and len(value) == 1 and hasattr(value[0], "shape"):
        return value[0]
    shown = {key: keras.tree.map_structure(type, nest) for key, nest in ((name, value), ("outputs", outputs))}
    fail(f"`{name}` must be one array, or one array per output.", **shown)


def labels_in_form(outputs, y):
    """Checks the labels of one output. Those of several outputs may have any structure that Keras accepts."""
    return y if isinstance(outputs, (dict, list, tuple)) else in_form_of(outputs, y, "y")


def _keys(nest):
    return nest.keys() if isinstance(nest, dict) else len(nest)
