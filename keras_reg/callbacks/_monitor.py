"""Which logged value a callback watches, and which way is better."""

import warnings

import keras


def read(callback, logs, first):
    """The monitored value as a float, or `None` where this epoch has none.

    Args:
        callback: The callback; its `monitor` names the value.
        logs: The logs of this epoch or batch.
        first: Whether these are the first logs that the callback sees in this `fit`: a name that cannot come later
            is an error then, and missing validation data is worth a warning.

    Raises:
        ValueError: If `first` and the model logs nothing under the name, nor, for a `val_` name, without the prefix.
    """
    monitor, logs = callback.monitor, logs or {}
    if monitor in logs:
        return float(logs[monitor])
    if first:
        _explain_absence(callback, monitor, logs)
    return None


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


def direction(callback, model):
    """The callback's `mode`, with "auto" resolved to "min" or "max".

    Keras is asked first: it knows the direction of its own metrics. Beyond that, whatever ends in "loss" is to fall.
    """
    if callback.mode != "auto":
        return callback.mode
    probe = keras.callbacks.EarlyStopping(callback.monitor, patience=2)
    probe.set_model(model)
    probe.on_train_begin()
    try:
        for epoch, value in enumerate((0.0, 1.0)):
            probe.on_epoch_end(epoch, {callback.monitor: value})
        return "max" if probe.best == 1.0 else "min"
    except ValueError:
        if callback.monitor.endswith("loss"):
            return "min"
    raise ValueError(
        f'`mode` must be "min" or "max" here: which way is better cannot be told from the name. '
        f"Received: mode={callback.mode!r}, monitor={callback.monitor!r}"
    )
