"""Checks of numbers that are written to arrays: the dtype must hold them, and their count must fit the channels."""

import keras
import numpy as np

from keras_reg._dtypes import dtype_of
from keras_reg._validation import check_integer, check_range, fail, is_number, native
from keras_reg.layers._batch._content import leaves
from keras_reg.layers._batch._shapes import is_map, number_of_channels


def check_num_classes(num_classes, low=2):
    """Checks `num_classes`: `None`, or a number small enough to draw classes with float32."""
    return check_integer("num_classes", num_classes, low=low, high=2**23, optional=True)


def check_number_or_channels(name, value):
    """Checks for a number, or a tuple or list with one number per channel."""
    found = native(value)
    numbers = found if isinstance(found, (tuple, list)) and found else [found]
    if not all(map(is_number, numbers)):
        fail(f"`{name}` must be a number, or one number per channel.", **{name: value})
    return found


def check_fill(name, values, dtype):
    """Checks that a dtype can hold the values. A cast to integers would silently turn 0.5 into 0 or wrap 300 around."""
    for value in values if isinstance(values, (tuple, list)) else [values]:
        if not holds(dtype, value):
            fail(f"Expected a `{name}` that {dtype} can hold.", **{name: values})


def check_value_range(value_range):
    """Checks the range of the pixels, a pair (black, white) within a million of 0, or `None`."""
    if value_range is None:
        return None
    value_range = check_range("value_range", value_range, -1e6, 1e6)
    if value_range[0] == value_range[1]:
        fail("`value_range` must be a pair (min, max) with min < max.", value_range=value_range)
    return value_range


def check_has_value_range(value_range, dtype):
    """Checks that the range of pixels of this dtype is known, and that the dtype can hold it."""
    if value_range is not None:
        check_fill("value_range", value_range, dtype)
    elif dtype != "uint8":
        fail(
            "Images that are not uint8 need a `value_range`, such as (0, 1). In a `Pipeline` with layers that compute "
            "in floats, such as `MixUp`, uint8 images become floats: pass (0, 255).",
            value_range=None,
            dtype=dtype,
        )


def holds(dtype, value):
    """Whether `dtype` can hold the number `value`."""
    if keras.backend.is_float_dtype(dtype):
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float64(value).astype(dtype)))
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return low <= value <= high and value == int(value)


def check_fill_of_maps(value, batch, data_format):
    """Checks that masks and dense label maps can hold their fill value."""
    for array in (*leaves(batch.masks), *leaves(batch.labels)):
        if value is not None and is_map(array, batch.images, data_format):
            check_fill("mask_fill", value, dtype_of(array))


def exact(values, dtype):
    """Converts checked values for a cast to `dtype`. Integers become `int`, since floats could be rounded."""
    if not keras.backend.is_int_dtype(dtype):
        return values
    return list(map(int, values)) if isinstance(values, (tuple, list)) else int(values)


def check_channels(name, values, batch, data_format, layer):
    """Checks that a list of values has one value per channel."""
    if isinstance(values, (tuple, list)):
        channels = number_of_channels(batch, data_format, layer)
        if channels not in (None, len(values)):
            fail(f"Expected one `{name}` for each of {channels} channels.", **{name: values})
