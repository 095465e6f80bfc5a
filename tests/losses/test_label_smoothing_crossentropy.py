"""Values and gradients of the loss: against the closed form in float64, Keras' losses and PyTorch's."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, gradients, jit, only, raises_received, to_numpy
from keras import ops

from keras_reg.layers import MixUp
from keras_reg.losses import LabelSmoothingCrossentropy, label_smoothing_crossentropy

CLASSES = 7
SHAPES = [(CLASSES,), (5, CLASSES), (3, 4, CLASSES), (2, 3, 4, CLASSES)]
TARGETS = ("ids", "ids with a last axis of 1", "uint8 ids", "float ids", "one-hot", "integer one-hot", "soft")
WEIGHT = [0.5, 2.0, 1.0, 0.0, 3.0, 1.0, 0.25]
PRIOR = [0.3, 0.1, 0.0, 0.2, 0.1, 0.1, 0.2]
OPTIONS = [{}, {"class_weight": WEIGHT}, {"prior": PRIOR}, {"class_weight": WEIGHT, "prior": PRIOR}]
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def batch(shape, seed=0, scale=3.0):
    """Logits of this shape, ids for them, and distributions of which none is one-hot."""
    rng = np.random.default_rng(seed)
    logits = (scale * rng.standard_normal(shape)).astype("float32")
    return logits, rng.integers(0, shape[-1], shape[:-1]), softmax(rng.standard_normal(shape)).astype("float32")


def softmax(x):
    exps = np.exp(x - x.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)


def one_hot(ids, classes=CLASSES):
    return np.eye(classes, dtype="float32")[ids]


def targets_of(kind, ids, soft):
    """What goes into the loss, and the distributions that it stands for."""
    as_given = {
        "ids": ids,
        "ids with a last axis of 1": ids[..., None],
        "uint8 ids": ids.astype("uint8"),
        "float ids": ids.astype("float32"),
        "one-hot": one_hot(ids),
        "integer one-hot": one_hot(ids).astype("int32"),
        "soft": soft,
    }[kind]
    return as_given, soft if kind == "soft" else one_hot(ids)


def smoothed(y, label_smoothing, class_weight=None, prior=None):
    """The weighted smoothed target, by the definition."""
    uniform = 1 / y.shape[-1]
    y = (1 - label_smoothing) * y.astype("float64")
    y = y + label_smoothing * (uniform if prior is None else np.array(prior))
    return y if class_weight is None else y * np.array(class_weight)


def closed_form(y, logits, label_smoothing=0.1, **options):
    """Loss and gradient in float64, the latter for the sum of the losses."""
    z, y = logits.astype("float64"), smoothed(y, label_smoothing, **options)
    top = z.max(-1, keepdims=True)
    logs = z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))
    return -(y * logs).sum(-1), y.sum(-1, keepdims=True) * np.exp(logs) - y


def value_and_gradient(loss, inputs):
    """Of the sum of the losses, with respect to the inputs."""
    variable, found = keras.Variable(inputs), []

    def total():
        losses = loss(ops.multiply(variable, 1.0))
        found.append(losses)
        return ops.sum(losses)

    gradient = gradients(total, [variable])[0]
    values = loss(ops.convert_to_tensor(inputs)) if BACKEND == "jax" else found[0]  # a tracer there
    return to_numpy(ops.stop_gradient(values)), gradient


def combinations():
    """Every rank with ids and soft targets; every kind of target and every option at one rank."""
    for shape in SHAPES:
        for kind in ("ids", "ids with a last axis of 1", "soft"):
            yield pytest.param(shape, kind, OPTIONS[-1], id=f"rank {len(shape)}, {kind}")
    for kind in TARGETS:
        for options in OPTIONS:
            yield pytest.param((5, CLASSES), kind, options, id=f"{kind}, {' and '.join(options) or 'plain'}")


@pytest.mark.parametrize(("shape", "kind", "options"), list(combinations()))
def test_logits_against_the_closed_form(shape, kind, options):
    logits, ids, soft = batch(shape)
    given, y = targets_of(kind, ids, soft)
    found = value_and_gradient(
        lambda z: label_smoothing_crossentropy(given, z, 0.1, from_logits=True, **options), logits
    )
    assert found[0].shape == shape[:-1] and found[0].dtype == "float32"
    assert_close(found, closed_form(y, logits, **options), **TOLERANCE)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " and ".join(o) or "plain")
@pytest.mark.parametrize("kind", TARGETS)
def test_probabilities_against_the_closed_form(kind, options):
    logits, ids, soft = batch((3, 4, CLASSES), scale=1.0)
    given, y = targets_of(kind, ids, soft)
    scaled = (1.7 * softmax(logits)).astype("float32")  # need not sum to 1
    found = value_and_gradient(lambda p: label_smoothing_crossentropy(given, p, 0.1, **options), scaled)
    total = scaled.astype("float64").sum(-1, keepdims=True)
    y = smoothed(y, 0.1, **options)
    expected = -(y * np.log(scaled / total)).sum(-1), y.sum(-1, keepdims=True) / total - y / scaled
    assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_keras_categorical_crossentropy(smoothing, from_logits):
    logits, ids, soft = batch((5, CLASSES))
    outputs = logits if from_logits else softmax(logits).astype("float32")
    for kind in TARGETS:
        given, y = targets_of(kind, ids, soft)

        def theirs(x, y=y):
            return keras.losses.categorical_crossentropy(
                ops.convert_to_tensor(y), x, from_logits=from_logits, label_smoothing=smoothing
            )

        def ours(x, given=given):
            return label_smoothing_crossentropy(given, x, smoothing, from_logits=from_logits)

        assert_close(value_and_gradient(ours, outputs), value_and_gradient(theirs, outputs), **TOLERANCE)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("ignore_class", [None, 2, -1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pytorch_cross_entropy(smoothing, ignore_class, weight):
    """Unreduced: PyTorch's weighted mean divides by the sum of the weights."""
    torch = pytest.importorskip("torch")
    logits, ids, _ = batch((2, 3, 4, CLASSES))
    if ignore_class is not None:
        ids[0, :2] = ignore_class
    z = torch.tensor(np.moveaxis(logits, -1, 1).copy(), requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(
        z,
        torch.tensor(ids),
        weight=None if weight is None else torch.tensor(weight),
        ignore_index=-100 if ignore_class is None else ignore_class,
        label_smoothing=smoothing,
        reduction="none",
    )
    gradient = torch.autograd.grad(theirs.sum(), z)[0].numpy()

    def ours(x):
        return label_smoothing_crossentropy(
            ids, x, smoothing, from_logits=True, ignore_class=ignore_class, class_weight=weight, axis=1
        )

    found = value_and_gradient(ours, z.detach().numpy())
    assert_close(found, (theirs.detach().numpy(), gradient), **TOLERANCE)


def test_pytorch_cross_entropy_of_soft_targets():
    torch = pytest.importorskip("torch")
    logits, _, soft = batch((5, CLASSES))
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits),
        torch.tensor(soft),
        weight=torch.tensor(WEIGHT),
        label_smoothing=0.1,
        reduction="none",
    )
    found = label_smoothing_crossentropy(soft, logits, 0.1, from_logits=True, class_weight=WEIGHT)
    assert_close(found, expected.numpy(), **TOLERANCE)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("kind", ["ids", "ids with a last axis of 1", "soft"])
def test_axis_says_where_the_classes_are(kind, axis, from_logits):
    logits, ids, soft = batch((3, 4, CLASSES))
    outputs = logits if from_logits else softmax(logits)
    given, y = targets_of(kind, ids, soft)
    moved = given if kind == "ids" else np.moveaxis(given, -1, axis)
    found = label_smoothing_crossentropy(moved, np.moveaxis(outputs, -1, axis), from_logits=from_logits, axis=axis)
    assert_close(found, closed_form(y, logits)[0], **TOLERANCE)


@pytest.mark.parametrize("ignore_class", [None, 4])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " and ".join(o) or "plain")
def test_a_soft_target_costs_the_mean_of_its_classes(options, ignore_class):
    """So does one that MixUp made of one-hot labels: smoothing and mixing commute."""
    loss = LabelSmoothingCrossentropy(0.2, True, ignore_class=ignore_class, reduction=None, **options)
    logits, ids, _ = batch((5, CLASSES))
    _, mixed = MixUp(alpha=1.0, seed=3)((np.zeros((5, 2, 2, 1), "float32"), one_hot(ids)))
    mixed = to_numpy(mixed)
    assert ((mixed > 0) & (mixed < 1)).any(), "nothing is mixed"
    of_class = np.stack([to_numpy(loss(np.full(5, k), logits)) for k in range(CLASSES)], axis=-1)
    assert_close(loss(mixed, logits), (mixed * of_class).sum(-1), **TOLERANCE)


def test_smoothing_the_targets_first_is_the_same():
    logits, _, soft = batch((5, CLASSES))
    plain = label_smoothing_crossentropy(smoothed(soft, 0.3), logits, 0.0, from_logits=True)
    assert_close(label_smoothing_crossentropy(soft, logits, 0.3, from_logits=True), plain, **TOLERANCE)


@pytest.mark.parametrize("kind", ["ids", "one-hot"])
def test_large_logits(kind):
    """Of +-1e4, and with 1e4 added to all of them: float32 holds the differences, so the loss must."""
    logits, ids, soft = batch((5, CLASSES))
    given, y = targets_of(kind, ids, soft)
    for large in (1e4 * np.sign(logits), np.where(one_hot(ids) > 0, 1e4, -1e4), logits + 1e4, logits - 1e4):
        large = large.astype("float32")
        found = value_and_gradient(lambda z: label_smoothing_crossentropy(given, z, from_logits=True), large)
        assert_close(found, closed_form(y, large), **TOLERANCE)


@pytest.mark.parametrize("kind", ["ids", "one-hot"])
def test_probabilities_of_zero_and_one(kind):
    _, ids, soft = batch((5, CLASSES))
    given, _ = targets_of(kind, ids, soft)
    for outputs in (one_hot(ids), one_hot((ids + 1) % CLASSES), np.zeros((5, CLASSES), "float32")):
        found = value_and_gradient(lambda p: label_smoothing_crossentropy(given, p), outputs)
        assert np.isfinite(found[0]).all() and np.isfinite(found[1]).all()
        theirs = keras.losses.categorical_crossentropy(one_hot(ids), outputs, label_smoothing=0.1)
        if outputs.any():  # Keras divides by the sum
            assert_close(found[0], theirs, **TOLERANCE)


def test_gradient_of_the_gradient():
    """Written by hand for ids, automatic for one-hot targets."""
    logits, ids, _ = batch((5, CLASSES), scale=1.0)
    direction = np.random.default_rng(5).standard_normal(logits.shape).astype("float32")

    def product(targets):
        def slope(z):
            slopes = first_gradient(lambda x: label_smoothing_crossentropy(targets, x, 0.1, True), z)
            return ops.sum(ops.multiply(direction, slopes))

        variable = keras.Variable(logits)
        return gradients(lambda: slope(ops.multiply(variable, 1.0)), [variable])[0]

    assert_close(product(ids), product(one_hot(ids)), **TOLERANCE)
    assert np.abs(product(ids)).max() > 0.1


def first_gradient(loss, z):
    """The gradient of the sum of the losses as a tensor that can be differentiated again."""
    if BACKEND == "jax":
        import jax

        return jax.grad(lambda x: ops.sum(loss(x)))(z)
    if BACKEND == "torch":
        import torch

        return torch.autograd.grad(ops.sum(loss(z)), z, create_graph=True)[0]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(z)
        value = ops.sum(loss(z))
    return tape.gradient(value, z)


@only("torch", why="Only there the backward pass reuses memory of the forward pass")
def test_a_second_backward_pass_over_a_retained_graph():
    import torch

    logits, ids, _ = batch((5, CLASSES))
    z = torch.tensor(logits, requires_grad=True)
    value = ops.sum(label_smoothing_crossentropy(ids, z, 0.1, from_logits=True))
    first, second = (torch.autograd.grad(value, z, retain_graph=True)[0] for _ in range(2))
    assert_close(first, closed_form(one_hot(ids), logits)[1], **TOLERANCE)
    assert_close(second, first, rtol=0, atol=1e-6)


@only("torch", why="These are its transforms")
@pytest.mark.parametrize("kind", ["ids", "one-hot"])
def test_transforms_of_torch(kind):
    """Gradients of each sample, tangents and mapped calls: what was given has no values that could be read there."""
    import torch

    logits, ids, _ = batch((5, CLASSES))
    z, y = torch.tensor(logits), torch.tensor(ids if kind == "ids" else one_hot(ids))

    def ours(z, y):
        return label_smoothing_crossentropy(y[None], z[None], 0.1, from_logits=True)[0]

    def total(z):
        return label_smoothing_crossentropy(y, z, 0.1, from_logits=True).sum()

    losses, slopes = closed_form(one_hot(ids), logits)
    assert_close(torch.func.vmap(ours)(z, y).numpy(), losses, **TOLERANCE)
    assert_close(torch.func.vmap(torch.func.grad(ours))(z, y).numpy(), slopes, **TOLERANCE)
    assert_close(torch.func.grad(total)(z).numpy(), slopes, **TOLERANCE)
    tangent = torch.func.jvp(total, (z,), (z,))[1]
    assert_close(tangent.numpy(), (slopes * logits).sum(), **TOLERANCE)


@only("torch", why="The others compile, which allocates no such array")
@pytest.mark.parametrize("shape", [(1100, 2000), (3, 7, 120_000), (2, 2**20 + 1)], ids=str)
@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_values_without_a_gradient_are_the_same_to_the_bit(shape, options):
    """They are computed in parts: of many rows, of whole blocks, of one row."""
    import torch

    logits, classes = torch.randn(shape), shape[-1]
    ids = torch.randint(0, classes, shape[:-1])
    options = {name: np.resize(values, classes) for name, values in options.items()}
    if "prior" in options:
        options["prior"] = options["prior"] / options["prior"].sum()
    values = [
        label_smoothing_crossentropy(ids, z, 0.1, from_logits=True, **options)
        for z in (logits, logits.clone().requires_grad_())
    ]
    assert not values[0].requires_grad and values[1].requires_grad
    np.testing.assert_array_equal(to_numpy(values[0]), values[1].detach().numpy())


@only("jax", why="XLA tells there how much memory it sets aside")
def test_no_array_of_the_size_of_one_hot_targets():
    import jax

    shape = (64, 16384)
    loss = LabelSmoothingCrossentropy(0.1, from_logits=True)
    step = jax.jit(jax.value_and_grad(lambda z, y: loss(y, z)))
    aside = step.lower(np.zeros(shape, "float32"), np.zeros(64, "int32")).compile().memory_analysis().temp_size_in_bytes
    assert aside < 0.1 * 4 * shape[0] * shape[1]


@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=only("tensorflow"))])
@pytest.mark.parametrize("kind", ["ids", "ids with a last axis of 1", "soft"])
def test_compiled_with_any_batch_size(kind, xla):
    """Traced once for an unknown batch size where the backend has that; an empty batch too."""
    loss = jit(lambda y, z: label_smoothing_crossentropy(y, z, 0.1, True), xla=xla, dynamic_batch=not xla)
    for count in (5,) if xla else (5, 2, 1, 0):
        logits, ids, soft = batch((count, 3, CLASSES))
        given, y = targets_of(kind, ids, soft)
        found = loss(ops.convert_to_tensor(given), ops.convert_to_tensor(logits))
        assert found.shape == (count, 3)
        if count:
            assert_close(found, closed_form(y, logits)[0], **TOLERANCE)


def test_symbolic_inputs():
    ids, logits = keras.Input((4,), dtype="int32"), keras.Input((4, CLASSES))
    model = keras.Model([ids, logits], label_smoothing_crossentropy(ids, logits, 0.1, from_logits=True))
    assert model.output.shape == (None, 4)
    z, y, _ = batch((3, 4, CLASSES))
    assert_close(model([y.astype("int32"), z]), closed_form(one_hot(y), z)[0], **TOLERANCE)


# Impossible classes.


@pytest.mark.parametrize("kind", ["ids", "one-hot"])
@pytest.mark.parametrize("options", [{}, {"class_weight": WEIGHT, "prior": PRIOR}], ids=str)
def test_an_impossible_target_is_an_infinite_loss(options, kind):
    """Never NaN, and its gradient is that of any other target; with a weight of 0 it costs what the others cost."""
    logits, ids, _ = batch((5, CLASSES))
    ids[:], ids[1] = 0, 3  # which weighs nothing in WEIGHT
    logits[np.arange(5), ids] = -np.inf
    given = ids if kind == "ids" else one_hot(ids)
    found = value_and_gradient(
        lambda z: label_smoothing_crossentropy(given, z, 0.1, from_logits=True, **options), logits
    )
    gradient = closed_form(one_hot(ids), np.where(np.isinf(logits), -1e9, logits), **options)[1]
    assert np.array_equal(np.isinf(found[0]), ids != 3 if options else np.full(5, True))
    assert not np.isnan(found[0]).any()
    assert_close(found[1], gradient, **TOLERANCE)


def test_probabilities_of_zero_without_a_share():
    """Where a class weighs nothing, its probability of 0 costs nothing, with and without prior."""
    outputs = np.array([[0.25, 0.0, 0.75], [0.5, 0.0, 0.5]], "float32")
    for targets in (np.array([0, 2]), one_hot([0, 2], 3)):
        for options in ({"prior": [0.5, 0.0, 0.5]}, {"class_weight": {1: 0.0}}):
            found = value_and_gradient(lambda p, o=options, y=targets: label_smoothing_crossentropy(y, p, **o), outputs)
            share = 0.5 if "prior" in options else 1 / 3
            y = np.array([[0.9, 0], [0, 0.9]]) + 0.1 * share
            assert_close(found[0], -(y * np.log(outputs[:, ::2])).sum(-1), **TOLERANCE)
            assert np.isfinite(found[1]).all()


# Two classes with one output.


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["int32", "uint8", "bool", "float32", "soft"])
def test_one_output_against_binary_crossentropy(kind, smoothing, from_logits):
    rng = np.random.default_rng(3)
    logits = (3 * rng.standard_normal((5, 4, 1))).astype("float32")
    outputs = logits if from_logits else (1 / (1 + np.exp(-logits))).astype("float32")
    y = rng.random((5, 4)).astype("float32") if kind == "soft" else rng.integers(0, 2, (5, 4)).astype(kind)

    def theirs(x):
        target = ops.convert_to_tensor(y[..., None].astype("float32"))
        return keras.losses.binary_crossentropy(target, x, from_logits=from_logits, label_smoothing=smoothing)

    expected = value_and_gradient(theirs, outputs)
    for given in (y, y[..., None]):
        found = value_and_gradient(
            lambda x, given=given: label_smoothing_crossentropy(given, x, smoothing, from_logits=from_logits), outputs
        )
        assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_output_is_the_second_of_two():
    """With weights, prior, an ignored class, an axis, reductions and large logits."""
    rng = np.random.default_rng(3)
    logits, y = (3 * rng.standard_normal((5, 1, 4))).astype("float32"), rng.integers(0, 2, (5, 4))
    logits[0, 0, :2] = 1e4, -1e4
    both = np.concatenate([np.zeros_like(logits), logits], axis=1)
    for ignore_class in (None, 0, 1, -1, 255):
        ids = y.copy()
        if ignore_class is not None:
            ids[1, 1] = ignore_class
        for options in ({}, {"class_weight": {1: 3.0}}, {"prior": [0.25, 0.75], "class_weight": [1.0, 2.0]}):
            for reduction in (None, "sum_over_batch_size"):
                arguments = {"from_logits": True, "ignore_class": ignore_class, "reduction": reduction, "axis": 1}
                loss = LabelSmoothingCrossentropy(0.1, **arguments, **options)
                expected = loss(ids, both)
                for given in (ids, ids.astype("float32"), ids[:, None]):
                    assert_close(loss(given, logits), expected, **TOLERANCE)


@pytest.mark.parametrize("wrong", [2, -1, 1.5, -0.5, float("nan")])
def test_one_output_refuses_other_targets(wrong):
    """Labels of -1 and 1 are no labels here."""
    targets = np.array([wrong, 1, 0], "float32" if isinstance(wrong, float) else "int32")
    logits = np.array([[1.0], [2.0], [-1.0]], "float32")
    for given in (targets, targets.astype("float32")):
        if np.isnan(given[0]):
            assert np.isnan(to_numpy(label_smoothing_crossentropy(given, logits, from_logits=True))[0])
            continue
        with raises_received():
            label_smoothing_crossentropy(given, logits, from_logits=True)
        if BACKEND != "torch":
            found = jit(lambda y: label_smoothing_crossentropy(y, logits, from_logits=True))(
                ops.convert_to_tensor(given)
            )
            assert np.array_equal(np.isnan(to_numpy(found)), [True, False, False])
    with raises_received("from_logits=True"):
        label_smoothing_crossentropy([0, 1], [[3.0], [0.5]])
    for bad in ({"class_weight": [1.0, 1.0, 1.0]}, {"prior": [0.2, 0.3, 0.5]}, {"class_weight": {2: 1.0}}):
        with raises_received(*bad):
            label_smoothing_crossentropy([0, 1], [[3.0], [0.5]], from_logits=True, **bad)


# Class weights as `fit` knows them.


@pytest.mark.parametrize("weight", [{1: 2.0, 3: 0.0}, {np.int64(1): np.float32(2), np.int32(3): 0}], ids=str)
def test_class_weight_as_a_dict(weight):
    logits, ids, soft = batch((5, CLASSES))
    full = np.array([1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    loss = LabelSmoothingCrossentropy(0.1, True, class_weight=weight, reduction=None)
    for targets, y in ((ids, one_hot(ids)), (soft, soft)):
        expected = closed_form(y, logits, class_weight=full)[0]
        assert_close(loss(targets, logits), expected, **TOLERANCE)
        array = label_smoothing_crossentropy(targets, logits, from_logits=True, class_weight=full)
        assert_close(array, expected, **TOLERANCE)


def test_a_dict_of_class_weights_comes_back_from_a_file(tmp_path):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    network.compile("sgd", LabelSmoothingCrossentropy(0.1, True, class_weight={0: 1, np.int64(2): np.float32(2)}))
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras").loss
    assert loaded.get_config() == network.loss.get_config()
    assert loaded.class_weight == {0: 1.0, 2: 2.0} and all(type(key) is int for key in loaded.class_weight)
    x, y = np.ones((3, 2), "float32"), np.arange(3)
    assert_close(loaded(y, network(x)), network.loss(y, network(x)))
