"""What optimizers remember, across the borders of phases: against steps computed by hand, in rate-free form."""

import keras
import numpy as np
import pytest
from harness import assert_close, fewer, raises_received, to_numpy

import keras_reg
from keras_reg.transfer import Phase, TransferLearner

SEVERAL = hasattr(keras.optimizers, "MultiOptimizer")
several = pytest.mark.skipif(not SEVERAL, reason="This Keras has no MultiOptimizer.")
X = np.array([[1.0, -0.5], [0.3, 0.8], [-0.7, 0.4], [0.2, 0.1]], "float32")
Y = np.array([[0.7], [-0.2], [0.4], [0.1]], "float32")
START = {"first": np.array([[0.5, -0.3], [0.2, 0.4]]), "second": np.array([[0.6, 0.1], [-0.2, 0.7]]),
         "head": np.array([[0.8], [-0.5]])}  # fmt: skip
TRAINED = {None: ["head"], "second": ["second", "head"], "all": ["first", "second", "head"]}


def learner(**arguments):
    """Three matrices, one after the other: (x @ first @ second) @ head."""
    dense = [keras.layers.Dense(2, use_bias=False, name=name) for name in ("first", "second")]
    backbone = keras.Sequential([keras.Input((2,)), *dense], name="backbone")
    made = TransferLearner(backbone, keras.layers.Dense(1, use_bias=False, name="head"), loss="mse", **arguments)
    made.model.set_weights(list(START.values()))
    return made


def trained(phases, **arguments):
    made = learner(**arguments)
    made.fit((X, Y), phases=phases, batch_size=4, shuffle=False, verbose=0)
    return dict(zip(START, made.model.get_weights(), strict=True))


def gradients(weights):
    """Of the mean squared error, by the chain rule."""
    hidden = X @ weights["first"]
    features = hidden @ weights["second"]
    error = 2 * (features @ weights["head"] - Y) / len(X)
    back = error @ weights["head"].T
    return {"first": X.T @ (back @ weights["second"].T), "second": hidden.T @ back, "head": features.T @ error}


class ByHand:
    """Steps of one weight from what the papers say, where the rate multiplies what is remembered and is not in it."""

    def __init__(self, kind, **settings):
        self.kind, self.settings = kind, settings
        self.t = self.m = self.v = 0.0

    def step(self, w, g, rate):
        self.t += 1
        return getattr(self, self.kind)(w, g, rate, **self.settings)

    def sgd(self, w, g, rate, momentum=0.9, nesterov=False):
        self.m = momentum * self.m + g
        return w - rate * (g + momentum * self.m if nesterov else self.m)

    def rmsprop(self, w, g, rate, rho=0.9, momentum=0.9, eps=1e-7):
        self.v = rho * self.v + (1 - rho) * g**2
        self.m = momentum * self.m + g / np.sqrt(self.v + eps)
        return w - rate * self.m

    def adam(self, w, g, rate, b1=0.9, b2=0.999, eps=1e-7, decay=0.0):
        w = w * (1 - decay * rate)
        self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g**2
        rate = rate * np.sqrt(1 - b2**self.t) / (1 - b1**self.t)
        return w - rate * self.m / (np.sqrt(self.v) + eps)

    def nadam(self, w, g, rate, b1=0.9, b2=0.999, eps=1e-7):
        u, u_next = (b1 * (1 - 0.5 * 0.96 ** (self.t + i)) for i in (0, 1))
        self.product = getattr(self, "product", 1.0) * u
        self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g**2
        m = u_next * self.m / (1 - self.product * u_next) + (1 - u) * g / (1 - self.product)
        return w - rate * m / (np.sqrt(self.v / (1 - b2**self.t)) + eps)

    def adagrad(self, w, g, rate, eps=1e-7):
        self.v = (self.v if self.t > 1 else 0.1) + g**2
        return w - rate * g / np.sqrt(self.v + eps)


def by_hand(kind, stages, forget=False, factors=None, **settings):
    """`stages`: [(what trains, function of the step to the rate, steps)]; `forget`: afresh in each stage."""
    weights = {name: value.copy() for name, value in START.items()}
    steps = {name: ByHand(kind, **settings) for name in weights}
    for unfreeze, rate, count in stages:
        if forget:
            steps = {name: ByHand(kind, **settings) for name in weights}
        for number in range(count):
            found = gradients(weights)
            for name in TRAINED[unfreeze]:
                factor = (factors or {}).get(name, 1.0)
                weights[name] = steps[name].step(weights[name], found[name], rate(number) * factor)
    return weights


OPTIMIZERS = {
    "momentum": (lambda rate: keras.optimizers.SGD(rate, momentum=0.9), "sgd", {}),
    "nesterov": (lambda rate: keras.optimizers.SGD(rate, momentum=0.8, nesterov=True), "sgd",
                 {"momentum": 0.8, "nesterov": True}),
    "rmsprop": (lambda rate: keras.optimizers.RMSprop(rate, momentum=0.9), "rmsprop", {}),
    "adagrad": (lambda rate: keras.optimizers.Adagrad(rate), "adagrad", {}),
    "adam": (lambda rate: keras.optimizers.Adam(rate), "adam", {}),
    "adamw": (lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.5), "adam", {"decay": 0.5}),
    "nadam": (lambda rate: keras.optimizers.Nadam(rate), "nadam", {}),
}  # fmt: skip
COUNT_STEPS = ("adam", "adamw", "nadam")


def stages(optimizer, rates=(0.05, 0.01, 0.02), cache="auto"):
    """Gradual unfreezing, as phases and as stages by hand."""
    plan = [(None, rates[0], 7), ("second", rates[1], 4), ("all", rates[2], 3)]
    phases = [
        Phase(f"unfreeze {what}", steps, unfreeze=what, optimizer=optimizer(rate), cache_features=cache)
        for what, rate, steps in plan
    ]
    return phases, [(what, lambda step, rate=rate: rate, steps) for what, rate, steps in plan]


@pytest.mark.parametrize("name", fewer(OPTIMIZERS, ["momentum", "adam"]))
def test_gradual_unfreezing_equals_steps_by_hand(name):
    make, kind, settings = OPTIMIZERS[name]
    phases, plan = stages(make)
    # Where Keras has no MultiOptimizer, those that count steps start afresh, and so does the reference.
    expected = by_hand(kind, plan, forget=not SEVERAL and name in COUNT_STEPS, **settings)
    assert_close(trained(phases), expected, rtol=2e-5, atol=2e-6)
    wrong = by_hand(kind, plan, forget=SEVERAL or name not in COUNT_STEPS, **settings)
    assert np.abs(wrong["head"] - expected["head"]).max() > 1e-3  # what forgetting would do would be seen


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_without_several_optimizers(name, monkeypatch):
    """SGD goes on in one; Adam starts with a new state for all weights: new slots under old steps would be wrong."""
    monkeypatch.delattr(keras.optimizers, "MultiOptimizer", raising=False)
    make, kind, settings = OPTIMIZERS[name]
    phases, plan = stages(make)
    assert_close(trained(phases), by_hand(kind, plan, forget=name == "adam", **settings), rtol=2e-5, atol=2e-6)


def test_the_same_without_cached_features():
    make, kind, settings = OPTIMIZERS["momentum"]
    phases, plan = stages(make, cache=False)
    assert_close(trained(phases), by_hand(kind, plan, **settings), rtol=2e-5, atol=2e-6)


@keras.saving.register_keras_serializable(package="tests_transfer")
def constant_rate():
    return 0.05


def test_a_rate_may_be_a_function(capsys):
    optimizer = keras.optimizers.SGD(constant_rate, momentum=0.9)
    phases = [Phase("warm up", 5, optimizer=optimizer), Phase("all", 3, unfreeze="all", optimizer=optimizer)]
    made = learner()
    made.fit((X, Y), phases=phases, batch_size=4, shuffle=False, verbose=2)
    expected = by_hand("sgd", [(None, lambda step: 0.05, 5), ("all", lambda step: 0.05, 3)])
    assert_close(dict(zip(START, made.model.get_weights(), strict=True)), expected, rtol=2e-5, atol=2e-6)
    assert capsys.readouterr().out.count("at 0.05, then by a function") == 2


def test_another_kind_starts_afresh(capsys):
    phases = [
        Phase("warm up", 5, optimizer=keras.optimizers.SGD(0.05, momentum=0.9)),
        Phase("all", 3, unfreeze="all", optimizer=keras.optimizers.Adam(0.01)),
    ]
    middle = by_hand("sgd", [(None, lambda step: 0.05, 5)])
    made = learner()
    made.fit((X, Y), phases=phases, batch_size=4, shuffle=False, verbose=2)
    weights, steps = middle, {name: ByHand("adam") for name in START}
    for _ in range(3):
        found = gradients(weights)
        weights = {name: steps[name].step(weights[name], found[name], 0.01) for name in START}
    assert_close(dict(zip(START, made.model.get_weights(), strict=True)), weights, rtol=2e-5, atol=2e-6)
    assert "Adam starts with a new state for all weights" in capsys.readouterr().out


SCHEDULED = [(None, 0.05, 4), ("second", 0.02, 4), ("all", 0.01, 3)]  # what trains, first rate, steps


def scheduled(optimizer, **arguments):
    def decay(rate):
        return keras.optimizers.schedules.ExponentialDecay(rate, decay_steps=1, decay_rate=0.5)

    return [
        Phase(f"unfreeze {what}", steps, unfreeze=what, optimizer=optimizer(decay(rate), **arguments))
        for what, rate, steps in SCHEDULED
    ]


@several
def test_a_schedule_starts_with_its_phase():
    """Not at the step that the optimizer has reached, although Adam's own count goes on."""
    plan = [(what, lambda step, rate=rate: rate * 0.5**step, steps) for what, rate, steps in SCHEDULED]
    assert_close(trained(scheduled(keras.optimizers.Adam)), by_hand("adam", plan), rtol=2e-5, atol=2e-6)


@several
def test_a_schedule_and_velocities():
    """They are scaled from the last rate of a phase to the first of the next; within one they are as Keras has them."""
    weights = {name: value.copy() for name, value in START.items()}
    velocities = dict.fromkeys(START, 0.0)
    last = None
    for what, rate, steps in SCHEDULED:
        velocities = {name: value * (rate / last if last else 1) for name, value in velocities.items()}
        for step in range(steps):
            last = rate * 0.5**step
            found = gradients(weights)
            for name in TRAINED[what]:
                velocities[name] = 0.9 * velocities[name] - last * found[name]
                weights[name] = weights[name] + velocities[name]
    assert_close(trained(scheduled(keras.optimizers.SGD, momentum=0.9)), weights, rtol=2e-5, atol=2e-6)


def test_weight_decay_leaves_frozen_weights_alone():
    phases, _ = stages(OPTIMIZERS["adamw"][0])
    after = trained(phases[:2])
    assert np.array_equal(after["first"], START["first"].astype("float32"))
    assert not np.allclose(after["second"], START["second"])


def test_what_is_excluded_from_weight_decay_stays_so():
    def remembered(optimizer):
        return {name: len(value) for name, value in vars(optimizer).items() if isinstance(value, dict) and value}

    made = learner()
    optimizer = keras.optimizers.SGD(1e-9, weight_decay=1e8)  # decays by a tenth a step, and learns nothing
    optimizer.exclude_from_weight_decay(var_list=[made.model.get_layer("head").kernel])
    made.fit((X, Y), phases=[Phase("all", 1, unfreeze="all", optimizer=optimizer)], verbose=0)
    after = dict(zip(START, made.model.get_weights(), strict=True))
    assert_close(after["first"], 0.9 * START["first"], rtol=1e-5)
    assert_close(after["head"], START["head"], rtol=1e-5)
    # Excluded by name, in every phase and at every rate; and the user's optimizer is left as it was.
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    kept = remembered(optimizer)
    phases = [
        Phase(f"at {d}", 1, unfreeze="all", optimizer=optimizer, layer_decay=d) for d in (None, 0.5)[: 1 + SEVERAL]
    ]
    made.fit((X, Y), phases=phases, verbose=0)
    for weight, value in zip(made.model.get_weights(), after.values(), strict=True):
        assert_close(weight, value, rtol=1e-5)
    assert remembered(optimizer) == kept


def test_a_keras_that_does_not_tell_what_is_excluded(monkeypatch):
    optimizer = OPTIMIZERS["adamw"][0](0.1)
    monkeypatch.delattr(next(c for c in type(optimizer).__mro__ if "_use_weight_decay" in vars(c)), "_use_weight_decay")
    with raises_received("weight_decay=0.5"):
        trained([Phase("all", 1, unfreeze="all", optimizer=optimizer)])


def test_moving_averages_of_weights():
    """New averages start from the weights, not from 0, also beside old ones."""

    def make(rate):
        return keras.optimizers.SGD(rate, use_ema=True, ema_momentum=0.5)

    phases = [Phase("warm up", 2, optimizer=make(0.05)), Phase("all", 2, unfreeze="all", optimizer=make(0.01))]
    weights = {name: value.copy() for name, value in START.items()}
    for names, rate in ((["head"], 0.05), (list(START), 0.01)):
        averages = dict(weights)
        for number in range(2):
            found = gradients(weights)
            for name in names:
                weights[name] = weights[name] - rate * found[name]
                # Keras takes the weight itself as the first average of an optimizer that has made no step.
                first = number == 0 and (names == ["head"])
                averages[name] = weights[name] if first else 0.5 * averages[name] + 0.5 * weights[name]
        weights = averages
    assert_close(trained(phases), weights, rtol=2e-5, atol=2e-6)


def test_gradient_accumulation_starts_anew_in_each_phase():
    def make(rate):
        return keras.optimizers.SGD(rate, momentum=0.9, gradient_accumulation_steps=2)

    phases = [Phase("warm up", 3, optimizer=make(0.05)), Phase("all", 4, unfreeze="all", optimizer=make(0.01))]
    # One update from two equal gradients is one from their mean; the third of the first phase is not used.
    plan = [(None, lambda step: 0.05, 1), ("all", lambda step: 0.01, 2)]
    assert_close(trained(phases), by_hand("sgd", plan), rtol=2e-5, atol=2e-6)


# Rates by depth.

FACTORS = {"head": 1.0, "second": 0.5, "first": 0.25}


@several
@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_layer_decay_equals_steps_by_hand(name):
    make, kind, settings = OPTIMIZERS[name]
    phases = [
        Phase("warm up", 4, optimizer=make(0.05)),
        Phase("all", 4, unfreeze="all", optimizer=make(0.02), layer_decay=0.5),
        Phase("on", 3, unfreeze="all", optimizer=make(0.01), layer_decay=0.5),
    ]
    plan = [(None, lambda step: 0.05, 4), ("all", lambda step: 0.02, 4), ("all", lambda step: 0.01, 3)]
    assert_close(trained(phases), by_hand(kind, plan, factors=FACTORS, **settings), rtol=2e-5, atol=2e-6)


@several
def test_layer_decay_with_a_schedule_and_with_exponential_lr():
    def by_schedule():
        rate = keras.optimizers.schedules.ExponentialDecay(0.02, decay_steps=1, decay_rate=0.7)
        return Phase("all", 4, unfreeze="all", optimizer=keras.optimizers.SGD(rate, momentum=0.9), layer_decay=0.5)

    def by_callback():
        optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
        callbacks = [keras_reg.callbacks.ExponentialLR(0.7)]
        return Phase("all", 4, unfreeze="all", optimizer=optimizer, layer_decay=0.5, callbacks=callbacks)

    # With the rate inside of the velocity, as Keras has it, while it changes within a phase.
    weights = {name: value.copy() for name, value in START.items()}
    velocities = dict.fromkeys(START, 0.0)
    for step in range(4):
        found = gradients(weights)
        for name, factor in FACTORS.items():
            velocities[name] = 0.9 * velocities[name] - 0.02 * 0.7**step * factor * found[name]
            weights[name] = weights[name] + velocities[name]
    for phase in (by_schedule(), by_callback()):
        assert_close(trained([phase]), weights, rtol=2e-5, atol=2e-6)


@several
def test_layer_decay_under_mixed_precision(set_dtype_policy):
    set_dtype_policy("mixed_float16")
    make, kind, settings = OPTIMIZERS["momentum"]
    phases = [
        Phase("warm up", 4, optimizer=make(0.3)),
        Phase("all", 4, unfreeze="all", optimizer=make(0.3), layer_decay=0.5),
    ]
    made = learner()
    made.fit((X, Y), phases=phases, batch_size=4, shuffle=False, verbose=0)
    after = dict(zip(START, made.model.get_weights(), strict=True))
    assert all(value.dtype == "float32" for value in after.values())
    plan = [(None, lambda step: 0.3, 4), ("all", lambda step: 0.3, 4)]
    expected = by_hand(kind, plan, factors=FACTORS, **settings)
    assert_close(after, expected, atol=4e-3)  # float16 has three digits
    for name in START:  # and all have moved by much more than that
        assert np.abs(expected[name] - START[name]).max() > 0.02


@several
@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_the_loss_scale_crosses_the_border(set_dtype_policy, layer_decay):
    set_dtype_policy("mixed_float16")
    scales = []

    class See(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            scales.append(float(to_numpy(self.model.optimizer.dynamic_scale)))

    adam = keras.optimizers.Adam(1e-3)
    optimizer = keras.optimizers.LossScaleOptimizer(adam, initial_scale=64.0, dynamic_growth_steps=2)
    phases = [
        Phase("warm up", 4, optimizer=optimizer),
        Phase("all", 2, unfreeze="all", optimizer=optimizer, layer_decay=layer_decay),
    ]
    learner().fit((X, Y), phases=phases, batch_size=4, verbose=0, callbacks=[See()])
    assert scales == [64.0, 256.0]  # doubled after every two steps


@several
def test_depths_go_by_blocks():
    """What the names of layers call a block has one rate; a normalization has that of the layer before it."""
    names = ["stem", "block1_a", "block1_b", "conv2_block1_0_conv", "conv2_block1_1_conv", "top"]
    parts = [keras.Input((2,))]
    for name in names:
        parts += [
            keras.layers.Dense(2, use_bias=False, name=name),
            keras.layers.LayerNormalization(name=f"{name}_norm"),
        ]
    backbone = keras.Sequential(parts, name="net")
    made = TransferLearner(backbone, keras.layers.Dense(1, name="head"), loss="mse")
    seen = {}

    class See(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for optimizer in self.model.optimizer.optimizers:
                seen[optimizer.name] = float(to_numpy(optimizer.learning_rate))

    optimizer = keras.optimizers.SGD(1.0)
    made.fit(
        (X, Y),
        phases=[Phase("all", 1, unfreeze="all", optimizer=optimizer, layer_decay=0.5, callbacks=[See()])],
        verbose=0,
    )
    assert seen == {"head": 1.0, "top": 0.5, "conv2_block1": 0.25, "block1": 0.125, "stem": 0.0625}


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.RMSprop])
def test_a_rate_that_is_lowered_after_the_last_step_changes_no_velocity(optimizer):
    """`ReduceLROnPlateau` lowers it at the end of the first phase, and no step uses the lower rate."""
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=100.0)
    made = optimizer(0.05, momentum=0.9)
    found = [
        trained([Phase("one", 2, optimizer=made, callbacks=callbacks), Phase("two", 2, optimizer=made)])
        for callbacks in ([plateau], [])
    ]
    assert_close(*found, rtol=1e-6)
