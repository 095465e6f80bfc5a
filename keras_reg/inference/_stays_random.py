"""The random layers of a network, and the same network in which some of them stay random in inference."""

import keras
from keras import ops

from keras_reg import _backend
from keras_reg._typing import Tensors
from keras_reg._validation import fail
from keras_reg.layers import BatchAugmentation, FractionalMaxPooling2D, WeightNoise
from keras_reg.layers._batch._foreign import is_image_layer
from keras_reg.layers._noise._wrapped_call import WrappedCall
from keras_reg.training._networks import as_functional, is_graph, recalled

NOISES = (keras.layers.GaussianNoise, WeightNoise)
KINDS = ("all", "dropout", "noise")


class StaysRandom(keras.layers.Layer):
    """Calls a layer as in training. It has no weights of its own."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        self.__dict__["call"] = WrappedCall(self, layer)  # Keras reads its signature in the next line
        super().__init__(name=f"{layer.name}_stays_random", autocast=False)
        self.layer, self.supports_masking, self.built = layer, layer.supports_masking, True

    def call_wrapped(self, args, kwargs, training):
        return self.layer(*args, **{**kwargs, "training": True})

    def compute_mask(self, inputs: Tensors, previous_mask: Tensors = None) -> Tensors:
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **self.call.known(kwargs))


def network_that_draws(model, random_layers):
    """Returns a network with the layers of `model`, in which the selected layers stay random in inference."""
    chosen = {id(layer): StaysRandom(layer) for layer in _chosen(model, random_layers)}
    inner = {}

    def call(operation, *args, **kwargs):
        if is_graph(operation) and operation is not model:
            if id(operation) not in inner:
                inner[id(operation)] = recalled(as_functional(operation), call)
            operation = inner[id(operation)]
        return chosen.get(id(operation), operation)(*args, **kwargs)

    return recalled(as_functional(model), call)


def seeds_of(model):
    """Returns the variables of a model that hold the state of a random generator."""
    weights = {id(weight) for weight in model.weights}
    return [
        variable
        for variable in model.variables
        if id(variable) not in weights and _backend.is_seed(variable) and tuple(variable.shape) == (2,)
    ]


def seed_from(key, variable):
    """Returns a state of the generator of a Keras layer that follows from a key."""
    return ops.cast(_backend.uniform(key, (2,)) * 2.0**30, variable.dtype)


def _chosen(model, random_layers):
    """Returns the layers that a kind or a list of names selects."""
    every = list(_layers(model))
    if isinstance(random_layers, str):
        found = [layer for layer in every if _is_of_kind(layer, random_layers)]
        if not found:
            fail("`model` must have layers of this kind that draw random numbers in training, such as `Dropout`.",
                 random_layers=random_layers, model=model.name)  # fmt: skip
    else:
        found = [layer for layer in every if layer.name in random_layers and seeds_of(layer)]
        missing = sorted({*random_layers} - {layer.name for layer in found})
        if missing:
            known = [layer.name for layer in every if seeds_of(layer)]
            fail(f"`random_layers` must name layers that draw random numbers: {known}.", random_layers=missing)
    for layer in found:
        if _has_statistics(layer):
            fail(
                "`random_layers` must not select a layer with batch normalization, which would normalize by the "
                "batch. Select other layers by their names.",
                random_layers=layer.name,
            )
    return found


def _layers(model):
    """Yields the layers of a network and of the networks in it."""
    for layer in model.layers:
        if is_graph(layer):
            yield from _layers(layer)
        else:
            yield layer


def _is_of_kind(layer, kind):
    """Whether a layer draws and is of this kind. Augmentations are of none, and neither is batch normalization."""
    is_augmentation = isinstance(layer, BatchAugmentation) or is_image_layer(layer)
    if is_augmentation or isinstance(layer, keras.layers.BatchNormalization) or not seeds_of(layer):
        return False
    if kind == "noise":
        return isinstance(layer, NOISES)
    return kind == "all" or not isinstance(layer, (*NOISES, FractionalMaxPooling2D))


def _has_statistics(layer):
    return any(weight.name.startswith("moving_") for weight in layer.weights)
