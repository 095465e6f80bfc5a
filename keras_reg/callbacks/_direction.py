"""Whether a monitored value should fall or rise, as Keras knows it of its metrics."""

import warnings

import keras
import numpy as np

from keras_reg._validation import fail


def find(callback, model):
    """The callback's `mode`, with "auto" resolved to "min" or "max"; `None` where only a trained model can tell.

    Looks for a metric of the model with this name. A model with several outputs puts the name of the output before that
    of the metric, so every ending of the name is tried too. Any other name that ends in "loss" should fall.

    Raises:
        ValueError: If no metric of the model has this name, or Keras does not know its direction.
    """
    if callback.mode != "auto":
        return callback.mode
    names = _ends(callback.monitor.removeprefix("val_"))
    found = _ask(model, names)
    if found is None and callback.monitor.endswith("loss"):
        return "min"
    if found is not None:
        return found
    metrics = _compiled_metrics(model)
    for metric in metrics or ():
        if isinstance(metric, _Unknown) and metric.name in names:
            return None
        found = found or _ask_alone(metric, names)
    return found or (None if metrics is None else refuse(callback))


class _Unknown:
    """Somebody's metric that is not registered, of which only the name is known."""

    def __init__(self, config):
        inner = config.get("config")
        self.name = inner.get("name") if isinstance(inner, dict) else None


def refuse(callback):
    """Raises the error for a direction that cannot be inferred."""
    fail(
        '`mode` must be "min" or "max" unless `monitor` is the name of a loss or of a metric that Keras knows. '
        "Check the name, or set `mode`.",
        mode=callback.mode,
        monitor=callback.monitor,
    )


def _ends(name):
    """a_val_x, val_x, x."""
    parts = name.split("_")
    return ["_".join(parts[start:]) for start in range(len(parts))]


def _ask(model, names):
    """What Keras' own callback makes of the first of these names that it knows, or `None`."""
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
    """Copies of the metrics that the model was compiled with, which under TensorFlow are made in the first step only.

    `None` where they cannot be known.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras does not like to serialize a lambda
            config = model.get_compile_config() or {} if hasattr(model, "get_compile_config") else {}
            kept = [config.get("metrics"), config.get("weighted_metrics")]
            return [metric for metric in keras.tree.flatten(_restored(kept)) if metric is not None]
    except Exception:  # somebody's optimizer or loss, which cannot be serialized
        return None


def _restored(nest):
    """A nest of serialized metrics, a dict for each, or names, as a nest of metrics and names."""
    if isinstance(nest, dict) and "class_name" in nest:
        try:
            return keras.saving.deserialize_keras_object(nest)
        except (TypeError, ValueError):
            return _Unknown(nest)
    if isinstance(nest, dict):
        return {name: _restored(value) for name, value in nest.items()}
    return [_restored(value) for value in nest] if isinstance(nest, (list, tuple)) else nest


def _ask_alone(metric, names):
    """What Keras says of one metric in a model of its own."""
    if isinstance(metric, _Unknown):
        return None
    if isinstance(metric, keras.Metric):
        metric.update_state, metric.result = lambda *args, **kwargs: None, lambda: 0.0  # whatever shapes it wants
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(metrics=[metric])
    zeros = keras.ops.convert_to_tensor(np.zeros((1, 1), "float32"))
    try:
        model.compute_metrics(zeros, zeros, zeros)
    except Exception:  # a metric by name, which does not take these shapes
        return None
    return _ask(model, names)
