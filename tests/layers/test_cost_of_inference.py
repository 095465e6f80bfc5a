"""In inference no layer draws a number, and those that regularize another layer's work compute no more than it does."""

import re
from collections import Counter

import keras
import pytest
from cases import cases, data, name
from harness import BACKEND, only
from keras import layers, ops

from keras_reg import Strength
from keras_reg.layers import FractionalMaxPooling2D

RANDOM = re.compile("rand|rng|threefry|bernoulli|multinomial|poisson|normal_|uniform|shuffle", re.IGNORECASE)


def operations(layer, x, training):
    """How often each operation of the backend is part of a call."""
    found = {"tensorflow": tf_operations, "jax": jax_operations, "torch": torch_operations}[BACKEND]
    return found(lambda x: layer(x, training=training), layer, ops.convert_to_tensor(x))


def tf_operations(call, layer, x):
    import tensorflow as tf

    definition = tf.function(call).get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return Counter(node.op for node in nodes)


def jax_operations(call, layer, x):
    import jax

    variables = layer.variables

    def pure(values, x):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return call(x)

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for value in equation.params.values():
                if hasattr(value, "jaxpr"):
                    yield from walk(value.jaxpr)

    return Counter(walk(jax.make_jaxpr(pure)([v.value for v in variables], x).jaxpr))


def torch_operations(call, layer, x):
    from torch.utils._python_dispatch import TorchDispatchMode

    found = Counter()

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found[str(function)] += 1
            return function(*args, **(kwargs or {}))

    with Count():
        call(x)
    return found


def random_operations(found):
    return [operation for operation in found if RANDOM.search(operation)]


def built(layer, x):
    if not layer.built:
        layer.build(x.shape)
    return layer


def inputs_of(case):
    return case.inputs(8) if case.kind == "layer" else data("images", 8)


TAKE_ONE_TENSOR = cases("layer") + [case for case in cases("batch_augmentation") if "images" in case.forms]


@pytest.mark.parametrize("case", TAKE_ONE_TENSOR, ids=name)
def test_inference_draws_nothing(case):
    """And training does, by the same measure."""
    x = inputs_of(case)
    layer = built(case.make(), x)
    assert not random_operations(operations(layer, x, training=False))
    if case.random:
        assert random_operations(operations(built(case.make(), x), x, training=True))


def bare(case):
    """The layer whose inference this one has."""
    if issubclass(case.cls, layers.BatchNormalization):
        return layers.BatchNormalization(**{k: v for k, v in case.given().items() if k in ("momentum", "epsilon")})
    return case.given()["layer"] if "layer" in case.given() else layers.Identity()


SAME = [case for case in cases("layer") if case.cls is not FractionalMaxPooling2D]


@pytest.mark.parametrize("case", SAME, ids=name)
def test_inference_computes_what_the_plain_layer_does(case):
    """Operation by operation, with a number and with a `Strength`."""
    x = inputs_of(case)
    expected = operations(built(bare(case), x), x, training=False)
    assert operations(built(case.make(), x), x, training=False) == expected
    movable = [argument for argument in ("rate", "stddev") if argument in case.given()]
    for argument in movable:
        layer = case.make(**{argument: Strength(0.3)})
        assert operations(built(layer, x), x, training=False) == expected


@only("tensorflow", why="Others export through TensorFlow.")
def test_an_exported_model_draws_nothing(tmp_path):
    """All layers that take images, in one model."""
    import tensorflow as tf

    rows = [row for row in cases("layer") if inputs_of(row).ndim == 4]
    inputs = keras.Input(inputs_of(rows[0]).shape[1:])
    model = keras.Model(inputs, [row.make()(inputs) for row in rows])
    model.export(tmp_path / "model", verbose=False)
    graph = tf.saved_model.load(tmp_path / "model").signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert len(nodes) > 20 and not random_operations(Counter(node.op for node in nodes))
