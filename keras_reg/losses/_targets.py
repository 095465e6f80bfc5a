"""Reading targets, which are class ids or distributions, in their own dtype: a cast could merge two classes."""

import keras
import numpy as np
from keras import ops

from keras_reg._backend import is_concrete, is_dense
from keras_reg._dtypes import dtype_of
from keras_reg._validation import are_class_ids, fail, fits, have_shape_of_ids

# The largest integers up to which a float dtype represents every integer. Above them, class ids merge silently.
EXACT_UP_TO = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24}
# A signed integer of the same width keeps ids distinct. Values that it cannot hold become negative, hence invalid.
SIGNED = {"uint64": "int64", "uint32": "int32", "int64": "int64"}
HELD_BY_INT32 = np.iinfo("int32")


def as_numbers(name, x):
    """Returns a tensor as it is, anything else as a NumPy array whose dtype and byte order every framework knows."""
    if not is_dense(x):
        return fail(f"`{name}` must be a dense array.", **{name: type(x).__name__})
    if ops.is_tensor(x) or isinstance(x, keras.KerasTensor):
        dtype = dtype_of(x)
        if dtype == "bool":
            return ops.cast(x, "uint8")
        return x if "float" in dtype or "int" in dtype else _refuse(name, dtype)
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, OverflowError):
        return fail(f"`{name}` must be a tensor or an array of numbers.", **{name: x})
    if array.dtype.name == "bfloat16":
        return array
    if array.dtype.kind not in "fiub":
        _refuse(name, array.dtype)
    if array.dtype.kind == "b" or array.dtype.itemsize > 8:
        return array.astype("uint8" if array.dtype.kind == "b" else "float64")  # and longdouble
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _refuse(name, dtype):
    return fail(f"`{name}` must contain real numbers.", **{f"{name}.dtype": str(dtype)})


def are_ids(targets, outputs, axis):
    """Whether targets of this shape are class ids, one per element, rather than distributions."""
    if have_shape_of_ids(targets, outputs, axis):
        return True
    if not fits(targets, outputs):
        elements, single = outputs[:axis] + outputs[axis + 1 :], (*outputs[:axis], 1, *outputs[axis + 1 :])
        fail(
            f"`y_true` must be class ids of shape {elements} or {single}, or distributions of shape {outputs}, where "
            f"`y_pred` has shape {outputs} with the classes on axis {axis}.",
            **{"y_true.shape": targets},
        )
    return False


def read_ids(y_true, classes, ignore_class):
    """Returns ids, with 0 in the place of invalid ones, which of them are valid, and which are not `ignore_class`.

    The last is `None` without an `ignore_class`. Raises for ids out of range if looking at them is cheap.
    """
    _check_float_ids(y_true, classes)
    if is_concrete(y_true) and isinstance(classes, int):
        check_ids(ops.convert_to_numpy(y_true), classes, ignore_class)
    ids, whole = _as_integers(y_true)
    known = ops.logical_and(ops.greater_equal(ids, 0), ops.less(ids, classes))
    known = known if whole is None else ops.logical_and(known, whole)
    if ignore_class is None:
        return ops.where(known, ids, 0), known, None
    ignored = _is_id(y_true, ids, whole, ignore_class)
    counted = ops.logical_not(ignored)
    return ops.where(ops.logical_and(known, counted), ids, 0), known, counted


def _as_integers(y_true):
    """Returns signed integers of at least 32 bits, and, for floats, which of them were whole numbers (else `None`)."""
    if isinstance(y_true, np.ndarray):
        if y_true.dtype.kind in "iu":
            held = (y_true >= HELD_BY_INT32.min) & (y_true <= HELD_BY_INT32.max)
            return ops.convert_to_tensor(np.where(held, y_true, -1).astype("int32")), None
        y_true = ops.convert_to_tensor(y_true)
    dtype = dtype_of(y_true)
    ids = y_true if dtype in ("int32", "int64") else ops.cast(y_true, SIGNED.get(dtype, "int32"))
    return ids, ops.equal(ops.cast(ids, dtype), y_true) if "float" in dtype else None


def _is_id(y_true, ids, whole, class_id):
    """Which targets are this id, compared in their own dtype, where -1 is not the largest uint32."""
    if isinstance(y_true, np.ndarray):
        return ops.convert_to_tensor(y_true == class_id)
    dtype, signed = (dtype_of(x) for x in (y_true, ids))
    held, narrow = np.iinfo(dtype if "int" in dtype else signed), np.iinfo(signed)
    wrapped = class_id - 2**narrow.bits if held.max >= class_id > narrow.max else class_id
    if not held.min <= class_id <= held.max or not narrow.min <= wrapped <= narrow.max:
        return ops.zeros_like(ids, dtype="bool")
    equal = ops.equal(ids, ops.convert_to_tensor(int(wrapped), signed))
    return equal if whole is None else ops.logical_and(equal, whole)


def check_ids(ids, classes, ignore_class):
    """Raises for ids in a NumPy array that are neither a class nor `ignore_class`."""
    wrong = ~are_class_ids(ids, classes, ignore_class)
    if wrong.any():
        also = "" if ignore_class is None else f", or the `ignore_class` {ignore_class}"
        fail(f"`y_true` must be class ids from 0 to {classes - 1}{also}.", y_true=ids[wrong][:5].tolist())


def _check_float_ids(y_true, classes):
    dtype = dtype_of(y_true)
    if "float" in dtype and isinstance(classes, int) and classes > EXACT_UP_TO.get(dtype, classes):
        fail(f"`y_true` must be integers: {dtype} cannot tell {classes} classes apart.", **{"y_true.dtype": dtype})


def of_two_classes(shares_of_second, ignore_class):
    """Returns distributions over two classes for shares of the second, and which elements count (`None`: all)."""
    second, counted = shares_of_second, None
    if ignore_class not in (None, 0, 1):
        counted = ops.not_equal(second, ops.cast(ignore_class, second.dtype))
        second = ops.where(counted, second, 0)
    return ops.stack([1 - second, second], axis=-1), counted
