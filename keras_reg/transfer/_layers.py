"""The layers inside of a layer, their paths, and which of their weights train."""

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


class TrainableMap:
    """Which layers and weights of a model train, to be put back later."""

    def __init__(self, model):
        self.layers = [(layer, layer.trainable) for layer in parents_first(model)]
        self.weights = [(weight, weight.trainable) for weight in model.weights]

    def restore(self):
        for layer, trainable in self.layers:
            layer.trainable = trainable
        for weight, trainable in self.weights:
            if weight.trainable != trainable:
                weight.trainable = trainable


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


def set_trainable(root, chosen):
    """Makes the weights of the layers in `chosen`, a set of ids, train, and no others inside of `root`.

    Keras hands a layer's `trainable` down to all in it: so the outer ones are set first. What holds a chosen layer
    must be trainable itself, or Keras would not look into it.
    """
    holders = {id(layer) for layer in inside(root) if any(id(child) in chosen for child in inside(layer))}
    for layer in parents_first(root):
        layer.trainable = id(layer) in holders
        if id(layer) in holders - chosen:
            for weight in own_weights(layer):
                if weight.trainable:
                    weight.trainable = False


def select(root, which):
    """The layers that are meant by "all", a number of last layers, or globs on names or paths; with all inside them."""
    found = walk(root) or [(root.name, root)]
    if isinstance(which, int):
        leaves = [layer for _, layer in found if not children(layer) and not isinstance(layer, keras.layers.InputLayer)]
        chosen = leaves[-which:]
    elif which == "all":
        return inside(root)
    else:
        patterns = [which] if isinstance(which, str) else which
        chosen = [layer for path, layer in found if any(_matches(root, path, layer, glob) for glob in patterns)]
    return list({id(layer): layer for outer in chosen for layer in inside(outer)}.values())


def _matches(root, path, layer, glob):
    names = (layer.name, path, f"{root.name}/{path}")
    return any(fnmatch.fnmatchcase(name, glob) for name in names)
