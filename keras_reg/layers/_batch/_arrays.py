"""Converts lists, other byte orders and foreign objects to arrays that the backend can hold exactly."""

import functools
import numbers

import keras
import numpy as np

from keras_reg._backend import (
    NATIVE,
    from_foreign,
    is_compiling,
    is_concrete,
    is_dense,
    is_tensor,
    place_of,
)
from keras_reg._validation import check_flag, check_integer, fail
from keras_reg.layers._batch._content import FIELDS, KEYS, arrays_of, leaves, map_arrays
from keras_reg.layers._batch._shapes import static


def accept(form, several=False):
    """Converts each array of the call to one that the backend accepts, or raises an error.

    `several` tells whether the images may be a nest of inputs.
    """
    batch = form.batch
    if is_compiling():
        return
    _check_images(batch.images, several)
    for field, name in zip(FIELDS, KEYS, strict=True):
        if getattr(batch, field) is not None:
            _put(batch, field, each_array(getattr(batch, field), functools.partial(_accepted, name=name)))
    _check_masks(batch.masks)
    if form.kind is not None and issubclass(form.kind, list) and hasattr(batch.images, "shape"):
        _check_is_no_list_of_images(batch.images, [*leaves(batch.labels), *leaves(batch.sample_weights)])
    if place_of(arrays_of(batch)).is_native:
        for field, name in zip(FIELDS, KEYS, strict=True):
            _put(batch, field, map_arrays(functools.partial(_held, name=name), getattr(batch, field)))


def array_of(value, name):
    """Returns an array that the backend can hold exactly, or raises a `ValueError` that names the argument."""
    if value is None or (isinstance(value, (dict, tuple, list, set)) and not _is_nested_numbers(value)):
        fail("Expected one array of numbers.", **{name: type(value).__name__})
    return _held(from_foreign(_accepted(value, name)), name)


def hold(structure, name):
    """Converts each array of a nest to one that the backend can hold exactly. A list of numbers is an array."""
    return structure if is_compiling() else each_array(structure, functools.partial(array_of, name=name))


def _put(batch, field, value):
    if field == "labels":
        batch.terms = [(value, None)]
    else:
        setattr(batch, field, value)


def check_call(training, index):
    """Checks `training` and `index` and returns them as Python values. An index may also be an integer tensor."""
    training = None if training is None else check_flag("training", training)
    if index is None or is_compiling():
        return training, index
    if not isinstance(index, keras.KerasTensor) and not is_tensor(index):
        return training, check_integer("index", index, low=0)
    if len(index.shape) or not keras.backend.is_int_dtype(index.dtype):
        fail("`index` must be one integer.", index=type(index).__name__, shape=tuple(index.shape), dtype=index.dtype)
    if is_concrete(index):
        check_integer("index", np.asarray(index), low=0)
    return training, index


def written_out(data):
    """Converts a number or a list of numbers to an array. Other objects are returned unchanged."""
    if not _is_nested_numbers(data):
        return data
    try:
        array = np.asarray(data)
    except ValueError:  # lists of different lengths may be a structure of arrays
        return data
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array


def _is_nested_numbers(data):
    while isinstance(data, (tuple, list)) and len(data):
        data = data[0]
    return isinstance(data, (int, float, complex, np.generic))


def _check_images(images, several):
    if several and leaves(images):
        return
    if images is None or (isinstance(images, (dict, tuple, list)) and not _is_nested_numbers(images)):
        fail("Expected `images` as one array.", images=None if images is None else type(images).__name__)


def _check_masks(masks):
    if isinstance(masks, (dict, tuple, list)):
        fail("Expected `segmentation_masks` as one array.", segmentation_masks=type(masks).__name__)


def _check_is_no_list_of_images(images, others):
    """Refuses a list that could be either [images, labels], as data loaders collate it, or a list of images."""
    rank = len(images.shape)
    alike = [x for x in others if rank >= 3 and (x.shape == images.shape or len(x.shape) == rank == 3)]
    if alike:
        fail(
            "Expected images as one array: a list of arrays of the same shape could be (images, labels) or several "
            "images. Stack the images, or pass a tuple (images, labels).",
            data=[tuple(x.shape) for x in (images, *others)],
        )  # fmt: skip


def check_weights(batch):
    """Refuses images that are passed as sample weights."""
    for weights in leaves(batch.sample_weights):
        shape = tuple(weights.shape)
        images = [tuple(array.shape) for array in leaves(batch.images) if len(array.shape) >= 3]
        if shape in images and static(weights, -1) != 1:
            fail("Expected `sample_weights` of shape (batch,), not images.", sample_weights=shape)


def set_apart(batch):
    """Removes from `others`, and returns, what the backend cannot hold, such as names, or 64-bit ids under JAX."""
    apart = {key: value for key, value in batch.others.items() if not all(map(_can_be_held, keras.tree.flatten(value)))}
    batch.others = {key: value for key, value in batch.others.items() if key not in apart}
    return apart


def _can_be_held(value):
    if not isinstance(value, (np.ndarray, np.generic, str, bytes)):
        return True
    array = np.asarray(value)
    return _is_number(array.dtype) and _is_same(array, array.astype(NATIVE.held_dtype(array.dtype)))


def _is_same(array, other):
    return other.dtype == array.dtype or array.dtype.kind == "f" or np.array_equal(array, other)


def each_array(value, function):
    """Applies `function` to every array in a nest. A list of numbers is an array."""

    def visit(node):
        if isinstance(node, (dict, tuple, list)) and not _is_nested_numbers(node):
            return None
        return None if node is None else function(node)

    return visit(value) if not is_dense(value) or hasattr(value, "shape") else keras.tree.traverse(visit, value)


def _accepted(value, name):
    if isinstance(value, keras.Variable):
        value = keras.ops.convert_to_tensor(value)
    if isinstance(value, keras.KerasTensor) or is_tensor(value):
        if not is_dense(value):
            fail("Expected a dense array.", **{name: type(value).__name__})
        return value if _is_number(value.dtype) else _refuse(name, value, value.dtype)
    if not is_dense(value):
        fail("Expected a dense array.", **{name: type(value).__name__})
    return _in_native_form(_to_numpy(value, name), name)


def _to_numpy(value, name):
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        fail("Expected an array without masked elements.", **{name: f"{type(value).__name__}"})
    known = isinstance(value, (np.ndarray, np.generic, numbers.Number, tuple, list))
    if not known and not hasattr(value, "__array__") and not hasattr(value, "__array_interface__"):
        _refuse(name, value, "object")
    try:
        array = np.asarray(written_out(value))
    except Exception as error:  # the object may raise any exception
        raise ValueError(f"Expected an array of numbers. Received: {name}={type(value).__name__}") from error
    return array


def _in_native_form(array, name):
    """Returns the same numbers in native byte order. `longdouble` becomes float64 if this is exact."""
    if array.dtype == np.longdouble and array.dtype.itemsize > 8:
        return _converted(array, np.dtype("float64"), name, exact=True)
    if not _is_number(array.dtype):
        _refuse(name, array, array.dtype)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _held(array, name):
    """Returns a NumPy array in the dtype to which the backend converts it. The numbers must fit in this dtype."""
    if not isinstance(array, (np.ndarray, np.generic)):
        return array
    dtype = NATIVE.held_dtype(array.dtype)
    return NATIVE.laid_out(array if array.dtype == dtype else _converted(array, dtype, name))


def _converted(array, dtype, name, exact=False):
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        ends = {"least": int(array.min()), "most": int(array.max())} if array.size else {}
        right = not array.size or (limits.min <= ends["least"] and ends["most"] <= limits.max)
        found = array.astype(dtype)
    else:
        ends = {}
        with np.errstate(over="ignore"):
            found = array.astype(dtype)
        right = (found == array) | np.isnan(array) if exact else np.isfinite(found) | ~np.isfinite(array)
    if not np.all(right):
        expected = f"Expected numbers that fit in {dtype}, since this backend converts {array.dtype} to {dtype}."
        fail(expected, **{name: array}, **ends)
    return found


def _is_number(dtype):
    try:
        name = keras.backend.standardize_dtype(dtype)
    except (TypeError, ValueError):
        return False
    return name == "bool" or keras.backend.is_int_dtype(name) or keras.backend.is_float_dtype(name)


def _refuse(name, value, dtype):
    """Raises an error for strings, objects, complex numbers, dates and records."""
    kind = "strings or objects" if getattr(dtype, "kind", "") in tuple("USOT") else dtype
    fail("Expected an array of numbers.", **{name: f"{type(value).__name__} of {kind}"})
