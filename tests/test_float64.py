"""Everything works with numbers in float64, whose operations TensorFlow does not mix with float32."""

import keras
import numpy as np
import pytest
from harness import assert_close, only, to_numpy

from keras_reg import layers, losses, training

IMAGES = np.random.default_rng(0).random((6, 8, 8, 3))
ROWS = np.random.default_rng(1).random((8, 5))
LABELS = np.arange(8) % 3
POLICIES = {
    "RandAugment": lambda **options: layers.RandAugment(3, **options),
    "TrivialAugmentWide": layers.TrivialAugmentWide,
    "AutoAugment": layers.AutoAugment,
    "AugMix": layers.AugMix,
}
PARTS = {
    "augmentation": lambda: {"augmentation": layers.MixUp(0.4, seed=0)},
    "ConfidencePenalty": lambda: {"penalties": [training.ConfidencePenalty()]},
    "ConsistentDropout": lambda: {"penalties": [training.ConsistentDropout()]},
    "JensenShannonConsistency": lambda: {
        "penalties": [training.JensenShannonConsistency(layers.RandomGaussianNoise(0.1, seed=0))]
    },
    "VirtualAdversarial": lambda: {"penalties": [training.VirtualAdversarial(1.0, seed=0)]},
    "SharpnessAware": lambda: {"sharpness": training.SharpnessAware(0.1)},
    "SharpnessAware, adaptive": lambda: {"sharpness": training.SharpnessAware(0.1, adaptive=True)},
    "SharpnessAware, every": lambda: {"sharpness": training.SharpnessAware(0.1, every=2)},
}


@only("tensorflow", "torch", why="JAX has no float64 here")
@pytest.mark.parametrize("name", POLICIES)
def test_policies_give_the_images_of_float32(name):
    found = POLICIES[name](value_range=(0, 1), seed=3, dtype="float64")(IMAGES)
    expected = POLICIES[name](value_range=(0, 1), seed=3)(IMAGES.astype("float32"))
    found, expected = to_numpy(found), to_numpy(expected)
    assert found.dtype == "float64"
    # Pixels at the threshold of a level may come to lie beyond it.
    assert np.mean(np.abs(found - expected) < 1e-5) > 0.98


@only("tensorflow", "torch", why="JAX has no float64 here")
@pytest.mark.parametrize("part", PARTS)
def test_parts_of_a_step_give_the_weights_of_float32(part):
    weights = []
    for dtype in ("float32", "float64"):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        keras.utils.set_random_seed(0)
        hidden = keras.layers.Dense(4, kernel_initializer=keras.initializers.Constant(0.1))
        network = keras.Sequential([keras.Input((5,)), hidden, layers.DropPath(0.2, seed=1), keras.layers.Dense(3)])
        kernel = np.random.default_rng(2).normal(size=(4, 3))
        network.layers[-1].set_weights([kernel, np.zeros(3)])
        model = training.RegularizedModel(network, **PARTS[part]())
        model.compile(keras.optimizers.SGD(0.5), losses.LabelSmoothingCrossentropy(0.1, from_logits=True))
        model.train_on_batch(ROWS.astype(dtype), LABELS, sample_weight=np.linspace(0.5, 2, 8))
        assert {variable.dtype for variable in model.trainable_variables} == {dtype}
        weights.append(np.concatenate([weight.ravel() for weight in network.get_weights()[:1]]))
        assert not np.allclose(weights[-1], 0.1)
    assert_close(weights[1], weights[0], rtol=1e-4)
