"""Penalties: terms of the loss against NumPy, in the loss times their weight and in the logs."""

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, raises_received, to_numpy
from keras import ops

import keras_reg
from keras_reg import training


def copied(variables):
    """The values as they are now. Arrays of PyTorch may share memory with their variable."""
    return [np.array(to_numpy(variable)) for variable in variables]


X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Y = np.arange(12) % 3


def network(dropout=0.0, activation=None, units=3, hidden=True, seed=None):
    keras.utils.set_random_seed(3)
    inside = [
        keras.layers.Dense(8, "tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(dropout, seed=seed),
    ]
    parts = [keras.Input((5,)), *(inside if hidden else []), keras.layers.Dense(units, activation)]
    return keras.Sequential(parts)


def logs_of_a_step(penalty, made, loss="sparse_categorical_crossentropy", y=Y, sharpness=None, **options):
    model = training.RegularizedModel(made, penalties=[penalty], sharpness=sharpness)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model.train_on_batch(X, y, return_dict=True, **options)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(p, q):
    return (p * np.log(p / q)).sum(-1)


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_confidence_penalty_is_minus_the_entropy(from_logits):
    made = network(activation=None if from_logits else "softmax", hidden=False)
    outputs = made.predict(X, verbose=0).astype("float64")
    p = softmax(outputs) if from_logits else outputs
    penalty = training.ConfidencePenalty(keras_reg.Strength(0.7))
    logs = logs_of_a_step(penalty, made, keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
    term = (p * np.log(p)).sum(-1).mean()
    assert_close(logs["confidence_penalty"], term, rtol=1e-5)
    assert_close(logs["loss"], -np.log(p[np.arange(12), Y]).mean() + 0.7 * term, rtol=1e-5)


def test_outputs_without_a_last_axis_are_one_number_per_example():
    logs = []
    for shape in ((1,), ()):
        keras.utils.set_random_seed(3)
        parts = [keras.layers.Dense(1, "sigmoid"), keras.layers.Reshape(shape)]
        made = keras.Sequential([keras.Input((5,)), *parts])
        found = logs_of_a_step(training.ConfidencePenalty(0.7), made, "binary_crossentropy", Y > 1)
        logs.append({name: float(value) for name, value in found.items()})
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_r_drop_is_half_of_the_equation_of_the_paper():
    found = []

    class Seen(training.ConsistentDropout):
        def between(self, step, outputs, others):
            found.append((to_numpy(outputs), to_numpy(others)))
            return super().between(step, outputs, others)

    model = training.RegularizedModel(network(0.5, seed=1), penalties=[Seen(0.6, name="drop")])
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    y_pred = model(X, training=True)
    before = copied(model.non_trainable_variables)
    loss = model.compute_loss(X, Y, y_pred)
    first, second = (softmax(z.astype("float64")) for z in found[0])
    losses = sum(-np.log(p[np.arange(12), Y]).mean() for p in (first, second))
    paper = losses + 0.6 / 2 * (divergence(first, second).mean() + divergence(second, first).mean())
    assert_close(loss, paper / 2, rtol=1e-5)
    assert abs(first - second).max() > 0.01
    moved = [(a != to_numpy(b)).any() for a, b in zip(before, model.non_trainable_variables, strict=True)]
    is_seed = [a.dtype.kind in "iu" for a in before]
    assert [bool(one) for one in moved[: len(is_seed)]] == is_seed  # seeds pass the second pass, statistics stay


def test_its_seeds_are_one_pass_further():
    """Compiled: one step leaves the seeds of two plain steps, so that the next masks are new."""
    made, plain = network(0.5, seed=1), network(0.5, seed=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    logs_of_a_step(training.ConsistentDropout(), made, loss)
    plain.compile(keras.optimizers.SGD(0.1), loss)
    statistics = []
    for _ in range(2):
        plain.train_on_batch(X, Y)
        statistics.append(copied(plain.layers[1].non_trainable_weights))
    seeds = [copied(one.layers[2].variables)[0] for one in (made, plain)]
    assert (seeds[0] == seeds[1]).all()
    for found, once in zip(copied(made.layers[1].non_trainable_weights), statistics[0], strict=True):
        assert (found == once).all()


def test_a_network_without_random_layers_is_refused():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with raises_received("`ConsistentDropout` needs", "model="):
        logs_of_a_step(training.ConsistentDropout(), network(), loss)


def test_for_binary_logistic_regression_the_direction_is_that_of_the_weights():
    made = network(activation="sigmoid", units=1, hidden=False)
    w, b = (to_numpy(weight).astype("float64") for weight in made.weights)
    penalty = training.VirtualAdversarial(0.5, seed=1)
    logs = logs_of_a_step(penalty, made, "binary_crossentropy", (Y[:, None] % 2).astype("float32"))

    def p(x):
        p = 1 / (1 + np.exp(-(x @ w + b)))
        return np.concatenate([p, 1 - p], axis=-1)

    both = [divergence(p(X), p(X + sign * 0.5 * w[:, 0] / np.linalg.norm(w))) for sign in (1, -1)]
    assert np.minimum(*both).mean() <= logs["virtual_adversarial"] * (1 + 1e-5)
    assert logs["virtual_adversarial"] * (1 - 1e-5) <= np.maximum(*both).mean()


@pytest.mark.parametrize("penalty", [training.VirtualAdversarial(0.5), training.ConsistentDropout()])
def test_losses_that_are_no_classification_are_refused(penalty):
    with raises_received("`divergence`", "output="):
        logs_of_a_step(penalty, network(0.5, units=1), "mse", np.zeros((12, 1), "float32"))


def test_what_outputs_mean_is_read_from_the_loss_then_from_the_layer_or_stated():
    """A loss that does not tell: the last activation does, or the argument."""

    def brier(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    y = np.eye(3, dtype="float32")[Y]
    for activation, from_logits in (("softmax", None), (None, True)):
        made = network(activation=activation, hidden=False)
        outputs = made.predict(X, verbose=0).astype("float64")
        p = outputs if activation else softmax(outputs)
        logs = logs_of_a_step(training.ConfidencePenalty(from_logits=from_logits), made, brier, y)
        assert_close(logs["confidence_penalty"], (p * np.log(p)).sum(-1).mean(), rtol=1e-5)
    with raises_received("`from_logits`", "output="):
        logs_of_a_step(training.ConfidencePenalty(), network(hidden=False), brier, y)


def test_outputs_of_a_subclassed_network():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.heads = [keras.layers.Dense(3), keras.layers.Dense(2)]

        def call(self, inputs):
            return [head(inputs) for head in self.heads]

    made = Two()
    loss = [keras.losses.SparseCategoricalCrossentropy(from_logits=True) for _ in range(2)]
    outputs = [to_numpy(output).astype("float64") for output in made(X)]
    entropies = [-(softmax(z) * np.log(softmax(z))).sum(-1).mean() for z in outputs]
    logs = logs_of_a_step(training.ConfidencePenalty(), made, loss, [Y, Y % 2])
    assert_close(logs["confidence_penalty"], -sum(entropies), rtol=1e-5)


def test_a_penalty_of_your_own():
    class SmallOutputs(training.Penalty):
        def compute(self, step, x, y, y_pred, sample_weight):
            again = step.run(x)
            return ops.mean(ops.square(y_pred)) + ops.mean(ops.abs(again - y_pred))

    made = network(hidden=False)
    expected = (made.predict(X, verbose=0).astype("float64") ** 2).mean()
    assert_close(logs_of_a_step(SmallOutputs(), made, "mse", np.zeros((12, 3)))["small_outputs"], expected, rtol=1e-5)


def test_names_differ():
    with raises_received("different names", "penalties="):
        training.RegularizedModel(network(), penalties=[training.ConfidencePenalty(), training.ConfidencePenalty()])


class WithAnImpossibleClass(keras.layers.Layer):
    """Appends a logit of -inf."""

    def call(self, z):
        return ops.concatenate([z, ops.full_like(z[:, :1], float("-inf"))], axis=-1)

    def compute_output_spec(self, z):
        return keras.KerasTensor((z.shape[0], z.shape[1] + 1), z.dtype)


PENALTIES = {
    "ConfidencePenalty": lambda: training.ConfidencePenalty(0.1),
    "ConsistentDropout": lambda: training.ConsistentDropout(),
    "VirtualAdversarial": lambda: training.VirtualAdversarial(0.5, seed=1),
    "JensenShannonConsistency": lambda: training.JensenShannonConsistency(
        keras_reg.layers.RandomGaussianNoise(0.5, rate=1.0, seed=1)
    ),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_class_that_is_impossible_has_no_share_in_the_penalty(name):
    """0 * log 0 is 0, in the penalty and in its gradient."""
    logs, weights = [], []
    for last in ([WithAnImpossibleClass()], []):
        keras.utils.set_random_seed(3)
        parts = [keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.5, seed=2), keras.layers.Dense(2), *last]
        made = keras.Sequential([keras.Input((5,)), *parts])
        loss = keras_reg.losses.LabelSmoothingCrossentropy(0.0, from_logits=True)
        logs.append(logs_of_a_step(PENALTIES[name](), made, loss, Y % 2))
        weights.append(made.get_weights())
    assert logs[0].keys() == logs[1].keys()
    for key, value in logs[1].items():
        assert_close(logs[0][key], value, rtol=1e-3, atol=1e-6)
    for found, expected in zip(*weights, strict=True):
        assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_a_penalty_as_an_augmentation():
    with raises_received("Pass it in `penalties`", "augmentation='confidence_penalty'"):
        training.RegularizedModel(network(), training.ConfidencePenalty())


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_a_penalty_of_your_own_in_another_dtype(policy, set_dtype_policy):
    if policy == "float64" and BACKEND == "jax":
        pytest.skip("JAX computes in float32 unless it is told otherwise.")
    set_dtype_policy(policy)

    class SmallOutputs(training.Penalty):
        def compute(self, step, x, y, y_pred, sample_weight):
            return ops.mean(ops.square(y_pred))

    made = network()
    expected = np.square(to_numpy(made(X, training=True)).astype("float64")).mean()
    logs = logs_of_a_step(SmallOutputs(0.5), made, "mse", np.zeros((12, 3), "float32"))
    assert_close(logs["small_outputs"], expected, rtol=1e-2)
    assert_close(logs["loss"], 1.5 * expected, rtol=1e-2)
