"""Argument checks in one style: a message says what was expected, then what was received.

A check returns its argument as plain Python. NumPy numbers are accepted wherever Python numbers are, and converted.
"""

import math
import numbers
import os

import keras
import numpy as np

_LONGEST = 1000  # characters of a value in a message


def fail(expected, **received):
    """Raises a `ValueError` that says what was expected and what was received."""
    came = ", ".join(f"{name}={_shown(value)}" for name, value in received.items())
    raise ValueError(f"{expected} Received: {came}")


def _shown(value):
    try:
        text = repr(value)
    except Exception:  # a number with more digits than Python prints, or a broken object
        return f"{type(value).__name__} that cannot be printed"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def native(value):
    """Returns `value` as plain Python, so that it is compared, printed and saved as such.

    NumPy numbers, strings and arrays become Python numbers, strings and nested lists. Tuples and lists are copied, so
    that later changes by the caller have no effect. Other objects are returned as they are.
    """
    if isinstance(value, (np.generic, np.ndarray)) and not _holds_nothing(value):
        value = value.tolist()
    if isinstance(value, tuple):
        return tuple(map(native, value))
    if isinstance(value, list):
        return list(map(native, value))
    if isinstance(value, (bool, int, float)):
        return value if type(value) in (bool, int, float) else _base(value)
    if isinstance(value, numbers.Real):  # `fractions.Fraction`, `numpy.longdouble`
        try:
            return float(value)
        except OverflowError:
            return value
    return value


def _holds_nothing(array):
    """Whether NumPy may convert the array to `None`, which has its own meaning: object arrays and masked numbers."""
    return array.dtype.kind == "O" or isinstance(array, np.ma.MaskedArray)


def _base(value):
    """Returns a member of an `IntEnum` or of a similar class as a plain number."""
    return int(value) if isinstance(value, int) else float(value)


def fits(shape, expected):
    """Whether two static shapes can be equal; `None` stands for any size."""
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


def have_shape_of_ids(labels, outputs, axis=-1):
    """Whether labels of this static shape can be class ids: `outputs` without `axis`, or with size 1 there."""
    axis %= len(outputs)
    before, after = outputs[:axis], outputs[axis + 1 :]
    return fits(labels, before + after) or (fits(labels, (*before, 1, *after)) and labels[axis] == 1)


def are_class_ids(labels, classes, ignore_class=None):
    """Which numbers of a NumPy array are integers from 0 to `classes - 1`, or `ignore_class`."""
    right = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))  # False for NaN
    return right if ignore_class is None else right | (labels == ignore_class)


def is_number(value):
    """True for a finite real number that is not a bool (NumPy scalars count)."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def is_integer(value):
    """True for an integer that is not a bool (NumPy integers count)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_number(name, value, low=-math.inf, high=math.inf, open_low=False, open_high=False, optional=False):
    """Checks for a finite number from `low` to `high`, both included unless open, or `None` if `optional`."""
    number = native(value)
    if optional and number is None:
        return number
    inside = is_number(number) and low <= number <= high
    if inside and not (open_low and number == low) and not (open_high and number == high):
        return number
    left, right = "(" if open_low or low == -math.inf else "[", ")" if open_high or high == math.inf else "]"
    none = " or None" if optional else ""
    fail(f"`{name}` must be a number in {left}{low}, {high}{right}{none}.", **{name: value})


def check_rate(name, value):
    """Checks for a probability: a number in [0, 1]."""
    return check_number(name, value, 0, 1)


def check_integer(name, value, low=None, optional=False, high=None):
    """Checks for an integer from `low` to `high`, or `None` if `optional`."""
    number = native(value)
    if optional and number is None:
        return number
    if is_integer(number) and (low is None or number >= low) and (high is None or number <= high):
        return number
    least = "" if low is None else f" of at least {low}"
    most = "" if high is None else f" and at most {high}"
    none = " or None" if optional else ""
    fail(f"`{name}` must be an integer{least}{most}{none}.", **{name: value})


def check_range(name, value, low=-math.inf, high=math.inf, open_low=False):
    """Checks for an ordered pair (least, most) of finite numbers from `low` to `high`."""
    pair = native(value)
    right_kind = isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(is_number, pair))
    if right_kind and low <= pair[0] <= pair[1] <= high and not (open_low and pair[0] == low):
        return pair
    left = "(" if open_low or low == -math.inf else "["
    right = ")" if high == math.inf else "]"
    fail(
        f"`{name}` must be a pair (min, max) with min <= max, both in {left}{low}, {high}{right}.",
        **{name: value},
    )


def check_span(name, value, low, high, open_low=False):
    """Checks for a number of at least 0, which stands for the range from -value to value, or a range (least, most)."""
    number = native(value)
    if is_number(number):
        return check_number(name, value, 0, min(-low, high), open_high=open_low and -low <= high)
    if not isinstance(number, (tuple, list)):
        fail(f"`{name}` must be a number of at least 0, or a pair (least, most).", **{name: value})
    return check_range(name, value, low, high, open_low)


def span_of(value):
    """Returns the range (least, most) that a checked value of `check_span` stands for."""
    return tuple(value) if isinstance(value, (tuple, list)) else (-value, value)


def check_ratio(name, value):
    """Checks for an ordered pair (least, most) of aspect ratios, both > 0."""
    return check_range(name, value, 0, open_low=True)


def usable_ratio(ratio):
    """Clips aspect ratios to float32 numbers whose product with an area is finite too."""
    return tuple(min(max(aspect, 1e-20), 1e20) for aspect in ratio)


def check_choice(name, value, choices):
    """Checks for one of `choices`."""
    found = native(value)
    if not any(found is choice or (type(found) is type(choice) and found == choice) for choice in choices):
        fail(f"`{name}` must be one of {', '.join(map(repr, choices))}.", **{name: value})
    return found


def check_integer_or_pair(name, value, low=None, high=None):
    """Checks for an integer, or a tuple or list of two integers, from `low` to `high`."""
    value = native(value)
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    for number in value if pair else [value]:
        check_integer(name, number, low, high=high)
    return value


def check_flag(name, value):
    """Checks for True or False."""
    return check_choice(name, value, (True, False))


def check_folder(name, folder, optional=False):
    """Checks for the path of a local folder, which need not exist, or `None` if `optional`."""
    if optional and native(folder) is None:
        return None
    path = os.fspath(native(folder)) if isinstance(native(folder), (str, os.PathLike)) else None
    if isinstance(path, str) and path and "\0" not in path and (os.path.isdir(path) or not os.path.lexists(path)):
        return path
    none = " or None" if optional else ""
    fail(f"`{name}` must be the path of a local folder{none}.", **{name: folder})


def check_callbacks(callbacks, instead_of_backup):
    """Checks for a callback or a list of them, without `BackupAndRestore`, and returns a list."""
    found = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    if not all(isinstance(callback, keras.callbacks.Callback) for callback in found):
        fail("`callbacks` must be a Keras callback or a list of them.", callbacks=callbacks)
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in found):
        fail(f"`callbacks` must not contain `BackupAndRestore`: {instead_of_backup}.", callbacks=callbacks)
    return found


def as_globs(value):
    """Returns a glob, or a list of globs that is not empty, as a list of strings; `None` for anything else."""
    globs = native([value] if isinstance(value, str) else value)
    is_list = isinstance(globs, (list, tuple)) and len(globs) > 0
    return list(globs) if is_list and all(isinstance(glob, str) and glob for glob in globs) else None


def check_verbose(verbose):
    """Checks for a bool or an integer of at least 0, as Keras' own callbacks accept."""
    number = native(verbose)
    if not isinstance(number, bool) and not (is_integer(number) and number >= 0):
        fail("`verbose` must be 0 or 1.", verbose=verbose)
    return number


def check_seed(seed):
    """Checks for `None` or an integer that is not negative."""
    return check_integer("seed", seed, low=0, optional=True)


def check_data_format(data_format):
    """Checks for `None`, "channels_last" or "channels_first"."""
    return check_choice("data_format", data_format, (None, "channels_last", "channels_first"))
