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


def by_planes(function, array, changes, channels_first, at_once, *numbers):
    """Returns the images after a change, computed for a few of them at a time. The others are copied.

    Args:
        function: function(planes, out, step, *numbers) writes the changed planes to `out`. Planes are arrays
            (n, height, length), and `step` is the distance of two pixels in a row: the number of channels, if these are
            last. Otherwise, each channel is a plane.
        array: The images.
        changes: Which images change, bools (batch,).
        channels_first: Whether the channels are the second axis.
        at_once: The number of elements that are processed at a time.
        *numbers: Arrays with one entry per image. The function gets one entry per plane.
    """
    out = np.empty(array.shape, array.dtype)
    count = max(1, at_once // max(1, array[:1].size))
    channels, step = (array.shape[1], 1) if channels_first else (1, array.shape[3])

    def planes(images):
        return images.reshape(-1, *images.shape[2:]) if channels_first else images.reshape(*images.shape[:2], -1)

    with np.errstate(all="ignore"):  # the user's pixels may include NaN
        for start in range(0, len(array), count):
            some = slice(start, start + count)
            kept, changed = (start + np.flatnonzero(of) for of in (~changes[some], changes[some]))
            if len(kept):
                out[kept] = array[kept]
            if len(changed):
                changed = as_slice(changed)
                made = out[changed]  # a view of a slice, but a copy of single images
                given = (np.repeat(x[changed], channels, axis=0) for x in numbers)
                function(planes(array[changed]), planes(made), step, *given)
                if not isinstance(changed, slice):
                    out[changed] = made
    return out


def as_slice(images):
    """Returns indices that follow one another as a slice, which does not copy."""
    first, end = int(images[0]), int(images[-1]) + 1
    return slice(first, end) if end - first == len(images) else images
