"""Processes NumPy images a few at a time, so that they stay in the cache of the processor between two passes."""

import numpy as np

AT_ONCE = 2**16  # the number of elements that are processed at a time


def applied_in_cache(function, array, stays, *others):
    """Returns function(array, *others), computed for a few images at a time. All arrays have one entry per image.

    `stays` tells which images the function does not change, (batch,).
    """
    out = np.empty(array.shape, array.dtype)
    count = max(1, AT_ONCE // max(1, array[:1].size))
    with np.errstate(all="ignore"):  # the user's pixels may include NaN
        for start in range(0, len(array), count):
            some = slice(start, start + count)
            out[some] = array[some] if stays[some].all() else function(array[some], *(x[some] for x in others))
    return out
