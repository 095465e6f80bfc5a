"""Checks of the arguments of a `TransferLearner`, which become plain Python."""

import functools

import keras

from keras_reg._validation import check_choice, check_flag, check_integer, fail, is_integer, is_number, native
from keras_reg.transfer._phase import Phase

FIT_ARGUMENTS = ("class_weight", "steps_per_epoch", "validation_batch_size", "validation_freq", "validation_steps")
COMPILE_ARGUMENTS = (
    "auto_scale_loss", "jit_compile", "loss_weights", "run_eagerly", "steps_per_execution", "weighted_metrics",
)  # fmt: skip
ACCURACIES = {  # the names of their logs
    "accuracy": "accuracy",
    "acc": "acc",
    "binary_accuracy": "binary_accuracy",
    "BinaryAccuracy": "binary_accuracy",
    keras.metrics.binary_accuracy: "binary_accuracy",
}


def as_list(metrics):
    """Returns a list of metrics; a single one may be passed by itself."""
    if isinstance(metrics, (str, keras.metrics.Metric)) or callable(metrics):
        return [metrics]
    if metrics is not None and not isinstance(metrics, (list, tuple, dict)):
        fail("`metrics` must be a list of metrics or of their names.", metrics=metrics)
    return list(metrics) if isinstance(metrics, tuple) else metrics


def accuracy_of_logits(metric):
    """Returns the metric, or an accuracy of one logit for the name or function of an accuracy.

    Keras would compare the logit with 0.5. A `BinaryAccuracy` that the user has created keeps its threshold.
    """
    name = ACCURACIES.get(metric)
    return metric if name is None else keras.metrics.BinaryAccuracy(name=name, threshold=0.0)


def _check_names(method, arguments, known, hint):
    unknown = [name for name in arguments if name not in known]
    if unknown:
        fail(f"Further arguments of `{method}` must be among {', '.join(known)}. {hint}", arguments=unknown)


def check_compile_arguments(arguments):
    _check_names("compile", arguments, COMPILE_ARGUMENTS, "Optimizers belong to the phases.")
    checks = {
        "auto_scale_loss": check_flag,
        "jit_compile": functools.partial(check_choice, choices=("auto", True, False)),
        "run_eagerly": check_flag,
        "steps_per_execution": functools.partial(check_integer, low=1),
    }
    return {name: checks[name](name, value) if name in checks else value for name, value in arguments.items()}


def joined_data(name, x, y, sample_weight):
    """Returns inputs, labels and sample weights as one argument, `train`."""
    if y is None:
        if sample_weight is not None:
            came = type(sample_weight).__name__
            fail("`sample_weight` needs `y`. A dataset or a tuple contains its own weights.", sample_weight=came)
        return x
    if isinstance(y, tuple) or (hasattr(y, "__iter__") and not hasattr(y, "__len__")):
        fail("`y` must be labels. Pass `validation_data` by keyword.", y=type(y).__name__)
    if not hasattr(x, "shape") and not isinstance(x, (list, tuple, dict)):
        fail(
            f"`{name}` must be an array if `y` is given. A dataset contains its own labels.", **{name: type(x).__name__}
        )
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def check_fit_arguments(arguments):
    _check_names("fit", arguments, FIT_ARGUMENTS, "Epochs belong to the phases.")
    found = {name: native(value) for name, value in arguments.items() if value is not None}
    for name in ("steps_per_epoch", "validation_batch_size", "validation_steps"):
        if name in found:
            found[name] = check_integer(name, found[name], low=1)
    if "validation_freq" in found:
        freq = found["validation_freq"]
        found["validation_freq"] = (
            [check_integer("validation_freq", epoch, low=1) for epoch in freq]
            if isinstance(freq, (list, tuple, set))
            else check_integer("validation_freq", freq, low=1)
        )
    if "class_weight" in found:
        found["class_weight"] = _check_class_weight(found["class_weight"])
    return found


def _check_class_weight(weights):
    if not isinstance(weights, dict) or not all(
        is_integer(key) and is_number(value) and value >= 0 for key, value in weights.items()
    ):
        fail("`class_weight` must be a dict from class ids to numbers of at least 0.", class_weight=weights)
    return {native(key): native(value) for key, value in weights.items()}


def check_phases(phases):
    phases = [phases] if isinstance(phases, Phase) else list(phases) if isinstance(phases, (list, tuple)) else phases
    if not isinstance(phases, list) or not phases or not all(isinstance(phase, Phase) for phase in phases):
        fail("`phases` must be a `Phase` or a list of them.", phases=phases)
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        fail("`phases` must have unique names.", phases=names)
    return phases
