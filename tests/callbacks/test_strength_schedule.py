import keras
import numpy as np
import pytest
from harness import BACKEND, raises_received, to_numpy

from keras_reg import Strength
from keras_reg.callbacks import StrengthSchedule
from keras_reg.layers import DropBlock2D, DropConnect, DropPath, NoisyBatchNormalization

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
    assert [w.name for w in found] == ["rate", "stddev", "rate"] or len(found) == 3
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
