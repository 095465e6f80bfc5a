"""Every argument of every public class and function with every odd value: refused by name, or kept and used."""

import inspect
import json

import keras
import numpy as np
from cases import CASES
from odd_values import ARGUMENTS, value_of

from keras_reg import callbacks, inference, layers, losses, surgery, transfer

FOREIGN = ("self", "name", "dtype", "kwargs", "compile_arguments", "fit_arguments")  # which Keras checks, or nobody can

# These build networks.
COSTLY = (
    "TransferLearner", "regularize", "RegularizedModel", "unfreeze", "exclude_from_weight_decay", "MonteCarlo",
    "TestTimeAugmentation", "calibrate", "reliability", "ensemble", "soup", "train_ensemble", "bagging",
)  # fmt: skip
FLAGS = (
    "relative", "restore_best_weights", "terminate_on_nan", "batch_norm", "penalize_biases", "dry_run",
    "penalize_normalization", "delete_checkpoint",
)  # fmt: skip

OBJECTS = (
    "optimizer",
    "callbacks",
    "schedule",
    "layers",
    "preprocess",
    "augmentation",
    "loss",
    "metrics",
    "data",
    "ax",
)  # kept as such

CALLABLES = ("divergence",)  # functions of the user; whether a file can hold them is Keras' to say

ALSO = {"head": ["The head"]}  # other words for an argument


def network():
    """A small built network with all that surgery and transfer look for."""
    parts = [
        keras.Input((4,)),
        keras.layers.Dense(3, name="hidden"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(2),
    ]
    return keras.Sequential(parts)


def compiled():
    model = network()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    return model


EXAMPLES = (np.random.default_rng(0).normal(size=(6, 4)).astype("float32"), np.array([0, 1, 0, 1, 1, 0]))

# Public functions, each with arguments that are right.
FUNCTIONS = {
    losses.label_smoothing_crossentropy: lambda: {
        "y_true": np.array([0, 1]),
        "y_pred": np.array([[0.5, 0.5], [0.1, 0.9]]),
    },
    layers.drop_path_rates: lambda: {"rate": 0.2, "depth": 3},
    callbacks.persist: lambda: {"callbacks": [], "backup_dir": "folder"},
    surgery.regularize: lambda: {"model": network(), "bn_noise": 0.1, "dry_run": True},
    surgery.exclude_from_weight_decay: lambda: {"optimizer": keras.optimizers.AdamW(), "model": network()},
    transfer.freeze: lambda: {"layers": network()},
    transfer.unfreeze: lambda: {"backbone": network(), "layers": "all"},
    inference.flips: lambda: {"mode": "vertical"},
    inference.five_crop: lambda: {"size": 3},
    inference.ten_crop: lambda: {"size": (3, 2)},
    inference.multi_scale: lambda: {"sizes": [4, (5, 6)]},
    inference.ensemble: lambda: {"models": [network(), network()], "from_logits": True},
    inference.soup: lambda: {"models": [network(), network()], "greedy": False},
    inference.train_ensemble: lambda: {"build": network, "fit": lambda model: None, "n": 1, "verbose": 0},
    inference.bagging: lambda: {"build": compiled, "data": EXAMPLES, "n": 1, "verbose": 0},
    inference.calibrate: lambda: {"model": network(), "data": EXAMPLES, "from_logits": True},
    inference.reliability: lambda: {"model": network(), "data": EXAMPLES, "from_logits": True},
    transfer.suggest_phases: lambda: {"num_examples": 100, "similarity": "similar"},
}


def targets():
    """{name: (callable, function that makes right arguments)}, one for each public class and function."""
    found = {}
    for case in CASES:
        found.setdefault(case.cls.__name__, (case.cls, case.given))
    return found | {function.__name__: (function, make) for function, make in FUNCTIONS.items()}


def arguments_of(function):
    """The names of its arguments that are this package's to check."""
    return [name for name in inspect.signature(function).parameters if name not in FOREIGN]


def trials(name):
    """[(argument, expression)] of one class or function."""
    function, _ = targets()[name]
    step = 4 if name in COSTLY else 1
    return [(a, v) for i, a in enumerate(arguments_of(function)) for v in ARGUMENTS[i % step :: step]]


def try_argument(name, argument, expression):
    """What became of one trial: "refused", "kept", or a sentence that says what is wrong."""
    function, make = targets()[name]
    given = value_of(expression)
    try:
        made = function(**{**make(), argument: given})
    except Exception as error:
        return judge_error(error, argument, *ALSO.get(argument, ()), *["Strength"][: "class_name" in expression])
    if argument in FLAGS and not isinstance(given, (bool, np.bool_)) and not is_0d_bool(given):
        return "taken as a flag"
    if argument == "monitor" and not isinstance(plain(given), str):
        return "taken as a name"
    return (_fault_of_kept(made, argument, value_of(expression)) if inspect.isclass(function) else None) or "kept"


def is_0d_bool(value):
    return isinstance(value, np.ndarray) and value.shape == () and value.dtype == bool


def judge_error(error, *names):
    """ "refused" if it is a ValueError whose text holds one of `names`."""
    text = " ".join(str(error).split())
    if type(error) is not ValueError:
        return f"{type(error).__name__}: {text[:150]}"
    if not any(name in text for name in names):
        return f"ValueError that does not name `{'` or `'.join(names)}`: {text[:150]}"
    return "refused"


def _fault_of_kept(made, argument, given):
    """What is wrong with an instance that has taken `given`, or `None`."""
    if hasattr(made, "get_config") and not isinstance(made, keras.callbacks.Callback):
        return _fault_of_config(made, argument, given)
    if not hasattr(made, argument):
        return None
    stored = getattr(made, argument)
    if isinstance(stored, (np.generic, np.ndarray)) and np.ndim(stored) == 0 and not isinstance(stored, str):
        return f"stored as {type(stored).__name__}, which no file of settings holds"
    return None if plain(stored) == plain(given) or argument in OBJECTS else f"stored as {stored!r}"


def _fault_of_config(made, argument, given):
    if argument in CALLABLES and callable(given):  # `given` is made afresh
        return None if type(getattr(made, argument)) is type(given) else f"stored as {getattr(made, argument)!r}"
    try:
        written = json.dumps(keras.saving.serialize_keras_object(made))
        again = keras.saving.deserialize_keras_object(json.loads(written))
        stored = made.get_config()[argument]
    except Exception as error:
        return f"taken, and its config fails: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if plain(again.get_config()) != plain(made.get_config()):
        return f"another config after a round trip: {again.get_config()[argument]!r}"
    default = inspect.signature(type(made)).parameters[argument].default
    if (given is None and default is None) or argument in ("layer", "layers", "model", "augmentation"):
        return None
    return None if plain(stored) == plain(given) else f"config holds {stored!r}"


def plain(value):
    """The same value in Python's own types, to compare with; NaN equals NaN."""
    if isinstance(value, (np.ndarray, np.generic)) or keras.ops.is_tensor(value):
        value = np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value).tolist()
    if isinstance(value, dict) and value.get("class_name") == "Strength" and "config" in value:
        value = {"class_name": "Strength", "config": value["config"]}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, keras.KerasTensor):
        return str(value)
    if hasattr(value, "get_config"):
        return plain(keras.saving.serialize_keras_object(value))
    return "NaN" if isinstance(value, float) and value != value else value
