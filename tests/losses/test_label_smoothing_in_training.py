"""The loss as Keras uses it: reductions, weights, masks, low precision, compiled models, and what it refuses."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, dtype_of, gradients, jit, only, raises_received, to_numpy
from keras import ops

from keras_reg.layers import RandomErasing
from keras_reg.losses import LabelSmoothingCrossentropy, label_smoothing_crossentropy
from keras_reg.training import RegularizedModel

CLASSES = 7
MANY = 100_000
REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None)


def batch(*shape, seed=0):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((*shape, CLASSES))
    return rng.integers(0, CLASSES, shape).astype("int32"), logits.astype("float32")


def crossentropy(y_true, logits, smoothing=0.1):
    """In float64, for ids."""
    z = logits.astype("float64")
    z = z - z.max(-1, keepdims=True)
    logs = z - np.log(np.exp(z).sum(-1, keepdims=True))
    own = np.take_along_axis(logs, np.asarray(y_true)[..., None], -1)[..., 0]
    return -(1 - smoothing) * own - smoothing * logs.mean(-1)


# Reductions, weights and masks, as in Keras' own loss.


@pytest.mark.parametrize("ignore_class", [None, 2, -1])
@pytest.mark.parametrize("weights", [None, "of samples", "of elements", "with a last axis of 1"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reduces_as_keras_does(reduction, weights, ignore_class):
    y, logits = batch(3, 4)
    if ignore_class is not None:
        y[0, :3] = ignore_class
    w = np.random.default_rng(4).random((3, 4), "float32")
    w = {None: None, "of samples": w[:, :1], "of elements": w, "with a last axis of 1": w[..., None]}[weights]
    arguments = {"from_logits": True, "ignore_class": ignore_class, "reduction": reduction}
    ours = LabelSmoothingCrossentropy(0.0, **arguments)(y, logits, w)
    # One weight for many elements beside a mask: an error in Keras under PyTorch, so it gets them one by one.
    w = np.broadcast_to(w, (3, 4)) if weights == "of samples" and ignore_class is not None else w
    theirs = keras.losses.SparseCategoricalCrossentropy(**arguments)(y, logits, w)
    assert ours.shape == theirs.shape
    assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 1), (3, 4), (3, 4, 1)])
def test_weights_are_left_alone(shape):
    """Under PyTorch, Keras' own losses multiply the mask into them."""
    y, logits = batch(3, 4)
    weights = ops.ones(shape)
    LabelSmoothingCrossentropy(0.1, True, ignore_class=int(y[0, 0]))(y, logits, weights)
    assert (to_numpy(weights) == 1).all()


@pytest.mark.parametrize("ignore_class", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_honours_the_mask_of_its_inputs(reduction, weighted, ignore_class):
    """Steps that a `Masking` layer hides do not count, together with those of `ignore_class`."""
    y, logits = batch(3, 4)
    logits[1, 2:] = 0
    masked = keras.layers.Masking()(logits)
    counts = np.any(logits != 0, axis=-1)
    if ignore_class is not None:
        y[0, 1] = ignore_class
        counts &= y != ignore_class
    assert 0 < counts.sum() < 12
    w = np.random.default_rng(4).random((3, 4), "float32") if weighted else None
    loss = LabelSmoothingCrossentropy(0.1, True, ignore_class=ignore_class, reduction=reduction)
    weights = counts * (1 if w is None else w)
    each = weights * crossentropy(np.where(counts, y, 0), logits)
    by = {"mean_with_sample_weight": weights.sum(), "sum": 1}.get(reduction, counts.sum())
    expected = each if reduction in (None, "none") else each.sum() / by
    assert_close(loss(y, masked, w), expected, rtol=1e-5, atol=1e-6)


def test_nothing_that_counts_is_a_loss_of_zero():
    loss = LabelSmoothingCrossentropy(from_logits=True, ignore_class=-1)
    assert to_numpy(loss(np.full(5, -1), batch(5)[1])) == 0


@pytest.mark.parametrize("from_logits", [True, False])
def test_what_is_ignored_may_be_nan(from_logits):
    y, outputs = batch(5)
    outputs = outputs if from_logits else to_numpy(ops.softmax(outputs))
    y[y == 2] = 3
    y[1] = 2
    soft = np.eye(CLASSES)[y]
    outputs[1] = float("nan")
    variable = keras.Variable(outputs)
    for targets in (y, soft):
        loss = LabelSmoothingCrossentropy(0.1, from_logits, ignore_class=2)

        def value(targets=targets, loss=loss):
            return loss(targets, ops.multiply(variable, 1.0))

        found = gradients(value, [variable])[0]
        assert np.isfinite(to_numpy(value()))
        assert (found[1] == 0).all() and np.isfinite(found).all() and (np.delete(found, 1, 0) != 0).all()


def test_soft_targets_partly_on_the_ignored_class():
    logits = batch(2)[1]
    targets = np.zeros((2, CLASSES), "float32")
    targets[0, 3], targets[0, 2], targets[1, 2] = 0.25, 0.75, 1.0
    loss = LabelSmoothingCrossentropy(0.1, True, ignore_class=2)
    assert_close(loss(targets, logits), 0.25 * crossentropy([3], logits[:1])[0], rtol=1e-5)
    outside = LabelSmoothingCrossentropy(0.1, True, ignore_class=255)
    assert_close(outside(targets, logits), LabelSmoothingCrossentropy(0.1, True)(targets, logits), rtol=0, atol=0)


# Many classes and low precision.


@pytest.mark.parametrize("kind", ["int32", "int64", "float32"])
@pytest.mark.parametrize(
    "precision", ["bfloat16", "mixed_bfloat16", "mixed_float16", "floatx bfloat16", "floatx float16"]
)
def test_ids_stay_exact_with_many_classes(precision, kind):
    """Logits are high at the right class alone: a neighbouring id costs 20 more."""
    if precision.startswith("floatx"):
        keras.config.set_floatx(precision.split()[1])
    keras.config.set_dtype_policy(precision.split()[-1])
    ids = np.array([0, 255, 257, 2049, 65_537, 99_998, 99_999])
    logits = np.zeros((len(ids), MANY), "float32")
    logits[np.arange(len(ids)), ids] = 20.0
    outputs = ops.cast(logits, keras.config.dtype_policy().compute_dtype)
    targets = ops.convert_to_tensor(ids.astype(kind))  # JAX makes an int32 of int64
    loss = LabelSmoothingCrossentropy(0.1, from_logits=True, reduction=None, dtype="float32")
    assert_close(loss(targets, outputs), crossentropy(ids, logits), rtol=1e-5)
    for call in (LabelSmoothingCrossentropy(0.1, from_logits=True), jit(LabelSmoothingCrossentropy(0.1, True))):
        value = call(targets, outputs)
        assert dtype_of(value) == keras.config.floatx()
        assert_close(value, crossentropy(ids, logits).mean(), rtol=1e-2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_float_ids_that_have_merged_are_refused(dtype):
    targets = ops.convert_to_tensor([1.0, 2.0], dtype=dtype)
    assert np.isfinite(to_numpy(label_smoothing_crossentropy(targets, np.zeros((2, 256), "float32"))[0]))
    with raises_received("y_true.dtype", dtype):
        label_smoothing_crossentropy(targets, np.zeros((2, 5000), "float32"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["ids", "soft"])
def test_low_precision_is_computed_in_float32(kind, dtype):
    y, logits = batch(5)
    outputs = ops.cast(logits, dtype)
    targets = y if kind == "ids" else np.eye(CLASSES)[y]
    found = label_smoothing_crossentropy(targets, outputs, from_logits=True)
    assert dtype_of(found) == "float32"
    assert_close(found, crossentropy(y, to_numpy(outputs)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["ids", "soft"])
def test_finite_in_float16(kind):
    """Logits of +-1e4, whose losses sum up to more than float16's largest number."""
    keras.config.set_floatx("float16")
    y, logits = batch(3, 4)
    outputs = ops.cast(1e4 * np.sign(logits), "float16")
    loss = LabelSmoothingCrossentropy(0.1, from_logits=True)
    variable = keras.Variable(outputs, dtype="float16")
    targets = y if kind == "ids" else np.eye(CLASSES, dtype="float16")[y]
    found = gradients(lambda: loss(targets, ops.multiply(variable, 1.0)), [variable])[0]
    value = to_numpy(loss(targets, outputs))
    assert crossentropy(y, to_numpy(outputs)).sum() > 65504
    assert value.dtype == "float16" and np.isfinite(found).all()
    assert_close(value.astype("float32"), crossentropy(y, to_numpy(outputs)).mean(), rtol=1e-3)


def test_float64_stays_float64():
    if BACKEND == "jax":
        pytest.skip("JAX has no float64 unless told so")
    y, logits = batch(5)
    for targets in (y, np.eye(CLASSES)[y]):
        found = label_smoothing_crossentropy(targets, logits.astype("float64"), 0.1, True, prior=np.full(7, 1 / 7))
        assert dtype_of(found) == "float64"
        assert_close(found, crossentropy(y, logits), rtol=1e-12, atol=1e-12)


# In models.


@pytest.mark.parametrize("shape", ["(n,)", "(n, 1)", "one-hot"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_in_a_compiled_model(policy, shape):
    """Labels as data sets deliver them; loss scaling included."""
    keras.config.set_dtype_policy(policy)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 5)).astype("float32"), rng.integers(0, CLASSES, 64).astype("uint8")
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, dtype="float32" if policy == "float32" else None)(inputs))
    optimizer = keras.optimizers.Adam(0.03)
    model.compile(optimizer, LabelSmoothingCrossentropy(0.1, from_logits=True), metrics=["accuracy"])
    labels = {"(n,)": y, "(n, 1)": y[:, None], "one-hot": np.eye(CLASSES)[y]}[shape]
    expected = crossentropy(y, to_numpy(model(x)).astype("float32")).mean()
    assert_close(model.evaluate(x, labels, batch_size=64, verbose=0)[0], expected, rtol=1e-5)
    losses = model.fit(x, labels, batch_size=24, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.97 * losses[0]


# What is refused.


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, float("nan"), float("inf"), "0.1", None, True])
def test_smoothing(value):
    with raises_received("label_smoothing"):
        LabelSmoothingCrossentropy(value)
    with raises_received("label_smoothing"):
        label_smoothing_crossentropy(*batch(5), label_smoothing=value)


@pytest.mark.parametrize(
    "bad",
    [
        {"prior": [0.5, 0.4]},
        {"prior": [1.5, -0.5]},
        {"prior": [float("nan"), 1.0]},
        {"prior": [1.0]},
        {"prior": 0.5},
        {"prior": []},
        {"prior": "uniform"},
        {"prior": [[0.5, 0.5]]},
        {"class_weight": [1.0, -1.0]},
        {"class_weight": [1.0, float("inf")]},
        {"class_weight": {}},
        {"class_weight": {0: 1.0, 1: -2.0}},
        {"class_weight": {0: float("nan")}},
        {"class_weight": {-1: 1.0}},
        {"class_weight": {0.0: 1.0}},
        {"class_weight": {"0": 1.0}},
        {"class_weight": {2: 1.0}, "prior": [0.5, 0.5]},
        {"class_weight": np.ones((2, 2))},
        {"class_weight": np.array(["a", "b"])},
        {"class_weight": 2.0},
        {"class_weight": [1.0, 1.0, 1.0], "prior": [0.5, 0.5]},
        {"ignore_class": 1.0},
        {"ignore_class": "void"},
        {"axis": None},
        {"axis": 0.0},
        {"from_logits": "yes"},
        {"from_logits": None},
    ],
    ids=str,
)
def test_bad_arguments(bad):
    with raises_received(*bad):
        LabelSmoothingCrossentropy(**bad)
    with raises_received(*bad):
        label_smoothing_crossentropy(*batch(5), **bad)


def test_reduction():
    with pytest.raises(ValueError, match="reduction"):
        LabelSmoothingCrossentropy(reduction="median")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("targets", "outputs", "axis"),
    [
        ((), (), -1),
        ((4,), (5,), -1),
        ((5, 2), (5, 1), -1),
        ((5, 4), (5, 1), -1),
        ((4,), (5, 7), -1),
        ((5, 6), (5, 7), -1),
        ((5, 7), (5, 4, 7), -1),
        ((5, 4, 1, 1), (5, 4, 7), -1),
        ((5, 4, 7), (5, 7), -1),
        ((5,), (5, 7), 2),
        ((5,), (5, 7), -3),
        ((5, 4), (5, 4, 7), 1),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(targets, outputs, axis, compiled):
    """In eager code and while tracing."""

    def loss(y, z):
        return LabelSmoothingCrossentropy(from_logits=True, axis=axis)(y, z)

    with pytest.raises(ValueError, match=r"Received: .*\d"):
        (jit(loss) if compiled else loss)(ops.zeros(targets, dtype="int32"), ops.zeros(outputs))


@pytest.mark.parametrize(
    "bad", [{"class_weight": [0.5, 0.5]}, {"prior": [0.5, 0.5]}, {"class_weight": {7: 1.0}}], ids=str
)
def test_one_number_for_each_class(bad):
    with raises_received(*bad):
        LabelSmoothingCrossentropy(**bad)(*batch(5))


@pytest.mark.parametrize("wrong", [-1, CLASSES, 0.5, float("nan")])
def test_ids_out_of_range(wrong):
    """An error where looking is cheap; NaN, never a plausible number, in compiled code. No bad gradient elsewhere."""
    ids, logits = batch(5)
    targets = ids.astype("float32" if isinstance(wrong, float) else "int32")
    targets[1] = wrong
    for given in (targets, targets[:, None], targets.tolist(), ops.convert_to_tensor(targets)):
        with raises_received("y_true", str(wrong)):
            label_smoothing_crossentropy(given, logits, from_logits=True)
    if BACKEND == "torch":
        return
    for from_logits in (True, False):
        loss = jit(lambda y, z, f=from_logits: label_smoothing_crossentropy(y, ops.softmax(z) if not f else z, 0.1, f))
        found = to_numpy(loss(ops.convert_to_tensor(targets), ops.convert_to_tensor(logits)))
        assert np.isnan(found[1])
        assert_close(np.delete(found, 1), crossentropy(np.delete(ids, 1), np.delete(logits, 1, 0)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["uint8", "int32", "uint32", "int64", "uint64"])
def test_ids_keep_their_value(kind):
    """2**32 + 1 is not class 1, and -1 is not the greatest of the unsigned integers, whether seen or compiled."""
    logits = batch(3)[1]
    for ignore_class in (None, -1, 2**32 - 1, 2**32 + 1, 2**64 - 1):
        loss = LabelSmoothingCrossentropy(0.1, True, ignore_class=ignore_class, reduction=None)
        compiled = jit(lambda y, loss=loss: loss(y, logits), dynamic_batch=True)
        for wrong in (-1, 255, 2**31, 2**32 - 1, 2**32 + 1, 2**64 - 1):
            if not np.iinfo(kind).min <= wrong <= np.iinfo(kind).max:
                continue
            ids, expected = np.array([wrong, 0, 1], kind), crossentropy([0, 0, 1], logits)
            expected[0] = 0.0 if wrong == ignore_class else float("nan")
            if wrong == ignore_class:
                assert_close(loss(ids, logits), expected, rtol=1e-5)
            else:
                with raises_received("y_true", str(wrong)):
                    loss(ids, logits)
            if BACKEND == "tensorflow" or (BACKEND == "jax" and "64" not in kind):  # JAX has cut 64 bits before
                assert_close(compiled(ops.convert_to_tensor(ids)), expected, rtol=1e-5)


@pytest.mark.parametrize("targets", [["cat", "dog"], [None, 1], [1j, 0], [10**400, 1], [[1], [1, 2]], None], ids=str)
@pytest.mark.parametrize("call", [LabelSmoothingCrossentropy(), label_smoothing_crossentropy])
def test_what_is_no_number(call, targets):
    with raises_received("y_true"):
        call(targets, np.full((2, CLASSES), 1 / CLASSES))
    with raises_received("y_pred"):
        call([0, 1], targets)


@pytest.mark.parametrize("kind", [">i4", ">f4", ">f8", "longdouble", "bool", "uint64", "float16"])
def test_arrays_of_any_kind(kind):
    y, logits = np.array([0, 1, 1]), batch(3)[1]
    found = label_smoothing_crossentropy(y.astype(kind), logits, from_logits=True)
    assert_close(found, crossentropy(y, logits), rtol=1e-5)
    hot = np.eye(CLASSES)[y].astype(kind)
    assert_close(label_smoothing_crossentropy(hot, logits, from_logits=True), found, rtol=1e-5)
    rounded = (8 * logits).astype(kind)
    expected = crossentropy(y, rounded.astype("float64")) if kind not in ("bool", "uint64") else None
    if expected is not None:
        assert_close(label_smoothing_crossentropy(y, rounded, from_logits=True), expected, rtol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_outputs_in_the_place_of_targets(from_logits):
    """Logits before labels: an error where they can be looked at, else NaN."""
    y, logits = batch(5)
    logits[:, 0] = -1.0
    hot = np.eye(CLASSES, dtype="float32")[y]
    with raises_received("y_true", "least=-"):
        label_smoothing_crossentropy(logits, hot, from_logits=from_logits)
    with raises_received("y_true.shape"):
        label_smoothing_crossentropy(logits, y, from_logits=from_logits)
    if BACKEND != "torch":
        swapped = jit(lambda a, b: label_smoothing_crossentropy(a, b, from_logits=from_logits))
        assert np.isnan(to_numpy(swapped(ops.convert_to_tensor(logits), ops.convert_to_tensor(hot)))).all()


def test_ids_out_of_range_beside_an_ignored_one():
    ids, logits = np.array([-1, 2, 7]), batch(3)[1]
    with raises_received("y_true=[7]"):
        label_smoothing_crossentropy(ids, logits, from_logits=True, ignore_class=-1)


@pytest.mark.parametrize("kind", ["ids", "soft"])
def test_logits_that_were_taken_for_probabilities(kind):
    """Refused where they can be looked at, else NaN, but where an element does not count."""
    y, outputs = batch(5)
    targets = y if kind == "ids" else np.eye(CLASSES, dtype="float32")[y]
    loss = LabelSmoothingCrossentropy(0.1, ignore_class=int(y[0]), reduction=None)
    with raises_received("from_logits=True", "least=-"):
        loss(targets, outputs)
    outputs = to_numpy(ops.softmax(outputs))
    outputs[(y == y[0]).argmax(), 0] = -1.0
    assert np.isfinite(to_numpy(loss(targets, outputs))).all()
    wrong = (y != y[0]).argmax()
    outputs[wrong, 0] = -1.0
    with raises_received("least=-1.0"):
        loss(targets, outputs)
    if BACKEND == "torch":
        return
    compiled = jit(lambda t, p: loss(t, p))
    found = to_numpy(compiled(ops.convert_to_tensor(targets), ops.convert_to_tensor(outputs)))
    np.testing.assert_array_equal(np.isnan(found), np.arange(len(y)) == wrong)


def test_labels_of_two_forms_are_told_of_once():
    """A metric named "accuracy" is wrong for one of them: mixed labels to train on, class ids to validate with."""
    y, outputs = batch(4)
    loss = LabelSmoothingCrossentropy(0.1, from_logits=True)
    hot = np.eye(CLASSES, dtype="float32")[y]
    loss(y, outputs), loss(hot, outputs), loss(hot, outputs)
    with pytest.warns(UserWarning, match="distributions before and now receives class ids"):
        loss(y, outputs)
    loss(hot, outputs), loss(y, outputs)


def test_fit_tells_of_one_hot_training_labels_beside_class_ids():
    """As a mixer makes them in tf.data; the accuracy of the validation is not one then."""
    y, x = batch(4)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(CLASSES)])
    model.compile("sgd", LabelSmoothingCrossentropy(0.1, from_logits=True), metrics=["accuracy"])
    hot = np.eye(CLASSES, dtype="float32")[y]
    with pytest.warns(UserWarning, match="distributions before and now receives class ids"):
        model.fit(x, hot, validation_data=(x, y), verbose=0)


@only("tensorflow", "jax", why="PyTorch's step is eager: the loss itself refuses")
def test_training_says_why_the_loss_is_nan():
    """Once per compilation, after the first epoch, where `from_logits` was forgotten; not for another kind of NaN."""
    y, x = batch(8)
    images = x[:, None, None, :]

    def fit(loss, images=images, compilations=1):
        network = keras.Sequential([keras.Input(images.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(CLASSES)])
        model = RegularizedModel(network, RandomErasing(0.0))
        for _ in range(compilations):
            model.compile("sgd", loss)
            history = model.fit(images, y, epochs=2, verbose=0).history
        return history["loss"]

    for compilations in (1, 2):
        with pytest.warns(UserWarning, match="from_logits=True") as told:
            assert np.isnan(fit(LabelSmoothingCrossentropy(0.1), compilations=compilations)).all()
        assert len([warning for warning in told if "from_logits" in str(warning.message)]) == compilations
    assert np.isfinite(fit(LabelSmoothingCrossentropy(0.1, from_logits=True))).all()  # a warning is an error in tests
    assert np.isnan(fit(LabelSmoothingCrossentropy(0.1, from_logits=True), images * np.nan)).all()


@pytest.mark.parametrize("kind", ["ids", "maps", "binary"])
def test_ids_without_a_class_are_refused_before_training(kind):
    """Labels from 1 instead of from 0 are an error on every backend, not a loss of NaN in compiled code."""
    classes = 1 if kind == "binary" else CLASSES
    parts = [] if kind == "maps" else [keras.layers.Flatten()]
    images = np.ones((2 * CLASSES, 2, 2, 3), "float32")
    ids = np.arange(2 * CLASSES) % max(classes, 2)
    ids = np.broadcast_to(ids[:, None, None], images.shape[:3]).copy() if kind == "maps" else ids
    model = RegularizedModel(
        keras.Sequential([keras.Input((2, 2, 3)), *parts, keras.layers.Dense(classes)]), RandomErasing(0.0)
    )
    model.compile("sgd", LabelSmoothingCrossentropy(0.1, from_logits=True, ignore_class=255))
    before = model.get_weights()
    for run in (model.fit, model.evaluate):
        with raises_received(f"from 0 to {max(classes, 2) - 1}", f"y_true=[{max(classes, 2)}"):
            run(images, ids + 1, verbose=0)
    with raises_received("from 0 to"):
        model.train_on_batch(images, ids - 1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    ids[0] = 255
    assert np.isfinite(model.fit(images, ids, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("form", [np.asarray, np.float32, keras.ops.convert_to_tensor], ids=["ids", "floats", "tensor"])
@pytest.mark.parametrize("nest", ["validation", "one in a list", "dict", "list"])
def test_ids_without_a_class_are_refused_in_every_form(nest, form):
    """Before the first epoch, in validation data and for each of several outputs."""
    images, ids = np.ones((8, 4), "float32"), np.arange(8) % 4
    wrong, ids, half = form(ids + 1), form(ids), np.full((8, 1), 0.5, "float32")
    x = keras.Input((4,))
    a, b = keras.layers.Dense(4, name="a")(x), keras.layers.Dense(1, name="b")(x)
    loss, binary = LabelSmoothingCrossentropy(0.1, from_logits=True), LabelSmoothingCrossentropy(from_logits=True)
    outputs, losses, put = {
        "validation": (a, loss, lambda y: y), "one in a list": ([a], [loss], lambda y: [y]),
        "dict": ({"a": a, "b": b}, {"b": binary, "a": loss}, lambda y: {"b": half, "a": y}),
        "list": ([a, b], [loss, binary], lambda y: [y, half]),
    }[nest]  # fmt: skip
    model = RegularizedModel(keras.Model(x, outputs))
    model.compile("sgd", losses)
    before = model.get_weights()
    with raises_received("from 0 to 3", "y_true=[4"):
        model.fit(images, put(ids), validation_data=(images, put(wrong)), verbose=0)
    with raises_received("from 0 to 3", "y_true=[4"):
        model.fit(images, put(wrong), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.compile("sgd", losses, run_eagerly=True)
    assert np.isfinite(model.test_on_batch(images, put(ids))).all()


@only("torch", why="The step is compiled elsewhere")
def test_an_eager_step_refuses_logits_for_probabilities():
    y, x = batch(8)
    network = keras.Sequential([keras.Input((CLASSES,)), keras.layers.Dense(CLASSES)])
    network.compile("sgd", LabelSmoothingCrossentropy(0.1))
    with raises_received("from_logits=True"):
        network.fit(x, y, verbose=0)


def test_complex_outputs_are_refused():
    outputs = keras.ops.cast(np.ones((2, 3)), "complex64")
    with raises_received("y_pred", "complex64"):
        LabelSmoothingCrossentropy(from_logits=True)(np.array([0, 1]), outputs)
