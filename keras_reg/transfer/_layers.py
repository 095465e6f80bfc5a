"""The weights of a layer and of the layers inside it, and the choice of some of these layers."""

import fnmatch
import math

import keras

from keras_reg._inner_layers import children, inside, walk


def own_weights(layer):
    """Returns the weights that a layer holds directly, not through a layer inside it."""
    others = {id(weight) for child in children(layer) for weight in child.weights}
    return [weight for weight in layer.weights if id(weight) not in others]


def is_normalization(layer):
    """Whether a layer is a batch normalization, which computes something else when it is frozen."""
    return isinstance(layer, keras.layers.BatchNormalization)


def count(variables):
    """Returns the number of parameters."""
    return sum(math.prod(variable.shape) for variable in variables)


def parents_first(layer):
    """Returns `inside(layer)` ordered so that each layer comes after all that hold it, even if it is shared."""
    order, seen = [], set()

    def visit(layer):
        seen.add(id(layer))
        for child in reversed(children(layer)):
            if id(child) not in seen:
                visit(child)
        order.append(layer)

    visit(layer)
    return order[::-1]


def select(root, which, kept_frozen=frozenset()):
    """Returns the layers for "all", a number of last layers, or globs for names or paths, with all layers inside them.

    Layers whose ids are in `kept_frozen` are included only if a glob matches them or a layer that holds them.
    """
    found = walk(root) or [(root.name, root)]
    if isinstance(which, int):
        units = [layer for layer in _units(root) if not isinstance(layer, keras.layers.InputLayer)]
        outer = [layer for layer in units[-which:] if id(layer) not in kept_frozen]
    elif which == "all":
        outer = [root]
    else:
        outer = [layer for path, layer in found if any(_matches(root, path, layer, glob) for glob in which)]
    chosen = {}
    for layer in outer:
        named = id(layer) in kept_frozen
        chosen |= {id(part): part for part in inside(layer) if named or id(part) not in kept_frozen}
    return list(chosen.values())


def _units(layer):
    """Returns the layers of a model, where those of nested models count one by one, or a layer by itself."""
    if not isinstance(layer, keras.Model):
        return [layer]
    found = [unit for child in children(layer) for unit in _units(child)]
    return list({id(unit): unit for unit in found}.values()) or [layer]


def _matches(root, path, layer, glob):
    names = (layer.name, path, f"{root.name}/{path}")
    return any(fnmatch.fnmatchcase(name, glob) for name in names)
