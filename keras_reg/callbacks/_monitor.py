"""Reading the logged value that a callback monitors."""

import warnings

import numpy as np

from keras_reg._validation import fail, native


def check_monitor(monitor):
    """Checks for the name of a logged value."""
    monitor = native(monitor)
    if not isinstance(monitor, str) or not monitor:
        fail("`monitor` must be the name of a value in the logs.", monitor=monitor)
    return monitor


def read(callback, logs, first):
    """Returns the monitored value as a float, or `None` if these logs do not contain it.

    Args:
        callback: The callback; its `monitor` is the name of the value.
        logs: The logs of this epoch or batch.
        first: Whether these are the first logs of this `fit`. In them, a name that cannot appear later is an error,
            and missing validation data cause a warning.

    Raises:
        ValueError: If the value is not a single number; if `first` is set and the model logs no value of this name,
            nor, for a `val_` name, one without the prefix.
    """
    monitor, logs = callback.monitor, logs or {}
    if monitor in logs:
        return number(monitor, logs[monitor])
    if first:
        _explain_absence(callback, monitor, logs)
    return None


def number(name, value):
    """Returns a logged value as a float. Metrics such as `F1Score` log an array, which must have one element."""
    try:
        array = np.asarray([] if value is None or isinstance(value, (str, bytes)) else value, "float64")
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.size != 1:
        fail("The value of `monitor` must be a single number. Metrics such as `F1Score` need `average=\"macro\"`.",
             monitor=name, value=value)  # fmt: skip
    return float(array.reshape(()))


def _explain_absence(callback, monitor, logs):
    name = type(callback).__name__
    validated = any(key.startswith("val_") for key in logs)
    if not monitor.startswith("val_") or validated or monitor.removeprefix("val_") not in logs:
        fail(
            f"`monitor` of {name} must be in the logs, one of {', '.join(map(repr, _offer(logs)))}. Callbacks that log "
            "further values must come before this one.",
            monitor=monitor,
        )
    warnings.warn(
        f"{name} monitors {monitor!r}, but this epoch had no validation. Pass `validation_data` or `validation_split` "
        f"to `fit`, or monitor one of {', '.join(map(repr, logs))}. Epochs without validation are ignored, which is "
        "fine if you have set `validation_freq`.",
        stacklevel=2,
    )


def _offer(logs):
    """Returns the names in the logs, and those that validation data would add."""
    validated = any(key.startswith("val_") for key in logs)
    return [*logs] if validated else [*logs, *(f"val_{key}" for key in logs)]
