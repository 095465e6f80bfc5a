"""VirtualAdversarial: the direction against eigenvectors and weights, the term against NumPy."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, raises_received, to_numpy
from keras import ops

from keras_reg import training

X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Y = np.arange(12) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)


def linear(units, activation=None, seed=3):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5,))
    return keras.Model(inputs, keras.layers.Dense(units, activation)(inputs))


def deep(dropout=0.5, seed=1):
    keras.utils.set_random_seed(3)
    inside = [
        keras.layers.Dense(8, "tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(dropout, seed=seed),
    ]
    return keras.Sequential([keras.Input((5,)), *inside, keras.layers.Dense(3)])


def pass_of(penalty, made, loss, x=X, y=Y, **options):
    """The term of an eager call, and the inputs of the last pass."""
    seen = []

    class Seen(training.VirtualAdversarial):
        def compute(self, step, x, *others):
            run = step.run

            def kept(x, **how):
                seen.append(x)
                return run(x, **how)

            step.run = kept
            return super().compute(step, x, *others)

    Seen.__name__ = "VirtualAdversarial"  # the first directions depend on the name
    config = {**penalty.get_config(), "name": "term"}
    model = training.RegularizedModel(made, penalties=[Seen.from_config(config)], **options)
    model.compile(keras.optimizers.SGD(0.0), loss)
    y_pred = model(x, training=True)
    total = model.compute_loss(x, y, y_pred)
    plain = model.compute_plain_loss(x, y, y_pred)
    return float(to_numpy(total)) - float(to_numpy(plain)), keras.tree.map_structure(to_numpy, seen[-1])


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def divergence(p, q):
    return (p * np.log(p / q)).sum(-1).mean()


def bernoulli(p, q):
    return (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(-1).mean()


def cosines(found, expected):
    found, expected = found.astype("float64"), expected.astype("float64")
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return np.abs((found * expected).sum(-1)) / norms


def test_the_direction_is_the_top_eigenvector_of_a_linear_softmax():
    made = linear(3)
    w, b = (to_numpy(weight).astype("float64") for weight in made.weights)
    term, moved = pass_of(training.VirtualAdversarial(0.3, iterations=50, seed=1), made, LOSS)
    r = moved.astype("float64") - X
    p = softmax(X @ w + b)
    hessians = np.stack([w @ (np.diag(row) - np.outer(row, row)) @ w.T for row in p])
    top = np.linalg.eigh(hessians)[1][:, :, -1]
    assert_close(np.linalg.norm(r, axis=-1), np.full(12, 0.3), rtol=1e-5)
    assert cosines(r, top).min() > 1 - 1e-4
    assert_close(term, divergence(p, softmax(moved.astype("float64") @ w + b)), rtol=1e-3)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_step_finds_the_weights_of_binary_logistic_regression(activation):
    x = X * (np.arange(12) > 0)[:, None]  # an example of zeros has a direction, too
    made = linear(1, activation)
    w, b = (to_numpy(weight).astype("float64") for weight in made.weights)
    loss = BINARY if activation is None else "binary_crossentropy"
    y = (Y[:, None] % 2).astype("float32")
    term, moved = pass_of(training.VirtualAdversarial(0.5, seed=1), made, loss, x.astype("float32"), y)
    r = moved.astype("float64") - x
    assert_close(np.linalg.norm(r, axis=-1), np.full(12, 0.5), rtol=1e-5)
    assert cosines(r, np.tile(w[:, 0], (12, 1))).min() > 1 - 1e-5
    assert_close(term, bernoulli(sigmoid(x @ w + b), sigmoid(moved.astype("float64") @ w + b)), rtol=1e-3)


def test_half_precision_finds_it_too_in_a_large_batch(set_dtype_policy):
    set_dtype_policy("mixed_float16")
    x = np.random.default_rng(1).normal(size=(2048, 5)).astype("float32")
    made = linear(1)
    y = np.zeros((2048, 1), "float32")
    _, moved = pass_of(training.VirtualAdversarial(0.5, seed=1), made, BINARY, x, y)
    found = cosines(moved - x, np.tile(to_numpy(made.weights[0])[:, 0], (2048, 1)))
    assert np.quantile(found, 0.02) > 0.99


def test_sigmoid_outputs_are_independent():
    made = linear(3, "sigmoid")
    w, b = (to_numpy(weight).astype("float64") for weight in made.weights)
    y = np.eye(3, dtype="float32")[Y]
    term, moved = pass_of(training.VirtualAdversarial(0.5, seed=1), made, "binary_crossentropy", y=y)
    assert_close(term, bernoulli(sigmoid(X @ w + b), sigmoid(moved.astype("float64") @ w + b)), rtol=1e-3)


def test_outputs_are_summed():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    made = keras.Model(inputs, {name: keras.layers.Dense(3, name=name)(inputs) for name in "ab"})
    term, moved = pass_of(training.VirtualAdversarial(0.5, seed=1), made, {"a": LOSS, "b": LOSS}, y={"a": Y, "b": Y})
    before, after = ({name: softmax(to_numpy(z)) for name, z in made(x).items()} for x in (X, moved))
    assert_close(term, sum(divergence(before[name], after[name]) for name in "ab"), rtol=1e-3)


def test_the_augmented_input_is_perturbed():
    keras.utils.set_random_seed(3)
    inputs = {name: keras.Input((5,), name=name) for name in "ab"}
    made = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([inputs["a"], inputs["b"]])))
    x = {"a": X, "b": -X}
    _, moved = pass_of(training.VirtualAdversarial(0.5, seed=1), made, LOSS, x, augmented_input="b")
    assert (moved["a"] == X).all()
    assert_close(np.linalg.norm(moved["b"] + X, axis=-1), np.full(12, 0.5), rtol=1e-5)


def test_seeds_repeat_and_draws_differ():
    first, second, third = (pass_of(training.VirtualAdversarial(0.5, seed=s), deep(0.0), LOSS)[1] for s in (1, 1, 2))
    assert (first == second).all() and (first != third).any()


def step_of(made, penalties=(), sharpness=None, sample_weight=None, steps=1, rate=0.0, y=Y, loss=LOSS, x=X):
    model = training.RegularizedModel(made, penalties=penalties, sharpness=sharpness)
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    for _ in range(steps):
        logs = model.train_on_batch(x, y, sample_weight=sample_weight, return_dict=True)
    return logs


def test_statistics_and_seeds_are_those_of_a_plain_step():
    plain, made = deep(), deep()
    step_of(plain, steps=2)
    step_of(made, [training.VirtualAdversarial(0.5, iterations=2)], steps=2)
    for a, b in zip(plain.non_trainable_variables, made.non_trainable_variables, strict=True):
        assert (to_numpy(a) == to_numpy(b)).all()


@pytest.mark.parametrize("seed", [None, 1])
def test_all_passes_use_the_masks_of_the_first(seed):
    """At a tiny epsilon, outputs are the same unless masks differ."""
    logs = step_of(deep(seed=seed), [training.VirtualAdversarial(1e-3), training.ConsistentDropout()])
    assert logs["virtual_adversarial"] < 1e-5 < 0.01 < logs["consistent_dropout"]


def test_examples_of_sample_weight_0_count():
    penalties = [training.VirtualAdversarial(0.5, seed=1)]
    made = deep(0.0)
    before = np.array(to_numpy(made.weights[0]))
    logs = step_of(made, penalties, sample_weight=np.zeros(12), rate=1.0)
    assert logs["virtual_adversarial"] > 1e-4
    assert_close(logs["loss"], logs["virtual_adversarial"], rtol=1e-5)
    assert (to_numpy(made.weights[0]) != before).any()


def test_the_outputs_of_the_first_pass_are_constant():
    """The gradient of the bias is the mean of q - p, where p has no gradient."""
    y = (Y[:, None] % 2).astype("float32")
    made = linear(1)
    w, b = (to_numpy(weight).astype("float64") for weight in made.weights)
    _, moved = pass_of(training.VirtualAdversarial(2.0, seed=1), made, BINARY, y=y)
    p, q = (sigmoid(x.astype("float64") @ w + b) for x in (X, moved))
    penalties = [training.VirtualAdversarial(2.0, seed=1)]
    step_of(made, penalties, sample_weight=np.zeros(12), rate=1.0, y=y, loss=BINARY)
    assert_close(to_numpy(made.weights[1]), b - (q - p).mean(), atol=2e-4)


def test_integers_are_refused():
    inputs = keras.Input((4,), dtype="int32")
    made = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Embedding(20, 3)(inputs))))
    with raises_received("float dtype", "dtype='int32'"):
        step_of(made, [training.VirtualAdversarial(0.5)], x=np.arange(12, dtype="int32").reshape(3, 4), y=Y[:3])


def test_a_divergence_serves_other_losses():
    made = linear(2)
    w = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 2)))[0] * [2.0, 0.5]
    made.set_weights([w, np.zeros(2)])
    penalty = training.VirtualAdversarial(0.5, iterations=5, divergence=keras.losses.mean_squared_error, seed=1)
    term, moved = pass_of(penalty, made, "mse", y=np.zeros((12, 2), "float32"))
    assert_close(term, (((moved - X) @ w) ** 2).mean(), rtol=1e-3)
    assert_close(term, 0.25 * 2.0**2 / 2, rtol=1e-3)  # the largest change of a linear map


@pytest.mark.parametrize("part", ["VirtualAdversarial", "ConsistentDropout", "SharpnessAware"])
def test_losses_of_layers_count_once(part):
    class Adds(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(3.0 + 0.0 * ops.sum(inputs))
            return inputs

    def made():
        return keras.Sequential([keras.Input((5,)), Adds(), deep(0.5)])

    cls = getattr(training, part)
    plain = step_of(made())["loss"]
    if part == "SharpnessAware":
        assert_close(step_of(made(), sharpness=cls())["loss"], plain, rtol=1e-6)
    else:
        logs = step_of(made(), [cls(0.5) if part == "VirtualAdversarial" else cls(0.0)])
        if part == "VirtualAdversarial":
            assert_close(logs["loss"] - logs["virtual_adversarial"], plain, rtol=1e-5)
        else:  # the mean of the losses of two masks, and 3 once
            assert 3 < logs["loss"] < 6


def test_an_error_leaves_nothing_behind():
    class Fails(training.Penalty):
        def compute(self, step, x, y, y_pred, sample_weight):
            step.run(x)
            raise RuntimeError("in the penalty")

    made = deep()
    model = training.RegularizedModel(made, penalties=[Fails()], sharpness=training.SharpnessAware())
    model.compile("sgd", LOSS, run_eagerly=BACKEND != "jax")
    before = [np.array(to_numpy(weight)) for weight in made.trainable_variables]
    optimizer = model.optimizer
    with pytest.raises(RuntimeError, match="in the penalty"):
        model.train_on_batch(X, Y)
    for a, b in zip(before, made.trainable_variables, strict=True):
        assert (a == to_numpy(b)).all()
    assert model.optimizer is optimizer
    model.penalties.clear()
    model.compile("sgd", LOSS, run_eagerly=BACKEND != "jax")
    assert np.isfinite(model.train_on_batch(X, Y)).all()
