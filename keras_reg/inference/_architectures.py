"""Whether models have one architecture, so that their weights have a mean."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_reg import _backend
from keras_reg._inner_layers import children, inside
from keras_reg._validation import fail
from keras_reg.training._copies import network_of

# Layers that do nothing in inference. With a rate of 0, they do not draw random numbers either.
IDLE = (
    keras.layers.InputLayer,
    keras.layers.Dropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)


def networks_of(models):
    """Returns the networks of models that have the same architecture."""
    is_list = isinstance(models, (list, tuple)) and len(models) > 0
    if not is_list or not all(isinstance(model, keras.Model) for model in models):
        fail("`models` must be a list of at least one `keras.Model`.", models=models)
    networks = [network_of(model) for model in models]
    for network in networks:
        if not network.built:
            fail("`models` must be built. Fit them or call them on data first.", model=network.name)
    for network in networks[1:]:
        for one, other in itertools.zip_longest(_parts(networks[0]), _parts(network)):
            if one != other:
                fail(f"All `models` must have the same architecture. Here the first one has {one}.", models=other)
        for one, same in zip(_integers(networks[0]), _integers(network), strict=True):
            if not np.array_equal(*map(ops.convert_to_numpy, (one, same))):
                fail("All `models` must have equal integer weights, which have no mean.", models=same.path)
    return networks


def _parts(network):
    """Returns what must be equal: the kinds of the layers that do something in inference, and the shapes of weights."""
    layers = [layer for layer in inside(network) if not children(layer) and not _is_idle(layer)]
    kinds = [(type(layer).__name__, *filter(None, [_activation_of(layer)])) for layer in layers]
    weights = [*averaged_weights(network), *_integers(network)]
    return kinds + [(weight.name, tuple(weight.shape)) for weight in weights]


def _is_idle(layer):
    """Whether a layer does nothing in inference, as far as its class and its random numbers tell."""
    weights = {id(weight) for weight in layer.weights}
    draws = any(_backend.is_seed(variable) and id(variable) not in weights for variable in layer.variables)
    return isinstance(layer, IDLE) or (draws and not (averaged_weights(layer) or _integers(layer)))


def _activation_of(layer):
    return getattr(getattr(layer, "activation", None), "__name__", None)


def averaged_weights(layer):
    """Returns the weights that have a mean: no integers, and no strengths, which a schedule sets."""
    return [weight for weight in layer.weights if not (_backend.is_seed(weight) or hasattr(weight, "strength"))]


def _integers(layer):
    """Returns the weights that have no mean, such as those of a quantized layer."""
    return [weight for weight in layer.weights if _backend.is_seed(weight)]
