"""Casts computed values to the dtype of the images."""

import keras
import numpy as np


def as_pixels(values, dtype, ops):
    """Casts computed values to the dtype of the images. For integers, they are rounded, halves to even numbers."""
    if keras.backend.is_float_dtype(dtype):
        return ops.cast(values, dtype)
    values = ops.round(values)
    if not float32_holds(dtype):  # a value that was rounded up could be beyond the largest integer
        values = ops.minimum(values, float(np.nextafter(np.float32(np.iinfo(dtype).max), np.float32(0))))
    return ops.cast(values, dtype)


def float32_holds(dtype):
    """Whether float32 or the dtype itself, in which pixels are computed, holds all numbers of the dtype."""
    return dtype == "bool" or keras.backend.is_float_dtype(dtype) or np.iinfo(dtype).bits <= 16
