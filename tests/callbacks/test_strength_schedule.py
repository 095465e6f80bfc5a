import keras
import numpy as np
import pytest
from harness import BACKEND, only, raises_received, to_numpy

from keras_reg import Strength
from keras_reg.callbacks import StrengthSchedule
from keras_reg.layers import DropBlock2D, DropConnect, DropPath, MixUp, NoisyBatchNormalization, WeightNoise
from keras_reg.training import RegularizedModel

X, Y = np.ones((8, 4), "float32"), np.zeros((8, 1), "float32")


class Record(keras.callbacks.Callback):
    """What the weights are during each epoch."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.seen = weights, []

    def on_epoch_begin(self, epoch, logs=None):  # during an epoch they are not to be read under JAX
        self.seen.append([round(float(to_numpy(w)), 6) for w in self.weights])


def model_of(*layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    return model


def strengths(model):
    return [v for v in model.variables if v.name in ("rate", "stddev")]


def test_every_strength_moves_each_epoch_from_its_own_value():
    """Nested, wrapped and plain ones; a plain number is no weight and stays."""
    nested = keras.Sequential([NoisyBatchNormalization(stddev=Strength(0.4)), DropPath(0.3)])
    model = model_of(DropPath(Strength(0.2)), nested, DropConnect(keras.layers.Dense(4), Strength(0.5)))
    found = strengths(model)
    assert sorted(w.name for w in found) == ["rate", "rate", "stddev"]
    record = Record(found)
    ramp = StrengthSchedule(lambda epoch: min(epoch / 2, 1.0))
    model.fit(X, Y, epochs=4, batch_size=8, verbose=0, callbacks=[ramp, record])
    full = np.array(sorted([0.2, 0.4, 0.5]))
    np.testing.assert_allclose(np.sort(record.seen, axis=1), [0 * full, full / 2, full, full], atol=1e-6)


def test_the_compiled_step_reads_the_new_value():
    """Dropping half of the rows of ones changes the loss; at strength 0 it is what a plain Dense gives."""
    model = keras.Sequential(
        [keras.Input((4,)), DropPath(Strength(0.5)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=BACKEND == "jax")
    schedule = StrengthSchedule(lambda epoch: [1.0, 0.0, 1.0, 0.0][epoch])
    x, y = np.ones((256, 4), "float32"), np.full((256, 1), 4.0, "float32")
    losses = model.fit(x, y, epochs=4, batch_size=256, verbose=0, callbacks=[schedule]).history["loss"]
    assert losses[1] == losses[3] == 0 and losses[0] > 1 and losses[2] > 1


class Traces(keras.layers.Layer):
    """Counts how often Python runs it: once for each time that the step is traced."""

    count = 0

    def call(self, x):
        self.count += 1
        return x


@only("tensorflow", "jax", why="PyTorch's step is eager.")
def test_a_strength_that_moves_compiles_nothing_again():
    """All layers that hold one, ramped over six epochs, which trace the step as often as one epoch does."""
    counter = Traces()
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            counter,
            NoisyBatchNormalization(stddev=Strength(0.4)),
            DropBlock2D(Strength(0.2), 3),
            DropConnect(keras.layers.Conv2D(2, 3), Strength(0.5)),
            WeightNoise(keras.layers.Dense(2), Strength(0.1)),
            DropPath(Strength(0.2)),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse", jit_compile=True)
    assert len(strengths(model)) == 5
    x, y = np.ones((8, 6, 6, 2), "float32"), np.zeros((8, 1), "float32")
    ramp = StrengthSchedule(lambda epoch: min(epoch / 3, 1.0))
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[ramp])
    traced = counter.count
    model.fit(x, y, batch_size=8, epochs=6, initial_epoch=1, verbose=0, callbacks=[ramp])
    assert counter.count == traced


def test_mixup_is_off_for_the_last_epochs():
    """Inside `RegularizedModel`: off, the training loss is that of the plain model on plain images, and before not."""
    x = np.random.default_rng(0).normal(size=(16, 4, 4, 1)).astype("float32")
    y = (np.arange(16) % 3).astype("int32")
    net = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model = RegularizedModel(net, MixUp(alpha=1.0, rate=Strength(1.0), seed=0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, jit_compile=BACKEND == "jax")
    off = StrengthSchedule(lambda epoch: float(epoch < 2))
    losses = model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[off]).history["loss"]
    plain = model.evaluate(x, y, batch_size=16, verbose=0)
    np.testing.assert_allclose(losses[2:], plain, rtol=1e-6)
    assert abs(losses[0] - plain) > 1e-3 and abs(losses[1] - plain) > 1e-3 and losses[0] != losses[1]


def test_only_the_given_layers_move():
    first, second = DropPath(Strength(0.2)), DropPath(Strength(0.4))
    model = model_of(first, second)
    model.fit(X, Y, verbose=0, callbacks=[StrengthSchedule(lambda epoch: 0.5, layers=[first])])
    np.testing.assert_allclose([float(to_numpy(w)) for w in strengths(model)], [0.1, 0.4], rtol=1e-6)


def test_a_layer_outside_of_the_model():
    outside = DropBlock2D(Strength(0.2))
    model_of().fit(X, Y, verbose=0, callbacks=[StrengthSchedule(lambda epoch: 0.5, layers=[outside])])
    assert float(to_numpy(outside.weights[0])) == pytest.approx(0.1)


def test_a_resumed_training_goes_on_where_the_epochs_are():
    model = model_of(DropPath(Strength(0.8)))
    record = Record(strengths(model))
    ramp = StrengthSchedule(lambda epoch: epoch / 4)
    model.fit(X, Y, epochs=4, initial_epoch=2, batch_size=8, verbose=0, callbacks=[ramp, record])
    np.testing.assert_allclose(record.seen, [[0.4], [0.6]], rtol=1e-6)


@pytest.mark.parametrize("factor", [-0.1, 1.5, float("nan"), "half", None])
def test_bad_factors(factor):
    with raises_received("factor"):
        model_of(DropPath(Strength(0.2))).fit(X, Y, verbose=0, callbacks=[StrengthSchedule(lambda epoch: factor)])


def test_nothing_to_move_is_an_error():
    with raises_received("layers"):
        model_of(DropPath(0.2)).fit(X, Y, verbose=0, callbacks=[StrengthSchedule(lambda epoch: 1.0)])
    with raises_received("schedule"):
        StrengthSchedule(0.5)
