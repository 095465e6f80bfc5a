"""SharpnessAware: the gradient at w + e, applied to w; one set of masks; statistics that move once."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, only, raises_received, to_numpy
from keras import ops

from keras_reg import callbacks, layers, training

SCALES = np.array([1.0, 2.0, 3.0, 4.0], "float32")


class Scale(keras.layers.Layer):
    """Returns its weight, whatever the input."""

    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        start = keras.initializers.Constant(self.start)
        self.w = self.add_weight(shape=(4,), initializer=start, name="w")

    def call(self, inputs):
        return ops.zeros_like(inputs) + self.w


def quadratic(y_true, y_pred):
    """Half of the sum of a_i w_i^2, with the gradient a_i w_i."""
    return ops.sum(0.5 * ops.convert_to_tensor(SCALES) * ops.square(y_pred), axis=-1)


def trained_on_quadratic(sharpness, optimizer, steps=6, start=1.0, **options):
    inputs = keras.Input((4,))
    network = keras.Model(inputs, Scale(start)(inputs))
    model = training.RegularizedModel(network, sharpness=sharpness)
    model.compile(optimizer, quadratic, **options)
    zeros = np.zeros((2 * steps, 4), "float32")
    model.fit(zeros, zeros, batch_size=2, verbose=0)
    return to_numpy(network.weights[0])


def sharpened(w, sharpness):
    """The gradient of SAM and ASAM on the quadratic, in float64."""
    g, t = SCALES * w, np.abs(w) + sharpness.eta if sharpness.adaptive else 1.0
    return SCALES * (w + sharpness.rho * t * t * g / np.linalg.norm(t * g))


def scaled(optimizer):
    """Loss scaling: the gradients of both passes are 2^20 times as large."""
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**20)


@pytest.mark.parametrize("wrapped", [lambda optimizer: optimizer, scaled], ids=["", "scaled"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_quadratic_follows_the_closed_form(momentum, adaptive, wrapped):
    sharpness = training.SharpnessAware(0.5, adaptive=adaptive)
    found = trained_on_quadratic(sharpness, wrapped(keras.optimizers.SGD(0.1, momentum)))
    w, velocity = np.ones(4), np.zeros(4)
    for _ in range(6):
        velocity = momentum * velocity - 0.1 * sharpened(w, sharpness)
        w = w + velocity
    assert_close(found, w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False] if BACKEND == "torch" else [False, True])
def test_every_second_step_is_an_ordinary_one(jit_compile):
    sharpness = training.SharpnessAware(0.5, every=2)
    w = np.ones(4)
    for step in range(6):
        w = w - 0.1 * (SCALES * w if step % 2 else sharpened(w, sharpness))
    found = trained_on_quadratic(sharpness, keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    assert_close(found, w, rtol=1e-5, atol=1e-6)


def test_under_accumulation_each_batch_has_its_own_second_pass():
    sharpness = training.SharpnessAware(0.5)
    w = np.ones(4)
    for _ in range(3):  # two batches at the same weights: the mean of their gradients is the gradient of each
        w = w - 0.1 * sharpened(w, sharpness)
    found = trained_on_quadratic(sharpness, keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    assert_close(found, w, rtol=1e-5, atol=1e-6)


def test_the_optimizer_sees_the_second_gradient():
    inputs = keras.Input((4,))
    model = training.RegularizedModel(keras.Model(inputs, Scale()(inputs)), sharpness=training.SharpnessAware(0.5))
    model.compile(keras.optimizers.SGD(0.1), quadratic)
    watched = callbacks.GradientHistograms(every=1)
    model.fit(np.zeros((4, 4)), np.zeros((4, 4)), batch_size=2, verbose=0, callbacks=[watched])
    w = np.ones(4)
    for record in watched.history["gradients"]:
        gradient = sharpened(w, model.sharpness)
        assert_close(record["global_norm"], np.linalg.norm(gradient), rtol=1e-5)
        w = w - 0.1 * gradient
    assert len(watched.history["gradients"]) == 2


def test_rows_of_an_embedding():
    """Sparse gradients on TensorFlow. The rows of the batch follow the closed form, and the others stay."""
    inputs = keras.Input((2,), dtype="int32")
    start = keras.initializers.Constant(1.0)
    network = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Embedding(5, 2, start)(inputs)))
    model = training.RegularizedModel(network, sharpness=training.SharpnessAware(0.5))
    model.compile(keras.optimizers.SGD(0.1), quadratic)
    model.train_on_batch(np.array([[3, 1]]), np.zeros((1, 4)))
    w = np.ones(4) - 0.1 * sharpened(np.ones(4), model.sharpness)
    table = to_numpy(network.weights[0])
    assert_close(table[[3, 1]].reshape(-1), w, rtol=1e-5)
    assert (table[[0, 2, 4]] == 1).all()


def test_at_the_minimum_nothing_is_divided_by_zero():
    found = trained_on_quadratic(training.SharpnessAware(0.5), keras.optimizers.SGD(0.1), start=0.0)
    assert (found == 0).all()


@pytest.mark.parametrize("start", [1e-25, 1e25])
def test_squares_of_the_gradient_may_leave_the_range_of_float32(start):
    w = trained_on_quadratic(training.SharpnessAware(0.5 * start), keras.optimizers.SGD(0.1), steps=1, start=start)
    expected = np.ones(4) - 0.1 * sharpened(np.ones(4), training.SharpnessAware(0.5))
    assert_close(w / np.float64(start), expected, rtol=1e-5)


@only("jax", why="optax' SAM works on JAX's arrays.")
def test_optax_gives_the_same():
    optax = pytest.importorskip("optax")
    import jax

    w = jax.numpy.ones(4)
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.5))
    optimizer = optax.contrib.sam(optax.sgd(0.1), adversary, opaque_mode=True)
    state = optimizer.init(w)
    gradient = jax.grad(lambda w: (0.5 * SCALES * w * w).sum())
    for _ in range(6):
        updates, state = optimizer.update(gradient(w), state, w, grad_fn=lambda w, _: gradient(w))
        w = optax.apply_updates(w, updates)
    found = trained_on_quadratic(training.SharpnessAware(0.5), keras.optimizers.SGD(0.1))
    assert_close(found, np.asarray(w), rtol=1e-5)


def copied(variables):
    """The values as they are now. Arrays of PyTorch may share memory with their variable."""
    return [np.array(to_numpy(variable)) for variable in variables]


X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Y = np.arange(12) % 3


def network(dropout=0.0, seed=None):
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.Dense(8, "tanh"), keras.layers.BatchNormalization()]
    return keras.Sequential(
        [keras.Input((5,)), *hidden, keras.layers.Dropout(dropout, seed=seed), keras.layers.Dense(3)]
    )


def trained(sharpness, optimizer="sgd", dropout=0.0, seed=None, **options):
    made = network(dropout, seed)
    model = training.RegularizedModel(made, sharpness=sharpness)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **options)
    history = model.fit(X, Y, batch_size=6, epochs=2, shuffle=False, verbose=0).history
    return copied(made.weights), history


@pytest.mark.parametrize("seed", [None, 1])
def test_with_rho_0_it_is_the_plain_step_to_the_bit(seed):
    plain, history = trained(None, dropout=0.4, seed=seed)
    found, same = trained(training.SharpnessAware(0), dropout=0.4, seed=seed)
    assert history == same
    assert all((a == b).all() for a, b in zip(plain, found, strict=True))


@pytest.mark.parametrize("seed", [None, 1])
def test_masks_are_those_of_the_first_pass_and_statistics_move_once(seed):
    """At a tiny rho the second gradient is the first one, unless masks differ; statistics would move twice."""
    (plain, _), (found, _) = (trained(one, dropout=0.4, seed=seed) for one in (None, training.SharpnessAware(1e-6)))
    for a, b in zip(plain, found, strict=True):
        assert_close(a, b, atol=2e-5)


def test_the_gradient_is_that_of_a_step_by_hand():
    """One step on a network, against plain Keras at weights that were moved by hand."""
    rho, made = 0.5, network()
    before = copied(made.trainable_weights)

    def gradients(values):
        other = network()
        for weight, value in zip(other.trainable_weights, values, strict=True):
            weight.assign(value)
        other.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        other.train_on_batch(X, Y)
        return [value - to_numpy(weight) for value, weight in zip(values, other.trainable_weights, strict=True)]

    first = gradients(before)
    norm = np.sqrt(sum((g.astype("float64") ** 2).sum() for g in first))
    second = gradients([w + np.float32(rho) * g / np.float32(norm) for w, g in zip(before, first, strict=True)])
    model = training.RegularizedModel(made, sharpness=training.SharpnessAware(rho))
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(X, Y)
    for old, gradient, weight in zip(before, second, made.trainable_weights, strict=True):
        assert_close(to_numpy(weight), old - 0.1 * gradient, rtol=1e-4, atol=1e-5)
    assert max(abs(a - b).max() for a, b in zip(first, second, strict=True)) > 0.01


def test_an_overflow_skips_the_step_and_moves_nothing():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**40)
        made = network()
        model = training.RegularizedModel(made, sharpness=training.SharpnessAware(0.05))
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = copied(made.trainable_weights)
        model.train_on_batch(X, Y)
        assert all((a == to_numpy(b)).all() for a, b in zip(before, made.trainable_weights, strict=True))
        for _ in range(40):
            model.train_on_batch(X, Y)
        assert float(to_numpy(optimizer.dynamic_scale)) < 2.0**30
        assert any((a != to_numpy(b)).any() for a, b in zip(before, made.trainable_weights, strict=True))
        assert all(np.isfinite(to_numpy(weight)).all() for weight in made.weights)
    finally:
        keras.config.set_dtype_policy("float32")


def test_an_error_in_the_second_pass_leaves_the_weights():
    calls = []

    class Fails(keras.layers.Layer):
        def call(self, inputs):
            calls.append(None)
            if len(calls) > 1:
                raise RuntimeError("second pass")
            return inputs

    inputs = keras.Input((5,))
    made = keras.Sequential([inputs, keras.layers.Dense(3), keras.layers.Activation("linear")])
    model = training.RegularizedModel(made, sharpness=training.SharpnessAware(0.5))
    model.compile("sgd", "mse", run_eagerly=BACKEND != "jax")
    model.model.layers[-1].call = Fails().call
    before = copied(made.weights)
    with pytest.raises(RuntimeError, match="second pass"):
        model.fit(X, np.zeros((12, 3)), verbose=0)
    assert all((a == to_numpy(b)).all() for a, b in zip(before, made.weights, strict=True))
    assert isinstance(model.optimizer, keras.optimizers.SGD)


def test_frozen_weights_stay_and_sparse_gradients_work():
    inputs = keras.Input((4,), dtype="int32")
    frozen = keras.layers.Dense(6, trainable=False)
    outputs = keras.layers.Dense(3)(frozen(keras.layers.Flatten()(keras.layers.Embedding(20, 3)(inputs))))
    made = keras.Model(inputs, outputs)
    model = training.RegularizedModel(made, sharpness=training.SharpnessAware(0.5))
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = copied(made.weights)
    tokens = np.arange(12).reshape(3, 4)
    model.fit(tokens, np.arange(3), verbose=0)
    table, kernel = to_numpy(made.layers[1].embeddings), to_numpy(frozen.kernel)
    assert (table[:12] != before[0][:12]).any(axis=1).all() and (table[12:] == before[0][12:]).all()
    assert (kernel == before[1]).all()


def test_it_is_saved_and_loaded(tmp_path):
    model = training.RegularizedModel(network(), sharpness=training.SharpnessAware(0.1, True, 3, 0.5))
    model.compile("adam", "mse")
    model.fit(X, np.zeros((12, 3)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.sharpness.get_config() == {"rho": 0.1, "adaptive": True, "every": 3, "eta": 0.5}
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)


@pytest.mark.parametrize(
    "wrong", [{"rho": -0.1}, {"rho": float("nan")}, {"adaptive": "no"}, {"every": 0}, {"every": 1.5}, {"eta": -1}]
)
def test_bad_arguments(wrong):
    with raises_received(f"{next(iter(wrong))}="):
        training.SharpnessAware(**wrong)


def test_only_a_sharpness_is_accepted():
    with raises_received("sharpness=0.05"):
        training.RegularizedModel(network(), sharpness=0.05)


# A custom loop.


def gradients_of_tensorflow(model, x, y, sample_weight):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True), sample_weight)
    return tape.gradient(loss, model.trainable_variables)


def gradients_of_torch(model, x, y, sample_weight):
    model.zero_grad()
    model.compute_loss(x, y, model(x, training=True), sample_weight).backward()
    return [variable.value.grad for variable in model.trainable_variables]


def gradients_of_jax(model, x, y, sample_weight):
    import jax

    others = model.non_trainable_variables

    def loss(values):
        with keras.StatelessScope([*zip(model.trainable_variables, values, strict=True)]) as scope:
            found = model.compute_loss(x, y, model(x, training=True), sample_weight)
        return found, [scope.get_current_value(variable) for variable in others]

    gradients, moved = jax.grad(loss, has_aux=True)([variable.value for variable in model.trainable_variables])
    for variable, value in zip(others, moved, strict=True):
        if value is not None:
            variable.assign(value)
    return gradients


GRADIENTS = {"tensorflow": gradients_of_tensorflow, "torch": gradients_of_torch, "jax": gradients_of_jax}


@pytest.mark.parametrize("inside", [False, True], ids=["", "mix_at"])
def test_a_custom_loop_takes_the_steps_of_fit(inside):
    """Every second step is sharpened, statistics move once, and labels are mixed."""

    def made():
        keras.utils.set_random_seed(2)
        network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh", name="hidden")])
        for layer in (keras.layers.BatchNormalization(), keras.layers.Dense(3)):
            network.add(layer)
        parts = {"augmentation": layers.MixUp(0.5, seed=1), "mix_at": "hidden" if inside else None}
        parts |= {"penalties": [training.ConfidencePenalty(0.1)], "sharpness": training.SharpnessAware(0.5, every=2)}
        model = training.RegularizedModel(network, **parts)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1, 0.9), loss, run_eagerly=BACKEND == "tensorflow")
        return model

    x, y = np.random.default_rng(0).normal(size=(6, 5)).astype("float32"), np.arange(6) % 3
    model, other = made(), made()
    differ = []
    for _ in range(3):
        batch = model.augment(x, y)
        gradients = GRADIENTS[BACKEND](model, *batch)
        sharp = model.sharpened_gradients(gradients, *batch)
        differ.append(max(abs(to_numpy(a) - to_numpy(b)).max() for a, b in zip(sharp, gradients, strict=True)) > 1e-4)
        model.optimizer.apply(sharp, model.trainable_variables)
        other.train_on_batch(x, y)
    assert differ == [True, False, True]
    for found, expected in zip(model.model.weights, other.model.weights, strict=True):
        assert_close(to_numpy(found), to_numpy(expected), rtol=1e-4, atol=1e-6)


def test_gradients_for_a_custom_loop_are_one_per_weight():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = training.RegularizedModel(network)
    model.compile("sgd", "mse")
    assert model.sharpened_gradients([1, 2], np.ones((2, 4)), np.ones((2, 3))) == [1, 2]  # nothing to replace
    with raises_received("one entry per trainable variable, 2 in all"):
        model.sharpened_gradients([1], np.ones((2, 4)), np.ones((2, 3)))


def test_without_rho_or_gradients_there_is_no_second_pass():
    for rho, gradient in ((0.0, ops.ones(4)), (0.1, None)):
        network = keras.Sequential([keras.Input((4,)), Scale()])
        model = training.RegularizedModel(network, sharpness=training.SharpnessAware(rho))
        model.compile("sgd", quadratic)
        (found,) = model.sharpened_gradients([gradient], None)  # a pass would need inputs
        assert found is gradient
