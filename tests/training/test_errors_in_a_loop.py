"""An error in a loop, as about data that are refused, costs no weights: under JAX they are away while a loop runs."""

import contextlib

import keras
import numpy as np
import pytest
from harness import fewer, to_numpy

from keras_reg import layers
from keras_reg.training import RegularizedModel

X, Y = np.random.default_rng(0).random((6, 5, 4, 3), "float32"), np.arange(6) % 3


def trained():
    net = keras.Sequential([keras.Input((5, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model = RegularizedModel(net, layers.MixUp(seed=0))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(X, Y, verbose=0)
    return model


WRONG = {
    "fit": lambda model: model.fit(X[..., :2], Y, verbose=0),
    "evaluate": lambda model: model.evaluate(X[..., :2], Y, verbose=0),
    "predict": lambda model: model.predict(X[..., :2], verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X[..., :2], Y),
    "validation": lambda model: model.fit(X, Y, validation_data=(X[..., :2], Y), verbose=0),
}


@pytest.mark.parametrize("call", WRONG)
def test_an_error_costs_no_weights(call):
    model = trained()
    before = [to_numpy(weight).copy() for weight in model.weights]
    with pytest.raises(Exception, match=r"shape|incompatible"):
        WRONG[call](model)
    if call != "validation":  # which follows an epoch of training
        for weight, value in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(to_numpy(weight), value)
    steps = int(to_numpy(model.optimizer.iterations))
    model.fit(X, Y, verbose=0)
    assert int(to_numpy(model.optimizer.iterations)) == steps + 1


class Interrupted(keras.layers.Layer):
    """Stands for a user who presses Ctrl-C while a step is compiled."""

    calls_left = None
    raised = False

    def call(self, inputs):
        if self.calls_left == 0:
            self.raised = True
            raise KeyboardInterrupt
        self.calls_left = self.calls_left and self.calls_left - 1
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("method", fewer(["fit", "evaluate", "train_on_batch"], ["fit"], on=["tensorflow"]))
def test_an_interruption_costs_no_weights(method, number):
    """Under JAX, the first calls infer shapes, and a later one compiles the step."""
    interrupted = Interrupted()
    net = keras.Sequential([keras.Input((5, 4, 3)), interrupted, keras.layers.Flatten(), keras.layers.Dense(3)])
    model = RegularizedModel(net, layers.MixUp(seed=0))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)  # TensorFlow's functions create variables in the first call only
    before = net.get_weights()
    interrupted.calls_left = number
    with pytest.raises(KeyboardInterrupt) if number == 0 else contextlib.suppress(KeyboardInterrupt):
        getattr(model, method)(X, Y)
    if interrupted.raised:  # a backend may need fewer calls than `number`
        for weight, value in zip(net.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, value)
    interrupted.calls_left = None
    model.fit(X, Y, verbose=0)
