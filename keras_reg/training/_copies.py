"""New models like a given one: with the same layers, losses and metrics, and weights of their own."""

import textwrap
import warnings

import keras
from keras import ops

from keras_reg._inner_layers import copy_lora_alpha, copy_tables, derive_values, inside
from keras_reg._overrides import PREDICTION, check_not_bypassed
from keras_reg._validation import fail
from keras_reg.training._networks import as_functional, is_graph
from keras_reg.training._regularized_model import RegularizedModel

COMPILED = ("loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly", "steps_per_execution", "jit_compile")


def network_of(model):
    """Returns the network in a `RegularizedModel`. Other models are returned as they are."""
    return model.model if isinstance(model, RegularizedModel) else model


def copied(model):
    """Returns a model with the same layers and the same weights, which is not compiled.

    Raises:
        ValueError: If the model cannot be created again from its config.
    """
    try:
        copy = _created_again(model)
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = textwrap.shorten(str(error), 300)
        fail(f"Keras must be able to create the model again from its config: {reason}", model=model)
    shapes, found = ([tuple(weight.shape) for weight in each.weights] for each in (model, copy))
    if shapes != found:
        fail(f"The config of the model must describe all of its weights, which have the shapes {shapes}.", shapes=found)
    copy_tables(model, copy)
    put_weights(copy, model.get_weights())
    copy_lora_alpha(model, copy)
    return copy


def check_copied(model, names=PREDICTION, argument="model"):
    """Checks that the copy of a model will do the same in these methods: that of a graph is a plain Keras model."""
    if is_graph(model):
        check_not_bypassed(model, names, "the copy", argument)


def _created_again(model):
    """Creates a model without its weights. `clone_model` would also compile it, with losses that it may not find."""
    if is_graph(model):
        copy = keras.models.clone_model(as_functional(model), clone_function=_layer_again)
        return keras.Sequential(copy.layers, name=model.name) if isinstance(model, keras.Sequential) else copy
    copy = type(model).from_config(model.get_config())
    if not copy.built:
        copy.build_from_config(model.get_build_config() or {})
    return copy


def _layer_again(layer):
    return _created_again(layer) if is_graph(layer) else type(layer).from_config(layer.get_config())


def put_weights(model, arrays, weights=None):
    """Sets all weights of a model or some of them, and updates the layers that keep numbers derived from them."""
    for weight, array in zip(model.weights if weights is None else weights, arrays, strict=True):
        # A copy, since a step on JAX donates the buffers of all variables.
        weight.assign(ops.copy(ops.cast(ops.convert_to_tensor(array), weight.dtype)))
    for layer in inside(model):
        derive_values(layer)


def compile_config_of(model):
    """Returns new losses and metrics as those of a model, or nothing if they cannot be copied.

    The optimizer is one without state: Keras warns if a file does not have the state of the default optimizer.
    """
    if not model.compiled:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns when it serializes a lambda
            config = model.get_compile_config()
        found = {name: keras.saving.deserialize_keras_object(config[name]) for name in COMPILED if name in config}
    except (TypeError, ValueError, NotImplementedError):
        return {}  # such as a loss that is not registered: `evaluate` asks for a `compile`
    return {"optimizer": "sgd", **found}
