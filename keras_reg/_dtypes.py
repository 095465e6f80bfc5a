"""Questions about the dtypes of arrays of any framework."""

import keras


def dtype_of(array):
    return keras.backend.standardize_dtype(array.dtype)


def is_float(array):
    return keras.backend.is_float_dtype(dtype_of(array))


def is_int(array):
    return keras.backend.is_int_dtype(dtype_of(array))


def at_least_float32(dtype):
    """Returns the dtype for computing with numbers of this dtype."""
    return "float64" if dtype == "float64" else "float32"
