"""Faults that were reported in public, by the number of their thread: how it goes here."""

import keras
import numpy as np
from harness import to_numpy

from keras_reg.transfer import Phase, TransferLearner, freeze, unfreeze


def test_keras_19208_lora_stays_frozen():
    """`trainable = True` trains the pretrained kernel again; `unfreeze` and the phases of a transfer do not."""
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, "tanh", name="dense")
    backbone = keras.Model(inputs, layer(inputs), name="net")
    layer.enable_lora(2)
    backbone.trainable = True
    kernel = next(weight for weight in layer.weights if weight.name == "kernel")
    before = to_numpy(kernel).copy()
    freeze(backbone)
    unfreeze(backbone)
    assert {weight.name for weight in layer.trainable_weights} == {"bias", "lora_kernel_a", "lora_kernel_b"}
    learner = TransferLearner(backbone, 2, run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(8, 4))
    phases = [Phase("warm up", 1), Phase("all", 2, "all", keras.optimizers.SGD(0.1))]
    learner.fit(x, np.arange(8) % 2, phases=phases, verbose=0)
    np.testing.assert_array_equal(to_numpy(kernel), before)
    assert np.abs(to_numpy(layer.lora_kernel_b)).max() > 0
