"""Planning the changes of a model, and making the changed copy."""

import itertools
import re

import keras

from keras_reg._inner_layers import inside
from keras_reg._strength import Strength
from keras_reg._validation import fail
from keras_reg.layers import DropPath, drop_path_rates
from keras_reg.surgery._configs import config_of, made_from
from keras_reg.surgery._graph import Graph, ends_in_head, is_graph, map_tensor, passes_head
from keras_reg.surgery._rewrite import copy_weights

POOLING = re.compile(r"(?:Fractional)?(?:Max|Average)Pooling([123])D")


class Surgeon:
    """Reads a model and fills `report` in `plan`, and makes the copy in `operate`. Layers are identified by `id`."""

    def __init__(self, rewriter, dropout, drop_path, spatial_dropout, seed):
        self.rewriter = rewriter
        self.dropout, self.drop_path, self.spatial_dropout = dropout, drop_path, spatial_dropout
        self.seeds = itertools.repeat(None) if seed is None else itertools.count(seed)
        self.report = []
        self.names, self.visited, self.layers = set(), set(), []
        self.branches = {}  # addition: (position of the branch, its rate)
        self.heads = set()  # layers that get a dropout before them
        self.changes = {}  # layer: what to change in its config
        self.copies = {}
        self.originals = {}
        self.inserted = {}
        self.pairs = []

    # Planning.

    def plan(self, model):
        additions = []
        self._visit(model, True, additions)
        self._check_shared()
        if self.dropout is not None and not self.heads and not self.changes:
            self.report.append("dropout: no head found")
        if self.drop_path is not None:
            self._plan_drop_path(additions)

    def changes_nothing(self):
        """Whether no line of the report is a change."""
        changes = (" penalized", "-> NoisyBatchNormalization", "spatial dropout", ": dropout ", "on its branch")
        others = ("not penalized", ": no ")
        changing = [line for line in self.report if not any(other in line for other in others)]
        return not any(change in line for line in changing for change in changes)

    def _visit(self, model, is_head, additions):
        """Visits all layers of a model; `is_head` says whether its outputs are those of the whole model."""
        if isinstance(model, keras.Sequential):
            operations, heads, branches = model.layers, self._heads_of_sequential(model) if is_head else [], {}
        else:
            graph = Graph(model)
            operations, heads = graph.operations(), graph.heads() if is_head else []
            branches = graph.branches() if self.drop_path is not None else {}
        for operation in operations:
            if id(operation) in self.visited:
                continue
            self.visited.add(id(operation))
            self.names.add(operation.name)
            if id(operation) in branches:
                additions.append((operation, branches[id(operation)]))
            if is_graph(operation):
                self._visit(operation, any(operation is head for head, _ in heads), additions)
            elif isinstance(operation, keras.layers.Layer):
                self.layers.append(operation)
                self._plan_layer(operation)
        if self.dropout is not None:
            for head, before in heads:
                if not is_graph(head):
                    self._plan_head(head, before)

    def _check_shared(self):
        """Refuses a layer that two others hold, or that is held and also called: its copies would be two layers."""
        holders = {id(layer): layer for layer in self.layers}
        for layer in self.layers:
            for part in inside(layer)[1:]:
                holder = holders.setdefault(id(part), layer)
                if holder is not layer and part.weights:
                    where = " and on its own" if holder is part else f" and in `{holder.name}`"
                    fail(
                        f"`model` must not use `{part.name}` in `{layer.name}`{where}: the copy would have two such "
                        "layers with weights of their own.",
                        layer=part.name,
                    )

    def _heads_of_sequential(self, model):
        layers = model.layers
        for number in reversed(range(len(layers))):
            shapes = [layers[number].input.shape] if hasattr(layers[number], "input") else []
            if ends_in_head(layers[number], shapes):
                return [(layers[number], layers[number - 1] if number else None)]
            if not passes_head(layers[number]):
                break
        return []

    def _plan_layer(self, layer):
        changes = self.rewriter.changes(layer)
        self.report += [f"{layer.name}: {words}" for words in (*changes, *self.rewriter.unreached(layer, changes))]
        if self._spatial_dropout(layer) is not None:
            self.report.append(f"{layer.name}: spatial dropout {self.spatial_dropout} after it")
        elif self.spatial_dropout is not None and POOLING.fullmatch(type(layer).__name__):
            self.report.append(f"{layer.name}: no spatial dropout, since `SpatialDropout1D` needs channels last")

    def _plan_head(self, head, before):
        if id(head) in self.heads:
            return  # shared by several outputs
        if type(before) is keras.layers.Dropout and before.noise_shape is None:
            self.changes[id(before)] = {"rate": self.dropout}
            self.report.append(f"{before.name}: dropout {before.rate} -> {self.dropout}")
        else:
            self.heads.add(id(head))
            self.report.append(f"{head.name}: dropout {self.dropout} before it")

    def _plan_drop_path(self, additions):
        found = [(addition, branch) for addition, branch in additions if isinstance(branch, int)]
        rates = iter(drop_path_rates(self.drop_path, len(found)) if found else [])
        for addition, branch in additions:
            if isinstance(branch, int):
                rate = next(rates)
                self.branches[id(addition)] = (branch, rate)
                self.report.append(f"{addition.name}: drop path {_in_words(rate)} on its branch")
            else:
                self.report.append(f"{addition.name}: no drop path, {branch}")
        if not additions:
            self.report.append("drop path: no additions found")

    def _spatial_dropout(self, layer):
        """Returns (number of dimensions, arguments) of the spatial dropout after a layer, or `None`."""
        found = POOLING.fullmatch(type(layer).__name__)
        if self.spatial_dropout is None or not found:
            return None
        if found[1] != "1":
            return found[1], {"data_format": layer.data_format}
        return (found[1], {}) if layer.data_format == "channels_last" else None

    # Operating.

    def operate(self, model):
        copy = self._copy(model)
        for new in reversed(self.copies.values()):  # outer models first, since each sets the layers inside it
            _copy_flag(self.originals[id(new)], new)
        for old, new in self.pairs:
            for pair in zip(inside(old), inside(new), strict=False):
                _copy_flag(*pair)
            copy_weights(old, new)
        return copy

    def _copy(self, operation):
        """Returns the copy of a layer, model or operation, always the same one for the same original."""
        if id(operation) not in self.copies:
            copy = self._copy_anew(operation)
            self.copies[id(operation)] = copy
            self.originals[id(copy)] = operation
        return self.copies[id(operation)]

    def _copy_anew(self, operation):
        if is_graph(operation):
            return self._copy_model(operation)
        if not isinstance(operation, keras.layers.Layer):
            return made_from(operation, type(operation), config_of(operation), {})
        copy = self.rewriter.copy(operation, self.seeds, self.changes.get(id(operation), {}))
        self.pairs.append((operation, copy))
        return copy

    def _copy_model(self, model):
        if isinstance(model, keras.Sequential):
            layers = [keras.saving.deserialize_keras_object(config_of(model)["layers"][0])]  # the input
            for layer in model.layers:
                layers += [x for x in (self._before(layer), self._copy(layer), self._after(layer)) if x is not None]
            copy = keras.Sequential(layers, name=model.name)
        else:
            plain = keras.Model(model.input, model.output, name=model.name)  # not compiled, and not a subclass
            copy = keras.models.clone_model(
                plain, _inputs_like(plain), clone_function=self._copy, call_function=self._call
            )
        return copy

    def _call(self, copy, *args, **kwargs):
        """Calls a copied operation in the copied graph, together with the layers inserted before and after it."""
        original = self.originals[id(copy)]
        before, after = self._before(original), self._after(original)
        if before is not None:
            args = map_tensor(before, 0, args)
        if id(original) in self.branches:
            position, rate = self.branches[id(original)]
            path = self._insert(original, "drop_path", DropPath, rate=rate)
            args, kwargs = map_tensor(path, position, (args, kwargs))
        outputs = copy(*args, **kwargs)
        return outputs if after is None else after(outputs)

    def _before(self, layer):
        if id(layer) not in self.heads:
            return None
        return self._insert(layer, "dropout", keras.layers.Dropout, rate=self.dropout)

    def _after(self, layer):
        found = self._spatial_dropout(layer)
        if found is None:
            return None
        cls = getattr(keras.layers, f"SpatialDropout{found[0]}D")
        return self._insert(layer, "spatial_dropout", cls, rate=self.spatial_dropout, **found[1])

    def _insert(self, owner, kind, cls, **arguments):
        """Returns a new layer for its owner, the same one for every call of the owner."""
        if (id(owner), kind) not in self.inserted:
            name = f"{owner.name}_{kind}"
            while name in self.names:
                name += "_1"
            self.names.add(name)
            self.inserted[id(owner), kind] = cls(**arguments, seed=next(self.seeds), name=name, dtype=_dtype(owner))
        return self.inserted[id(owner), kind]


def _dtype(operation):
    """Returns the dtype in which an operation computes, whatever Keras' own policy is now."""
    if isinstance(operation, keras.layers.Layer):
        return operation.compute_dtype
    return keras.tree.flatten(operation.output)[0].dtype


def _copy_flag(old, new):
    """Gives a layer the `trainable` of its original. Operations without weights have none."""
    trainable = getattr(old, "trainable", None)
    if trainable is not None and new.trainable != trainable:
        new.trainable = trainable


def _inputs_like(model):
    """Returns new inputs with the names of the old ones; `clone_model` would name them after their tensors."""
    layers = {id(layer.output): layer for layer in model.operations if isinstance(layer, keras.layers.InputLayer)}

    def new(tensor):
        return keras.layers.InputLayer.from_config(layers[id(tensor)].get_config()).output

    return keras.tree.map_structure(new, model.input)


def _in_words(rate):
    return repr(rate) if isinstance(rate, Strength) else f"{rate:.4g}"
