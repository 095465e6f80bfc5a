"""Whether a monitored value should fall or rise, as Keras defines it for its metrics."""

import warnings

import keras
import numpy as np

from keras_reg._validation import fail


def find(monitor, mode, model, argument="monitor"):
    """Returns `mode`, with "auto" resolved to "min" or "max", or `None` if that needs a model that has seen data.

    It looks for a metric of the model with the name of the monitor. A model with several outputs adds the name of the
    output in front, so every ending of the name is tried too. Any other name that ends in "loss" means "min".

    Args:
        monitor: Name of the value, with or without "val_".
        mode: "min", "max" or "auto".
        model: The model that is compiled with the metric.
        argument: How errors call `monitor`.

    Raises:
        ValueError: If no metric of the model has this name, or Keras does not know its direction.
    """
    if mode != "auto":
        return mode
    names = _ends(monitor.removeprefix("val_"))
    found = _ask(model, names)
    if found is None and monitor.endswith("loss"):
        return "min"
    if found is not None:
        return found
    metrics = _compiled_metrics(model)
    for metric in metrics or ():
        if isinstance(metric, _Unknown) and metric.name in names:
            return None
        found = found or _ask_alone(metric, names)
    return found or (None if metrics is None else refuse(mode, **{argument: monitor}))


class _Unknown:
    """A custom metric that is not registered, so that only its name is known."""

    def __init__(self, config):
        inner = config.get("config")
        self.name = inner.get("name") if isinstance(inner, dict) else None


def refuse(mode, **named):
    """Raises the error for a direction that cannot be inferred. `named` is the argument with the name of the value."""
    (argument,) = named
    fail(
        f'`mode="auto"` needs a `{argument}` that is the name of a loss or of a metric whose direction Keras knows. '
        'Check the name, or set `mode` to "min" or "max".',
        mode=mode,
        **named,
    )


def _ends(name):
    """Returns all endings of a name: a_val_x, val_x and x."""
    parts = name.split("_")
    return ["_".join(parts[start:]) for start in range(len(parts))]


def _ask(model, names):
    """Returns the direction that Keras' own callback finds for the first of these names that it knows, or `None`."""
    for name in names:
        probe = keras.callbacks.EarlyStopping(name, patience=2)
        probe.set_model(model)
        probe.on_train_begin()
        try:
            for epoch, value in enumerate((0.0, 1.0)):
                probe.on_epoch_end(epoch, {name: value})
        except ValueError:
            continue
        return "max" if probe.best == 1.0 else "min"
    return None


def _compiled_metrics(model):
    """Returns copies of the metrics that the model was compiled with, or `None` if they cannot be restored.

    On TensorFlow, Keras creates the metrics of the model itself only in the first step.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns when it serializes a lambda
            config = model.get_compile_config() or {} if hasattr(model, "get_compile_config") else {}
            kept = [config.get("metrics"), config.get("weighted_metrics")]
            return [metric for metric in keras.tree.flatten(_restored(kept)) if metric is not None]
    except Exception:  # a custom optimizer or loss that cannot be serialized
        return None


def _restored(nest):
    """Converts a nest of names and serialized metrics, which are dicts, to one of names and metrics."""
    if isinstance(nest, dict) and "class_name" in nest:
        try:
            return keras.saving.deserialize_keras_object(nest)
        except (TypeError, ValueError):
            return _Unknown(nest)
    if isinstance(nest, dict):
        return {name: _restored(value) for name, value in nest.items()}
    return [_restored(value) for value in nest] if isinstance(nest, (list, tuple)) else nest


def _ask_alone(metric, names):
    """Returns the direction that Keras finds for a metric in a small model made for it, or `None`."""
    if isinstance(metric, _Unknown):
        return None
    if isinstance(metric, keras.Metric):
        metric.update_state, metric.result = lambda *args, **kwargs: None, lambda: 0.0  # accepts any shapes
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(metrics=[metric])
    zeros = keras.ops.convert_to_tensor(np.zeros((1, 1), "float32"))
    try:
        model.compute_metrics(zeros, zeros, zeros)
    except Exception:  # a metric given by name that does not accept these shapes
        return None
    return _ask(model, names)
