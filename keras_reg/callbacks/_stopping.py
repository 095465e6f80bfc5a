"""The decisions of `SmoothedEarlyStopping`, as functions of the values so far."""

import numpy as np

from keras_reg._validation import fail
from keras_reg.callbacks._smoothing import THRESHOLDS


def check_thresholds(stopping_threshold, divergence_threshold, direction):
    """Checks that values between the two thresholds are possible."""
    good, bad = stopping_threshold, divergence_threshold
    if good is not None and bad is not None and not (good < bad if direction == "min" else good > bad):
        fail(
            "`stopping_threshold` must be better than `divergence_threshold`.",
            stopping_threshold=good,
            divergence_threshold=bad,
            mode=direction,
        )


def improves(value, reference, direction, min_delta, relative):
    """Whether a value is better than the reference (`None`: none yet) by more than `min_delta`.

    It compares in float32, like Keras. A plateau is flat there, while in float64 an average of equal numbers moves.
    """
    if reference is None:
        return True
    margin = min_delta * abs(reference) if relative else min_delta
    if direction == "min":
        return bool(np.float32(value + margin) < np.float32(reference))
    return bool(np.float32(value - margin) > np.float32(reference))


def reason_by_threshold(stopping_threshold, divergence_threshold, direction, value, name):
    """Returns why a value called `name` stops training whatever the criterion, or `None`."""
    sign, value = (1 if direction == "min" else -1), np.float32(value)
    if stopping_threshold is not None and sign * value <= sign * np.float32(stopping_threshold):
        return f"{name} is {value:.6g} and has reached {stopping_threshold:g}"
    if divergence_threshold is not None and sign * value > sign * np.float32(divergence_threshold):
        return f"{name} is {value:.6g}, worse than {divergence_threshold:g}"
    return None


def reason_by_criterion(criterion, value, threshold, name):
    """Returns why one of Prechelt's criteria stops training at this value, or `None`."""
    threshold = THRESHOLDS[criterion] if threshold is None else threshold
    includes_threshold = criterion == "successive_increases"
    if value < threshold or (value == threshold and not includes_threshold):
        return None
    bound = "at least" if includes_threshold else "above"
    return f"{criterion} of {name} is {value:.4g}, {bound} {threshold:g}"
