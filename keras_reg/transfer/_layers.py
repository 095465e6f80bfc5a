"""The layers inside of a layer, their paths and their weights."""

import fnmatch
import math

import keras


def children(layer):
    """The layers that a layer holds itself, in their order."""
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
    """All layers inside of `layer` with their paths, as ("block/conv", layer), outer ones first; each one once."""
    seen = {id(layer)} if seen is None else seen
    found = []
    for child in children(layer):
        if id(child) not in seen:
            seen.add(id(child))
            path = f"{prefix}{child.name}"
            found += [(path, child), *walk(child, f"{path}/", seen)]
    return found


def inside(layer):
    """`layer` and all layers inside of it."""
    return [layer, *(child for _, child in walk(layer))]


def own_weights(layer):
    """The weights that a layer holds itself and not through a layer inside of it."""
    others = {id(weight) for child in children(layer) for weight in child.weights}
    return [weight for weight in layer.weights if id(weight) not in others]


def is_normalization(layer):
    """Whether it is a batch normalization, which computes otherwise when it does not train."""
    return isinstance(layer, keras.layers.BatchNormalization)


def count(variables):
    """The number of parameters."""
    return sum(math.prod(variable.shape) for variable in variables)


def parents_first(layer):
    """`inside(layer)` in an order in which each comes after all that hold it, also where layers are shared."""
    order, seen = [], set()

    def visit(layer):
        seen.add(id(layer))
        for child in reversed(children(layer)):
            if id(child) not in seen:
                visit(child)
        order.append(layer)

    visit(layer)
    return order[::-1]


def select(root, which, closed=frozenset()):
    """The layers that are meant by "all", a number of last layers, or globs on names or paths; with all inside them.

    Layers whose ids are in `closed` are meant only where a glob names them or what they are in.
    """
    found = walk(root) or [(root.name, root)]
    if isinstance(which, int):
        leaves = [layer for _, layer in found if not children(layer) and not isinstance(layer, keras.layers.InputLayer)]
        outer = [layer for layer in leaves[-which:] if id(layer) not in closed]
    elif which == "all":
        outer = [root]
    else:
        outer = [layer for path, layer in found if any(_matches(root, path, layer, glob) for glob in which)]
    chosen = {}
    for layer in outer:
        named = id(layer) in closed
        chosen |= {id(part): part for part in inside(layer) if named or id(part) not in closed}
    return list(chosen.values())


def _matches(root, path, layer, glob):
    names = (layer.name, path, f"{root.name}/{path}")
    return any(fnmatch.fnmatchcase(name, glob) for name in names)
