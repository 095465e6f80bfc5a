"""Builds a network that shares the layers of a model, and has further layers after some of them."""

import inspect

import keras

from keras_reg._validation import fail
from keras_reg.training._networks import as_functional, is_graph, names_in, recalled


def rewired(model, points):
    """Returns a network with the layers of `model`, in which a point follows each layer or input that it is named for.

    Args:
        model: A Functional or Sequential model that is built.
        points: A dict from names to layers.

    Raises:
        ValueError: If a float input does not lead to a point, an output does not depend on a point, or a point follows
            itself.
    """
    found = _Rewiring(model, points)
    floats = {name for tensor, name in found.inputs if keras.backend.is_float_dtype(tensor.dtype)}
    for name in points:
        around = floats - found.inputs_of[name]
        if around:
            fail(
                "Samples must be mixed as a whole: all float inputs must lead to the layer that `mix_at` names.",
                mix_at=name, inputs=sorted(around),
            )  # fmt: skip
        depend = [name in sources.points for sources in found.outputs]
        if not all(depend):
            fail(
                "All outputs must depend on the layer that `mix_at` names, since all labels are mixed.",
                mix_at=name, depend=depend,
            )  # fmt: skip
    return found.network


class _Sources:
    """The inputs and the points on which a tensor depends."""

    def __init__(self, inputs=(), points=()):
        self.inputs, self.points = frozenset(inputs), frozenset(points)

    @classmethod
    def of_all(cls, sources):
        sources = list(sources)
        inputs = frozenset().union(*(one.inputs for one in sources))
        return cls(inputs, frozenset().union(*(one.points for one in sources)))


class _Rewiring:
    """Calls the layers of a network again, with the points between them.

    Attributes:
        network: The new network.
        inputs: Each input with its name.
        outputs: The `_Sources` of each output.
        inputs_of: The names of the inputs on which each point depends.
    """

    def __init__(self, model, points):
        self.points, self.inner = points, {}
        self.inputs_of = {}
        self.known = {}  # the tensors too, so that their ids stay unique
        plain = as_functional(model)
        names = {id(x.output): x.name for x in plain.layers if isinstance(x, keras.layers.InputLayer)}
        self.inputs = [(tensor, names[id(tensor)]) for tensor in plain.inputs]
        self.mixed_inputs = {id(tensor): self._pass_input(tensor, name) for tensor, name in self.inputs}
        self.network = recalled(plain, self._call)
        self.outputs = [self._sources(tensor) for tensor in self.network.outputs]

    def _pass_input(self, tensor, name):
        self._note(tensor, _Sources([name]))
        return self._through_point(name, tensor)

    def _call(self, operation, *args, **kwargs):
        """Calls one layer or operation of the network on the new tensors."""
        args, kwargs = keras.tree.map_structure(lambda x: self.mixed_inputs.get(id(x), x), (args, kwargs))
        tensors = _tensors((args, kwargs))
        kwargs = self._unite_masks(operation, args, kwargs)
        inner = self._inner(operation)
        outputs = (operation if inner is None else inner.network)(*args, **kwargs)
        for position, tensor in enumerate(keras.tree.flatten(outputs)):
            sources = _Sources.of_all(map(self._sources, tensors))
            self._note(tensor, sources if inner is None else self._outer(inner, position, args[0]))
        return self._through_point(operation.name, outputs)

    def _through_point(self, name, outputs):
        if name not in self.points:
            return outputs
        tensors = keras.tree.flatten(outputs)
        sources = _Sources.of_all(map(self._sources, tensors))
        self._add_point(name, sources)
        outputs = self.points[name](outputs)
        for tensor in keras.tree.flatten(outputs):
            self._note(tensor, _Sources(sources.inputs, sources.points | {name}))
        return outputs

    def _add_point(self, name, sources):
        if name in sources.points:
            fail("`mix_at` must not name a layer that is called on its own output.", mix_at=name)
        self.inputs_of[name] = self.inputs_of.get(name, frozenset()) | sources.inputs

    # Masks that the network passes as arguments. Keras adds these arguments where a tensor has a mask.

    def _unite_masks(self, operation, args, kwargs):
        """Returns the arguments of a call in which the masks are those of mixed tensors."""
        others = {name: value for name, value in kwargs.items() if not _is_mask(name)}
        named = _by_name(operation, args, others)
        found = dict(kwargs)
        for name in [name for name in kwargs if name not in others]:
            masks = _tensors(kwargs[name])
            masked = _tensors(args[:1] if name == "mask" else named.get(name.removesuffix("_mask")))
            if len(masked) != len(masks):
                masked = [_tensors((args, others))] * len(masks)
            united = {id(mask): self._united(mask, _tensors(one)) for mask, one in zip(masks, masked, strict=True)}
            found[name] = keras.tree.map_structure(lambda x, united=united: united.get(id(x), x), kwargs[name])
        return found

    def _united(self, mask, masked):
        """Returns the mask of `masked` tensors after all points that these have passed, but not the mask."""
        sources, of_mask = _Sources.of_all(map(self._sources, masked)), self._sources(mask)
        if keras.backend.is_float_dtype(mask.dtype):
            return mask
        for name in sorted(sources.points - of_mask.points):
            mask = self.points[name].of_masks(mask)
        self._note(mask, _Sources(of_mask.inputs, of_mask.points | sources.points))
        return mask

    # Networks within the network.

    def _inner(self, operation):
        """Returns the `_Rewiring` of a network with points inside, or `None`."""
        if id(operation) not in self.inner:
            known = names_in(operation, with_inputs=False) if is_graph(operation) else ()
            points = {name: point for name, point in self.points.items() if name in known}
            self.inner[id(operation)] = _Rewiring(operation, points) if points else None
        return self.inner[id(operation)]

    def _outer(self, inner, position, given):
        """Returns the sources of one output of an inner network that was called on the tensors `given`."""
        given = dict(zip((name for _, name in inner.inputs), keras.tree.flatten(given), strict=True))

        def outside(names):
            return _Sources.of_all(self._sources(given[name]) for name in names)

        for name, inputs in inner.inputs_of.items():
            self._add_point(name, outside(inputs))
        sources = inner.outputs[position]
        found = outside(sources.inputs)
        return _Sources(found.inputs, found.points | sources.points)

    def _note(self, tensor, sources):
        self.known[id(tensor)] = tensor, sources

    def _sources(self, tensor):
        return self.known[id(tensor)][1]


def _tensors(structure):
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def _is_mask(name):
    return name == "mask" or name.endswith("_mask")


def _by_name(operation, args, kwargs):
    """Returns the arguments of a call by name, as far as its signature tells them."""
    try:
        return dict(inspect.signature(operation.call).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return dict(kwargs)
