import warnings

import keras
import numpy as np
import pytest
from callbacks.helpers import make_model
from harness import BACKEND, assert_close, gradients, only, raises_received, slow_on, to_numpy

from keras_reg.callbacks import GradientHistograms

# PyTorch compiles no training step of Keras 3.10.
TORCH_COMPILES = tuple(map(int, keras.__version__.split(".")[:2])) > (3, 10)
COMPILED = pytest.param(True, marks=pytest.mark.skipif(BACKEND == "torch" and not TORCH_COMPILES, reason="Keras 3.10"))
WITHIN_TORCH_COMPILE = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
MULTI = getattr(keras.optimizers, "MultiOptimizer", None)


@keras.saving.register_keras_serializable(package="tests")
class Slopes(keras.layers.Layer):
    """One weight of each size; the output is their product with the input: the gradient of its sum is the input."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def build(self, input_shape):
        self.slopes = [self.add_weight(shape=(size,), name=f"slope_{i}") for i, size in enumerate(self.sizes)]

    def call(self, x):
        return keras.ops.sum(x * keras.ops.concatenate(self.slopes), axis=-1, keepdims=True)


def total(y_true, y_pred):
    return keras.ops.sum(y_pred, axis=-1)


def with_gradients(*arrays, **arguments):
    """A model, and the batch for which the gradients of its weights are these arrays."""
    model = keras.Sequential([keras.Input((sum(map(len, arrays)),)), Slopes([len(a) for a in arrays])])
    model.compile("sgd", total, **arguments)
    return model, np.concatenate(arrays).astype("float32")[None]


def shown(*arrays, callback=None, **arguments):
    """What is said of such gradients."""
    model, x = with_gradients(*arrays, **arguments)
    record = (callback or GradientHistograms()).measure(model, x, np.zeros((1, 1)))
    return list(record["variables"].values())


def check_description(found, array, edges):
    """NumPy says the same of the array."""
    array = np.asarray(array, "float32").astype("float64")
    finite = array[np.isfinite(array)]
    np.testing.assert_array_equal(found["counts"], np.histogram(finite, edges.astype("float64"))[0])
    assert found["size"] == array.size and found["non_finite"] == array.size - finite.size
    assert found["zero_fraction"] == np.mean(array == 0)
    if finite.size:
        assert (found["min"], found["max"]) == (finite.min(), finite.max())
        np.testing.assert_allclose(found["mean"], finite.mean(), rtol=1e-5, atol=1e-6 * np.abs(finite).max())
    np.testing.assert_allclose(found["norm"], np.linalg.norm(finite), rtol=1e-6)


def spread(size, seed=0):
    """Numbers of either sign over thirty orders of magnitude."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1, 1], size) * 10.0 ** rng.uniform(-20, 8, size)


# Histograms.


def test_edges():
    edges = GradientHistograms(bins=64).edges
    assert edges.shape == (65,) and edges.dtype == "float32" and edges[32] == 0
    np.testing.assert_array_equal(edges, -edges[::-1])
    np.testing.assert_allclose(edges[33:-1], 10 ** np.linspace(-15, 3, 31), rtol=1e-6)
    assert edges[-1] == np.inf


@pytest.mark.parametrize("bins", [8, 64, 250])
def test_the_histogram_is_that_of_numpy(bins):
    callback = GradientHistograms(bins=bins)
    # Sizes around the length of the rows that tensors are cut into.
    arrays = [spread(size, size) for size in (1, 3, 511, 512, 513, 2000)]
    for found, array in zip(shown(*arrays, callback=callback), arrays, strict=True):
        check_description(found, array, callback.edges)


@slow_on("torch")
@WITHIN_TORCH_COMPILE
@pytest.mark.parametrize("jit_compile", [False, COMPILED])
def test_values_at_the_edges_belong_where_numpy_puts_them(jit_compile):
    callback = GradientHistograms()
    edges = callback.edges[1:-1]
    array = np.concatenate([edges, np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))])
    array = array[(array == 0) | (np.abs(array) > 1e-37)]  # denormal numbers are zeros to some compilers
    check_description(*shown(array, callback=callback, jit_compile=jit_compile), array, callback.edges)


def test_zeros_and_what_is_not_finite_are_told_apart():
    callback = GradientHistograms()
    mixed = [np.nan, 1.0, np.inf, 0.0, -0.0, -np.inf, -2.0, np.nan]
    arrays = [mixed, [np.nan] * 5, [0.0] * 600, [np.inf, 3.0]]
    found = shown(*arrays, callback=callback)
    for one, array in zip(found, arrays, strict=True):
        check_description(one, array, callback.edges)
    assert np.isnan(found[1]["min"]) and found[1]["norm"] == 0 and found[1]["counts"].sum() == 0
    assert found[2]["counts"][32] == 600


def test_norms_neither_overflow_nor_underflow():
    tiny, huge, apart = shown(np.full(1000, 1e-30), np.full(1000, -1e30), [1e-30, 1.0])
    np.testing.assert_allclose(tiny["norm"], 1e-30 * 1000**0.5, rtol=1e-5)
    np.testing.assert_allclose(huge["norm"], 1e30 * 1000**0.5, rtol=1e-5)
    assert apart["norm"] == 1


def test_counts_are_exact_beyond_what_float32_can_count():
    size = 2**24 + 5
    (found,) = shown(np.ones(size), callback=GradientHistograms(bins=8))
    assert found["counts"].sum() == found["counts"].max() == size


# In training.


def data(count=12):
    rng = np.random.default_rng(5)
    return rng.normal(size=(count, 3)).astype("float32"), rng.normal(size=(count, 2)).astype("float32")


def network(optimizer="sgd", seed=1, **arguments):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((3,)), keras.layers.Dense(40, activation="tanh"), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", **arguments)
    return model


def true_gradients(model, x, y, sample_weight=None):
    """By the backend's own differentiation, of the loss without loss scale and clipping, as NumPy."""

    def loss():
        y_pred = model(x, training=True)
        return model.compute_loss(x, keras.ops.convert_to_tensor(y), y_pred, sample_weight)

    return gradients(loss, model.trainable_variables)


def check_record(callback, record, arrays):
    """The record is of these gradients, which another program computed: up to the last digits."""
    edges = callback.edges.astype("float64")
    assert len(record["variables"]) == len(arrays)
    for found, array in zip(record["variables"].values(), arrays, strict=True):
        finite_edges = edges[np.isfinite(edges) & (edges != 0)]
        distance = np.abs(array.reshape(-1, 1) / finite_edges - 1).min()
        assert distance > 1e-5, "this array has a value at an edge, which may fall to either side: take another seed"
        np.testing.assert_array_equal(found["counts"], np.histogram(array.astype("float64"), edges)[0])
        np.testing.assert_allclose(found["norm"], np.linalg.norm(array), rtol=2e-5)
        np.testing.assert_allclose([found["min"], found["max"]], [array.min(), array.max()], rtol=2e-5, atol=1e-8)
        np.testing.assert_allclose(found["mean"], array.mean(), rtol=1e-3, atol=1e-7)
    whole = np.sqrt(sum(np.sum(array.astype("float64") ** 2) for array in arrays))
    np.testing.assert_allclose(record["global_norm"], whole, rtol=2e-5)


class Oracle(keras.callbacks.Callback):
    """The true gradients of every step, computed just before it."""

    def __init__(self, x, y, batch_size):
        super().__init__()
        self.batches = [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size)]
        self.found = []

    def on_train_batch_begin(self, batch, logs=None):
        self.found.append(true_gradients(self.model, *self.batches[batch]))


def multi_optimizer():
    if MULTI is None:
        pytest.skip("This Keras has no MultiOptimizer.")
    sgd, adam = keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.1)
    return MULTI(keras.optimizers.OptimizerMap(sgd, {".*bias": adam}))


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.1, weight_decay=0.01),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=1e-3),
    "global clipnorm": lambda: keras.optimizers.SGD(0.1, global_clipnorm=1e-3),
    "loss scale factor": lambda: keras.optimizers.SGD(0.1, loss_scale_factor=128.0),
    "dynamic loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1, momentum=0.9), dynamic_growth_steps=2
    ),
    "accumulation": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "averages": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2),
    "schedule": lambda: keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
    "several": multi_optimizer,
    "several, dynamic loss scale": lambda: keras.optimizers.LossScaleOptimizer(multi_optimizer()),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_shows_its_own_gradients_and_training_is_the_same(name):
    x, y = data()
    plain = network(OPTIMIZERS[name]())
    plain.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    optimizer = OPTIMIZERS[name]()
    model = network(optimizer)
    oracle, callback = Oracle(x, y, 4), GradientHistograms(every=1)
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, callbacks=[callback, oracle], verbose=0)
    records = callback.history["gradients"]
    assert [(r["epoch"], r["batch"], r["step"]) for r in records] == [(i // 3, i % 3, i) for i in range(6)]
    for record, arrays in zip(records, oracle.found, strict=True):
        check_record(callback, record, arrays)
        assert record["applied"] and record["skipped_steps"] == 0
    assert model.optimizer is optimizer and len(optimizer.variables) == len(plain.optimizer.variables)
    assert_close(model.get_weights(), plain.get_weights(), rtol=1e-5, atol=1e-6)
    assert_close([v.value for v in optimizer.variables], [v.value for v in plain.optimizer.variables], rtol=1e-5)


@slow_on("torch")
@WITHIN_TORCH_COMPILE
@pytest.mark.parametrize("compiled", ["eagerly", False, COMPILED])
@pytest.mark.parametrize("every", ["epoch", 2])
def test_however_the_step_is_compiled(compiled, every):
    x, y = data()
    arguments = {"run_eagerly": True} if compiled == "eagerly" else {"jit_compile": compiled}
    model = network(keras.optimizers.Adam(0.1), **arguments)
    oracle, callback = Oracle(x, y, 4), GradientHistograms(every=every)
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, callbacks=[callback, oracle], verbose=0)
    steps = [record["step"] for record in callback.history["gradients"]]
    assert steps == ([0, 3] if every == "epoch" else [0, 2, 4])
    for step, record in zip(steps, callback.history["gradients"], strict=True):
        check_record(callback, record, oracle.found[step])


@only("tensorflow", "jax", why="Keras has no steps_per_execution on PyTorch.")
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("loss_scale", [False, True])
def test_the_first_step_of_an_execution_of_several(jit_compile, loss_scale):
    x, y = data(14)
    make = OPTIMIZERS["dynamic loss scale" if loss_scale else "adam"]
    plain, oracle = network(make()), Oracle(x, y, 2)
    plain.fit(x, y, batch_size=2, epochs=2, shuffle=False, callbacks=[oracle], verbose=0)
    model = network(make(), steps_per_execution=3, jit_compile=jit_compile)
    callback = GradientHistograms(every=2)
    model.fit(x, y, batch_size=2, epochs=2, shuffle=False, callbacks=[callback], verbose=0)
    steps = [record["step"] for record in callback.history["gradients"]]
    assert steps == [0, 3, 6, 10, 13] and callback.steps == 14  # executions begin at 0, 3, 6, 7, 10, 13
    for record in callback.history["gradients"]:
        check_record(callback, record, oracle.found[record["step"]])
        assert record["batch"] == record["step"] % 7 and record["epoch"] == record["step"] // 7
    assert_close(model.get_weights(), plain.get_weights(), rtol=1e-4, atol=1e-6)


def test_weights_of_samples_and_penalties_are_in_the_gradients():
    x, y = data(4)
    sample_weight = np.array([0.0, 1.0, 2.0, 3.0], "float32")
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5))])
    model.compile("sgd", "mse")
    truth = true_gradients(model, x, y, sample_weight)
    callback = GradientHistograms()
    model.fit(x, y, sample_weight=sample_weight, batch_size=4, callbacks=[callback], verbose=0)
    check_record(callback, callback.history["gradients"][0], truth)


def test_under_mixed_precision(set_dtype_policy):
    set_dtype_policy("mixed_float16")
    x, y = data(4)
    model = network(keras.optimizers.SGD(0.1))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    optimizer, truth = model.optimizer, true_gradients(model, x, y)
    callback = GradientHistograms()
    model.fit(x, y, batch_size=4, callbacks=[callback], verbose=0)
    (record,) = callback.history["gradients"]
    for found, array in zip(record["variables"].values(), truth, strict=True):
        # float16 has 11 bits; without the loss scale, rounding differs.
        np.testing.assert_allclose(found["norm"], np.linalg.norm(array), rtol=1e-2)
    assert model.optimizer is optimizer


def test_a_model_that_is_built_in_its_first_step():
    x, y = data()
    model = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    callback, weights = GradientHistograms(), []
    keep = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: weights.append(model.get_weights()))
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, callbacks=[callback, keep], verbose=0)
    twin = keras.models.clone_model(model)
    twin.compile("adam", "mse")
    twin.set_weights(weights[1])
    check_record(callback, callback.history["gradients"][1], true_gradients(twin, x[:4], y[:4]))
    assert callback.history["gradients"][0]["global_norm"] > 0


def test_sparse_gradients_of_an_embedding():
    model = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(50, 8), keras.layers.Flatten()])
    model.compile("sgd", "mse")
    callback = GradientHistograms()
    x, y = np.array([[3, 3], [7, 1]]), np.ones((2, 16), "float32")
    truth = true_gradients(model, x, y)
    model.fit(x, y, callbacks=[callback], verbose=0)
    (found,) = callback.history["gradients"][0]["variables"].values()
    check_record(callback, callback.history["gradients"][0], truth)
    assert found["zero_fraction"] == 47 / 50


def test_a_weight_without_a_gradient_is_left_out():
    inputs = keras.Input((3,))
    used, unused = keras.layers.Dense(2, name="used")(inputs), keras.layers.Dense(2, name="unused")(inputs)
    model = keras.Model(inputs, [used, unused])
    model.compile("sgd", ["mse", None])
    x, y = data(4)
    callback = GradientHistograms()
    truth = true_gradients(keras.Model(inputs, used), x, y) if BACKEND == "jax" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of it
        model.fit(x, [y, y], callbacks=[callback], verbose=0)
    found = callback.history["gradients"][0]["variables"]
    if truth is None:
        assert set(found) == {"used/kernel", "used/bias"}
    else:  # JAX gives it zeros
        assert found["unused/kernel"]["zero_fraction"] == 1 and found["used/kernel"]["zero_fraction"] == 0


def test_a_frozen_layer_is_left_out_of_the_gradients_only():
    model = network()
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    callback = GradientHistograms()
    model.fit(*data(), callbacks=[callback], verbose=0)
    assert list(callback.history["gradients"][0]["variables"]) == paths(model.layers[1:])
    assert list(callback.history["weights"][0]["variables"]) == paths(model.layers)


def paths(layers):
    return [f"{layer.name}/{weight.name}" for layer in layers for weight in layer.weights]


# Steps that are lost.


def poisoned(bad):
    """Six batches of two for `Slopes`; the gradients of the bad ones are not finite."""
    x = np.ones((12, 4), "float32")
    for batch in bad:
        x[2 * batch, 0] = np.inf
    return x, np.zeros((12, 1), "float32")


def scaled_model():
    model = keras.Sequential([keras.Input((4,)), Slopes([1, 3])])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), total)
    return model


def test_a_step_that_a_loss_scaled_optimizer_skips_is_counted_apart():
    model, callback = scaled_model(), GradientHistograms()
    model.fit(*poisoned([0, 1, 4]), batch_size=2, epochs=2, shuffle=False, callbacks=[callback], verbose=0)
    first, second = callback.history["gradients"]
    assert (first["batch"], first["step"], first["skipped_steps"]) == (2, 2, 2)
    assert (second["batch"], second["step"], second["skipped_steps"]) == (2, 8, 5)
    assert first["applied"] and all(v["non_finite"] == 0 for v in first["variables"].values())
    assert callback.skipped_steps == 6 and model.optimizer.iterations == 6


@only("tensorflow", "jax", why="Keras has no steps_per_execution on PyTorch.")
def test_skipped_steps_among_those_of_one_execution():
    model, callback = scaled_model(), GradientHistograms()
    model.compile(model.optimizer, total, steps_per_execution=3)
    model.fit(*poisoned([0, 4]), batch_size=2, epochs=2, shuffle=False, callbacks=[callback], verbose=0)
    assert [(r["batch"], r["skipped_steps"]) for r in callback.history["gradients"]] == [(1, 1), (1, 3)]
    assert callback.skipped_steps == 4


def test_where_all_steps_are_skipped_the_last_one_tells_why():
    model, callback = scaled_model(), GradientHistograms()
    model.fit(*poisoned(range(6)), batch_size=2, shuffle=False, callbacks=[callback], verbose=0)
    (record,) = callback.history["gradients"]
    assert not record["applied"] and record["batch"] == 5 and record["skipped_steps"] == 6
    assert [v["non_finite"] for v in record["variables"].values()] == [1, 0]


def test_without_loss_scale_nothing_is_skipped():
    model, callback = scaled_model(), GradientHistograms()
    model.compile("sgd", total)
    model.fit(*poisoned([0]), batch_size=2, shuffle=False, callbacks=[callback], verbose=0)
    (record,) = callback.history["gradients"]
    assert record["applied"] and record["batch"] == 0 and record["skipped_steps"] == 0


# Weights.


def test_weights_at_the_end_of_an_epoch_moving_statistics_too():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5), keras.layers.BatchNormalization()])
    model.compile("adam", "mse")
    callback, seen = GradientHistograms(bins=10), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(model.get_weights()))
    x, y = data()
    model.fit(x, np.tile(y, 3)[:, :5], batch_size=4, epochs=2, callbacks=[callback, keep], verbose=0)
    for record, weights in zip(callback.history["weights"], seen, strict=True):
        assert list(record["variables"]) == paths(model.layers)
        for found, array in zip(record["variables"].values(), weights, strict=True):
            counts, edges = np.histogram(array, 10)
            np.testing.assert_array_equal(found["counts"], counts)
            np.testing.assert_allclose(found["edges"], edges, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found["norm"], np.linalg.norm(array), rtol=1e-6)
    assert [(record["epoch"], record["step"]) for record in callback.history["weights"]] == [(0, 2), (1, 5)]


def test_weights_after_the_step_that_is_watched():
    callback, model, seen = GradientHistograms(every=2), network(), []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: seen.append(to_numpy(keep.model.weights[0]))
    )
    model.fit(*data(), batch_size=4, epochs=2, callbacks=[callback, keep], verbose=0)
    assert [record["step"] for record in callback.history["weights"]] == [0, 2, 4]
    for record in callback.history["weights"]:
        found = next(iter(record["variables"].values()))
        np.testing.assert_allclose(found["norm"], np.linalg.norm(seen[record["step"]]), rtol=1e-6)


def test_without_weights():
    callback = GradientHistograms(weights=False)
    network().fit(*data(), callbacks=[callback], verbose=0)
    assert callback.history["weights"] == [] and len(callback.history["gradients"]) == 1


# Which weights.


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ("*kernel", {"a/kernel", "b/kernel"}),
        (["a/*", "b/bias"], {"a/kernel", "a/bias", "b/bias"}),
        ("b/kernel", {"b/kernel"}),
    ],
)
def test_include(include, expected):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")])
    model.compile("sgd", "mse")
    callback, everything = GradientHistograms(include=include), GradientHistograms()
    model.fit(*data(), batch_size=12, callbacks=[callback, everything], verbose=0)
    for kind in ("gradients", "weights"):
        found, whole = callback.history[kind][0]["variables"], everything.history[kind][0]["variables"]
        assert set(found) == expected and len(whole) == 4
        assert {path: found[path]["norm"] for path in found} == {path: whole[path]["norm"] for path in found}


def test_include_that_matches_nothing_is_told_at_once():
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    with raises_received("include='*kernels'", "dense/kernel"):
        make_model().fit(
            np.ones((4, 2)), np.ones((4, 1)), callbacks=[GradientHistograms(include="*kernels"), count], verbose=0
        )
    assert not steps


def test_weights_of_the_same_path_are_told_apart():
    def inner(name):
        inputs = keras.Input((3,))
        return keras.Model(inputs, keras.layers.Dense(3, name="same")(inputs), name=name)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner("two")(inner("one")(inputs)))
    model.compile("sgd", "mse")
    callback = GradientHistograms()
    model.fit(np.ones((4, 3)), np.ones((4, 3)), callbacks=[callback], verbose=0)
    assert list(callback.history["gradients"][0]["variables"]) == [
        "same/kernel",
        "same/bias",
        "same/kernel_1",
        "same/bias_1",
    ]


# Arguments.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_dir", 3),
        ("every", 0),
        ("every", "batch"),
        ("every", 1.5),
        ("every", True),
        ("bins", 7),
        ("bins", 9),
        ("bins", 64.0),
        ("include", 3),
        ("include", []),
        ("include", [1]),
        ("norms", 1),
        ("weights", None),
        ("probe", np.ones(3)),
        ("probe", (1,)),
    ],
)
def test_bad_arguments(name, value):
    with raises_received(f"{name}={value!r}"):
        GradientHistograms(**{name: value})


def test_a_model_without_a_keras_optimizer():
    callback = GradientHistograms()
    callback.set_model(make_model(optimizer=None))
    with raises_received("optimizer=None"):
        callback.on_train_begin()


def test_config_goes_round():
    callback = GradientHistograms(None, 5, 32, ["*kernel"], False, False, ([[1.0]], [[2.0]]))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(callback))
    assert again.get_config() == callback.get_config()
