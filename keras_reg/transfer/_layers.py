"""The layers inside a layer, their paths and their weights."""

import fnmatch
import math

import keras


def children(layer):
    """Returns the layers that a layer holds directly, in order."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    found = {}
    _collect([value for value in vars(layer).values() if value is not layer], found)
    return [child for child in found.values() if child is not layer]


def _collect(value, found):
    if isinstance(value, keras.layers.Layer):
        found.setdefault(id(value), value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect(item, found)
    elif isinstance(value, dict):
        _collect(list(value.values()), found)


def walk(layer, prefix="", seen=None):
    """Returns [(path, layer)] of all layers inside `layer`, such as "block/conv", outer ones first and each once."""
    seen = {id(layer)} if seen is None else seen
    found = []
    for child in children(layer):
        if id(child) not in seen:
            seen.add(id(child))
            path = f"{prefix}{child.name}"
            found += [(path, child), *walk(child, f"{path}/", seen)]
    return found


def inside(layer):
    """Returns `layer` and all layers inside it."""
    return [layer, *(child for _, child in walk(layer))]


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
        leaves = [layer for _, layer in found if not children(layer) and not isinstance(layer, keras.layers.InputLayer)]
        outer = [layer for layer in leaves[-which:] if id(layer) not in kept_frozen]
    elif which == "all":
        outer = [root]
    else:
        outer = [layer for path, layer in found if any(_matches(root, path, layer, glob) for glob in which)]
    chosen = {}
    for layer in outer:
        named = id(layer) in kept_frozen
        chosen |= {id(part): part for part in inside(layer) if named or id(part) not in kept_frozen}
    return list(chosen.values())


def _matches(root, path, layer, glob):
    names = (layer.name, path, f"{root.name}/{path}")
    return any(fnmatch.fnmatchcase(name, glob) for name in names)
