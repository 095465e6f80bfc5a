"""Methods of `keras.Model` that a model overrides. A model around it, or a copy, may not call them."""

import keras

from keras_reg._validation import fail

LOSS = ("compute_loss", "compute_metrics", "get_metrics_result", "reset_metrics", "metrics")
PREDICTION = ("predict", "predict_on_batch", "predict_step", "make_predict_function")
EVALUATION = ("evaluate", "test_on_batch", "test_step", "make_test_function")
TRAINING = ("fit", "train_on_batch", "train_step", "make_train_function")
# Steps of Keras call these on JAX. On other backends, Keras does not call them either.
RUNS_ON_JAX = hasattr(keras.Model, "compute_loss_and_updates")
LOSS_ON_JAX = tuple(name for name in ("compute_loss_and_updates", "stateless_compute_loss") if RUNS_ON_JAX)
STEPS = ("train_step", "test_step", "predict_step")
# The methods of tasks of KerasHub only add their preprocessor.
HUB = ("keras_hub", "keras_nlp")


def overrides(model, *names):
    """Whether the class of a model, or the model itself, overrides one of these members of `keras.Model`."""
    return any(name in vars(model) or getattr(type(model), name) is not getattr(keras.Model, name) for name in names)


def is_of_hub(model, name):
    """Whether a member of a model is that of a class of KerasHub."""
    return _module_of(model, name).startswith(HUB)


def _keeps_state(model, name):
    """Whether a member does what that of Keras does, and only keeps the state of the model after an error."""
    return name.startswith("make_") and _module_of(model, name).startswith("keras_reg._backend")


def _module_of(model, name):
    """Returns the module of the class that defines a member of a model."""
    return next((cls for cls in type(model).__mro__ if name in vars(cls)), type(model)).__module__


def check_not_bypassed(model, names, caller, argument="model", remedy=""):
    """Checks that a model does nothing in these methods that would be lost, since `caller` does not call them.

    Args:
        model: The model.
        names: Names of methods of `keras.Model`.
        caller: What does not call them, for the message.
        argument: Name of the argument that the model is.
        remedy: What to do instead.
    """
    kind = type(model).__name__
    for name in names:
        if overrides(model, name) and not is_of_hub(model, name) and not _keeps_state(model, name):
            fail(
                f"`{argument}` must not override `{name}`, which {caller} would not call. {remedy}".rstrip(),
                **{argument: kind},
            )
    if getattr(model, "preprocessor", None) is not None and is_of_hub(model, "fit"):
        fail(
            f"`{argument}` must not have a preprocessor, which {caller} would not call. Preprocess the data first, and "
            "set `preprocessor` of the model to None.",
            **{argument: kind}, preprocessor=type(model.preprocessor).__name__,
        )  # fmt: skip
