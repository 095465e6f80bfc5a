"""Which logged value a callback watches."""

import warnings

import numpy as np

from keras_reg._validation import fail, native


def check_monitor(monitor):
    """The name of a logged value."""
    monitor = native(monitor)
    if not isinstance(monitor, str) or not monitor:
        fail("`monitor` must be the name of a value in the logs.", monitor=monitor)
    return monitor


def read(callback, logs, first):
    """The monitored value as a float, or `None` where this epoch has none.

    Args:
        callback: The callback; its `monitor` names the value.
        logs: The logs of this epoch or batch.
        first: Whether these are the first logs that the callback sees in this `fit`: a name that cannot come later
            is an error then, and missing validation data is worth a warning.

    Raises:
        ValueError: If the value is not a single number; if `first` and the model logs nothing under the name, nor, for
            a `val_` name, without the prefix.
    """
    monitor, logs = callback.monitor, logs or {}
    if monitor in logs:
        return number(monitor, logs[monitor])
    if first:
        _explain_absence(callback, monitor, logs)
    return None


def number(name, value):
    """A logged value as a float: of metrics such as `F1Score` it is an array, which may have one element."""
    try:
        array = np.asarray([] if value is None or isinstance(value, (str, bytes)) else value, "float64")
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.size != 1:
        fail("The value of `monitor` must be one number. Metrics such as `F1Score` need `average=\"macro\"`.",
             monitor=name, value=value)  # fmt: skip
    return float(array.reshape(()))


def _explain_absence(callback, monitor, logs):
    name = type(callback).__name__
    validated = any(key.startswith("val_") for key in logs)
    if not monitor.startswith("val_") or validated or monitor.removeprefix("val_") not in logs:
        raise ValueError(
            f"{name} found no {monitor!r} in the logs. `monitor` must be one of {', '.join(map(repr, _offer(logs)))}; "
            f"values that other callbacks log must come from callbacks before this one. Received: monitor={monitor!r}"
        )
    warnings.warn(
        f"{name} watches {monitor!r}, but this epoch had no validation: give `fit` `validation_data` or "
        f"`validation_split`, or watch one of {', '.join(map(repr, logs))}. Epochs without validation are ignored "
        "(if that is what `validation_freq` asked for, all is well).",
        stacklevel=2,
    )


def _offer(logs):
    """The names in the logs, and those that validation data would add."""
    validated = any(key.startswith("val_") for key in logs)
    return [*logs] if validated else [*logs, *(f"val_{key}" for key in logs)]
