"""What targets are: class ids or distributions, read in their own dtype, before a cast could merge two classes."""

import keras
import numpy as np
from keras import ops

from keras_reg._backend import is_concrete, is_dense
from keras_reg._validation import fail, fits

# The integers that a float dtype tells apart. Above them class ids merge in silence.
EXACT_UP_TO = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24}
# A signed integer of the same width keeps ids apart; what it cannot hold becomes negative, which is no class.
SIGNED = {"uint64": "int64", "uint32": "int32", "int64": "int64"}
HELD_BY_INT32 = np.iinfo("int32")


def as_numbers(name, x):
    """`x` where it is a tensor, else a NumPy array in a dtype and byte order that every framework knows."""
    if not is_dense(x):
        return fail(f"`{name}` must be a dense array.", **{name: type(x).__name__})
    if ops.is_tensor(x) or isinstance(x, keras.KerasTensor):
        dtype = keras.backend.standardize_dtype(x.dtype)
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
    return fail(f"`{name}` must be real numbers.", **{f"{name}.dtype": str(dtype)})


def are_ids(targets, outputs, axis):
    """Whether targets of this shape are class ids (one for each element) rather than distributions."""
    elements, single = outputs[:axis] + outputs[axis + 1 :], (*outputs[:axis], 1, *outputs[axis + 1 :])
    if fits(targets, elements) or (fits(targets, single) and targets[axis] == 1):
        return True
    if not fits(targets, outputs):
        fail(
            f"`y_true` must be class ids of shape {elements} or {single}, or distributions of shape {outputs}, where "
            f"`y_pred` has shape {outputs} with the classes on axis {axis}.",
            **{"y_true.shape": targets},
        )
    return False


def read_ids(y_true, classes, ignore_class):
    """(ids in range, which were true ids, which are not `ignore_class`: `None` where there is none).

    Raises for ids out of range where looking at them is cheap.
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
    """Signed integers of at least 32 bits, and for floats which of them were whole numbers."""
    if isinstance(y_true, np.ndarray):
        if y_true.dtype.kind in "iu":
            held = (y_true >= HELD_BY_INT32.min) & (y_true <= HELD_BY_INT32.max)
            return ops.convert_to_tensor(np.where(held, y_true, -1).astype("int32")), None
        y_true = ops.convert_to_tensor(y_true)
    dtype = keras.backend.standardize_dtype(y_true.dtype)
    ids = y_true if dtype in ("int32", "int64") else ops.cast(y_true, SIGNED.get(dtype, "int32"))
    return ids, ops.equal(ops.cast(ids, dtype), y_true) if "float" in dtype else None


def _is_id(y_true, ids, whole, class_id):
    """Which of the targets are this id, by their own dtype: -1 is not the greatest uint32."""
    if isinstance(y_true, np.ndarray):
        return ops.convert_to_tensor(y_true == class_id)
    dtype, signed = (keras.backend.standardize_dtype(x.dtype) for x in (y_true, ids))
    held, narrow = np.iinfo(dtype if "int" in dtype else signed), np.iinfo(signed)
    wrapped = class_id - 2**narrow.bits if held.max >= class_id > narrow.max else class_id
    if not held.min <= class_id <= held.max or not narrow.min <= wrapped <= narrow.max:
        return ops.zeros_like(ids, dtype="bool")
    equal = ops.equal(ids, ops.convert_to_tensor(int(wrapped), signed))
    return equal if whole is None else ops.logical_and(equal, whole)


def check_ids(ids, classes, ignore_class):
    """Raises for ids in a NumPy array that are neither a class nor the `ignore_class`."""
    wrong = ~((ids >= 0) & (ids < classes) & (ids == np.floor(ids)))
    if ignore_class is not None:
        wrong &= ids != ignore_class
    if wrong.any():
        also = "" if ignore_class is None else f", or the `ignore_class` {ignore_class}"
        fail(f"`y_true` must be class ids from 0 to {classes - 1}{also}.", y_true=ids[wrong][:5].tolist())


def _check_float_ids(y_true, classes):
    dtype = keras.backend.standardize_dtype(y_true.dtype)
    if "float" in dtype and isinstance(classes, int) and classes > EXACT_UP_TO.get(dtype, classes):
        fail(f"`y_true` must be integers: {dtype} cannot tell {classes} classes apart.", **{"y_true.dtype": dtype})


def of_two_classes(shares_of_second, ignore_class):
    """Distributions over two classes from the share of the second one, and which elements count (`None`: all)."""
    second, counted = shares_of_second, None
    if ignore_class not in (None, 0, 1):
        counted = ops.not_equal(second, ops.cast(ignore_class, second.dtype))
        second = ops.where(counted, second, 0)
    return ops.stack([1 - second, second], axis=-1), counted
