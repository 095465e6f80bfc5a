"""Whether `RegularizedModel` can run the steps of a network, and the arguments of its `compile`."""

import functools
import inspect

import keras

from keras_reg._overrides import EVALUATION, LOSS_ON_JAX, PREDICTION, STEPS, TRAINING, check_not_bypassed, overrides
from keras_reg._validation import fail
from keras_reg.training._mixture import unwrapped, wrap_losses

KERAS_ARGUMENTS = list(inspect.signature(keras.Model.compile).parameters)[1:]  # of `compile`, without `self`
AROUND_STEPS = tuple(name for name in (*TRAINING, *EVALUATION, *PREDICTION) if name not in STEPS)


def check_steps(network, **parts):
    """Checks that the steps of a network can be run by `RegularizedModel` with these parts.

    Args:
        network: The network.
        **parts: Arguments of `RegularizedModel` that need the training step of Keras.
    """
    check_not_bypassed(network, AROUND_STEPS, "`RegularizedModel`")
    name = type(network).__name__
    if not overrides(network, "train_step"):
        if overrides(network, "test_step"):
            fail("`model` must not override `test_step` if it does not override `train_step`.", model=name)
        check_not_bypassed(network, LOSS_ON_JAX, "`RegularizedModel`", remedy="Override `compute_loss` instead.")
        return
    for part, value in parts.items():
        if value:
            fail(
                f"`{part}` needs the training step of Keras, so `model` must not override `train_step`. A model that "
                "does can only be used with `augmentation`.",
                model=name, **{part: value},
            )  # fmt: skip


def named_arguments(function, args, kwargs):
    """Returns the arguments of a `compile` method by name. Those of `*args` have the names that Keras gives them."""
    signature = inspect.signature(function)
    named = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= dict(zip(KERAS_ARGUMENTS, value, strict=False))
        else:
            named |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return named


def compile_network(network, arguments, mixed):
    """Compiles the network. If `mixed`, its losses also accept mixed labels, but it is saved with the losses passed."""
    if not mixed:
        network.compile(**arguments)
        return
    wrapped = {
        name: wrap_losses(value) if name == "loss" or isinstance(value, keras.losses.Loss) else value
        for name, value in arguments.items()
    }
    network.compile(**wrapped)
    object.__setattr__(network, "get_compile_config", functools.partial(_plain_compile_config, network))


def _plain_compile_config(network):
    return unwrapped(type(network).get_compile_config(network))
