"""Checks of numbers that go into arrays: what their dtype can hold, and one number per channel."""

import keras
import numpy as np

from keras_reg._validation import check_integer, fail
from keras_reg.layers._batch._forms import dtype_of, is_map, leaves, static


def check_num_classes(num_classes, low=2):
    """`None`, or a number of classes that float32 can draw from."""
    return check_integer("num_classes", num_classes, low=low, high=2**23, optional=True)


def check_fill(name, values, dtype):
    """Numbers that a dtype can hold: casting would make a silent 0 of 0.5 in whole numbers, or wrap 300 around."""
    for value in values if isinstance(values, (tuple, list)) else [values]:
        if not holds(dtype, value):
            fail(f"Expected a `{name}` that {dtype} can hold.", **{name: values})


def holds(dtype, value):
    """Whether `dtype` can hold the number `value`."""
    if keras.backend.is_float_dtype(dtype):
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float64(value).astype(dtype)))
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return low <= value <= high and value == int(value)


def check_fill_of_maps(value, batch, data_format):
    """Checks what masks, and labels that are dense maps, are filled with."""
    for array in (*leaves(batch.masks), *leaves(batch.labels)):
        if value is not None and is_map(array, batch.images, data_format):
            check_fill("mask_fill", value, dtype_of(array))


def exact(values, dtype):
    """Numbers that `check_fill` has let pass, for casting: a whole number as a float may be rounded on its way."""
    if not keras.backend.is_int_dtype(dtype):
        return values
    return list(map(int, values)) if isinstance(values, (tuple, list)) else int(values)


def check_channels(name, values, batch, data_format):
    """Checks that there are as many values as channels, where there is one per channel."""
    channels = static(batch.images, -1 if data_format == "channels_last" else -3)
    channels = channels if channels is None else channels // batch.frames
    if isinstance(values, (tuple, list)) and channels not in (None, len(values)):
        fail(f"Expected one `{name}` for each of {channels} channels.", **{name: values})
