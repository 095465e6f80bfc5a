"""Reading the graph of a Functional model: its residual additions and its head."""

import dataclasses
import itertools

import keras

from keras_reg.surgery._configs import config_of

KERNEL_ENDING = "kernel"


@dataclasses.dataclass
class Vertex:
    """One call of a layer or operation; `parents` are the calls that produce its inputs, in order."""

    operation: object
    parents: list
    shapes: list
    shared: bool


class Graph:
    """The calls of a Functional model by (name, number of the call), from its inputs to its outputs."""

    def __init__(self, model):
        # A plain Functional on the same tensors: subclasses have configs of their own.
        plain = keras.Model(model.input, model.output)
        config = config_of(plain)
        operations = {operation.name: operation for operation in plain.operations}
        self.vertices = {}
        for entry in config["layers"]:
            nodes = entry["inbound_nodes"] or [{}]
            for number, node in enumerate(nodes):
                tensors = list(_tensors(node))
                parents = [tuple(t["keras_history"][:2]) for t in tensors]
                shapes = [t["shape"] for t in tensors]
                vertex = Vertex(operations[entry["name"]], parents, shapes, len(nodes) > 1)
                self.vertices[entry["name"], number] = vertex
        # Where a config names the outputs, and only there, it counts the calls of a nested model from 1.
        self.outputs = [
            (name, number - isinstance(operations[name], keras.Function))
            for name, number in _histories(config["output_layers"])
        ]

    def operations(self):
        """Returns all layers and operations, each once."""
        return list({id(v.operation): v.operation for v in self.vertices.values()}.values())

    def branches(self):
        """Returns, by the `id` of each addition, the position of the input to drop, or why no input is dropped."""
        return {id(v.operation): self._branch(v) for v in self.vertices.values() if is_addition(v)}

    def _branch(self, addition):
        if addition.shared:
            return "its layer is shared"
        if len(addition.parents) != 2 or addition.parents[0] == addition.parents[1]:
            return "it does not add two tensors"
        for position, shortcut in ((1, 0), (0, 1)):
            branch = addition.parents[position]
            if self._is_residual(addition.parents[shortcut], branch):
                return "it has a drop path" if _drops_path(self.vertices[branch].operation) else position
        return "neither input is a branch from the other"

    def _is_residual(self, shortcut, branch):
        """Whether `branch` starts at `shortcut`, or one projection before it, and has more kernels than that."""
        projections, fork = 0, shortcut
        while projections <= 1:
            inside = self._between(fork, branch)
            if inside is not None:
                return sum(self._kernels(key) for key in inside) > projections
            if len(self.vertices[fork].parents) != 1:
                return False
            projections += self._kernels(fork)
            fork = self.vertices[fork].parents[0]
        return False

    def _between(self, fork, end):
        """Returns the calls after `fork` up to `end`, or `None` if another path leads there or they add tensors."""
        found, open_ends, reached = set(), [end], False
        while open_ends:
            key = open_ends.pop()
            if key == fork:
                reached = True
            elif key not in found:
                vertex = self.vertices[key]
                if not vertex.parents or is_addition(vertex):
                    return None
                found.add(key)
                open_ends.extend(vertex.parents)
        return found if reached else None

    def _kernels(self, key):
        return sum(w.name.endswith(KERNEL_ENDING) for w in getattr(self.vertices[key].operation, "weights", ()))

    def heads(self):
        """Returns pairs of a head, which only layers without weights follow, and the operation before it or `None`."""
        found = {}
        for key in self.outputs:
            while key is not None and key not in found:
                vertex = self.vertices[key]
                before = vertex.parents[0] if len(vertex.parents) == 1 else None
                if ends_in_head(vertex.operation, vertex.shapes):
                    found[key] = (vertex.operation, before and self.vertices[before].operation)
                key = before if passes_head(vertex.operation) else None
        return list(found.values())


def is_graph(model):
    """Whether this is a Functional model or a built Sequential one."""
    if isinstance(model, keras.Sequential):
        return model.built
    return isinstance(model, keras.Model) and isinstance(model, keras.Function)


def is_addition(vertex):
    """Whether this adds tensors. The operation may also add a number to a single tensor."""
    return type(vertex.operation).__name__ == "Add" and len(vertex.parents) > 1


def ends_in_head(operation, shapes):
    """Whether this is a dense layer, a convolution on a pooled map (1 x 1), or a model."""
    if isinstance(operation, (keras.layers.Dense, keras.Model)):
        return True
    spatial = [size for shape in shapes for size in shape[1:]]
    pooled = bool(spatial) and spatial.count(1) >= len(spatial) - 1
    return type(operation).__name__.startswith("Conv") and pooled


def passes_head(operation):
    """Whether a head may come before the operation, as before activations and reshapes."""
    return not getattr(operation, "weights", ()) and "Pool" not in type(operation).__name__


def _drops_path(operation):
    name = type(operation).__name__
    return name in ("DropPath", "StochasticDepth") or (name == "Dropout" and operation.noise_shape is not None)


def _tensors(value):
    """Yields the configs of all tensors in the arguments of a call, in order."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]
            return
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _histories(value):
    """Yields the (name, call) of each output, given one triple or a nest of them."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str):
            yield tuple(value[:2])
        else:
            for item in value:
                yield from _histories(item)


def map_tensor(function, position, value):
    """Applies `function` to one tensor in the arguments of a call; positions count as in `_tensors`."""
    numbers = itertools.count()

    def walk(item):
        if isinstance(item, keras.KerasTensor):
            return function(item) if next(numbers) == position else item
        if isinstance(item, dict):
            return {name: walk(inner) for name, inner in item.items()}
        return type(item)(map(walk, item)) if isinstance(item, (list, tuple)) else item

    return walk(value)
