"""Argument checks: one style, what is expected and then what came."""

import math
import numbers


def fail(expected, **received):
    """Raises a `ValueError` that says what was expected and what came."""
    came = ", ".join(f"{name}={value!r}" for name, value in received.items())
    raise ValueError(f"{expected} Received: {came}")


def fits(shape, expected):
    """Whether two static shapes can be the same; `None` is any size."""
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


def is_number(value):
    """True for a finite real number that is not a bool (NumPy scalars count)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value):
    """True for an integer that is not a bool (NumPy integers count)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_number(name, value, low=-math.inf, high=math.inf, open_low=False, open_high=False):
    """A finite number in the interval from `low` to `high`, ends included unless open."""
    inside = is_number(value) and low <= value <= high
    if inside and not (open_low and value == low) and not (open_high and value == high):
        return
    left, right = "(" if open_low or low == -math.inf else "[", ")" if open_high or high == math.inf else "]"
    fail(f"`{name}` must be a number in {left}{low}, {high}{right}.", **{name: value})


def check_rate(name, value):
    """A probability: a number in [0, 1]."""
    check_number(name, value, 0, 1)


def check_integer(name, value, low=None, optional=False):
    """An integer of at least `low`; `None` passes where `optional`."""
    if optional and value is None:
        return
    if not is_integer(value) or (low is not None and value < low):
        least = "" if low is None else f" of at least {low}"
        none = " or None" if optional else ""
        fail(f"`{name}` must be an integer{least}{none}.", **{name: value})


def check_range(name, value, low=-math.inf, high=math.inf, open_low=False):
    """A pair (least, most) of finite numbers in order, both from `low` to `high`."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value))
    if not pair or not low <= value[0] <= value[1] <= high or (open_low and value[0] == low):
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if high == math.inf else "]"
        fail(
            f"`{name}` must be a pair (least, most) with least <= most, both in {left}{low}, {high}{right}.",
            **{name: value},
        )


def check_choice(name, value, choices):
    """One of `choices`."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        fail(f"`{name}` must be one of {', '.join(map(repr, choices))}.", **{name: value})


def check_seed(seed):
    """`None` or an integer that is not negative."""
    check_integer("seed", seed, low=0, optional=True)


def check_data_format(data_format):
    """`None`, "channels_last" or "channels_first"."""
    check_choice("data_format", data_format, (None, "channels_last", "channels_first"))
