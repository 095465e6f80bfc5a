"""Random layers of any kind draw the numbers of the first pass again in a further pass of the same step."""

import keras
import numpy as np
import pytest
from harness import assert_close, to_numpy
from keras import ops

from keras_reg import layers, training

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 6, 6, 4)).astype("float32")
Y = np.arange(16) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy
# Each draws something else for each call. The layers of Keras keep their state in variables, on every backend.
RANDOM = {
    "Dropout": lambda: keras.layers.Dropout(0.5),
    "DropPath": lambda: layers.DropPath(0.5),
    "DropBlock2D": lambda: layers.DropBlock2D(0.3, block_size=2),
    "DropConnect": lambda: layers.DropConnect(keras.layers.Dense(4), 0.5),
    "WeightNoise": lambda: layers.WeightNoise(keras.layers.Dense(4), 0.5),
    "NoisyBatchNormalization": lambda: layers.NoisyBatchNormalization(0.5),
    "FractionalMaxPooling2D": lambda: layers.FractionalMaxPooling2D(1.5),
    "an augmentation": lambda: layers.RandomGaussianNoise(0.5, rate=1.0),
}


def network(kind):
    keras.utils.set_random_seed(5)
    parts = [keras.layers.Dense(4), RANDOM[kind](), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 4)), *parts])


class Differences(training.Penalty):
    """The largest difference between the outputs of the first pass and those of a further one for the same inputs."""

    def __init__(self, same_masks, name):
        super().__init__(0.0, name=name)
        self.same_masks = same_masks

    def compute(self, step, x, y, y_pred, sample_weight):
        return ops.max(ops.abs(step.run(x, same_masks=self.same_masks) - y_pred))


@pytest.mark.parametrize("kind", RANDOM)
def test_further_passes_have_the_masks_of_the_first_or_new_ones(kind):
    """Passes with new masks in between change nothing: the last penalty has the masks of the first pass again."""
    penalties = [Differences(True, "same"), Differences(False, "new"), Differences(True, "again")]
    model = training.RegularizedModel(network(kind), penalties=penalties)
    model.compile(keras.optimizers.SGD(0.0), LOSS(from_logits=True))
    for _ in range(2):
        logs = model.train_on_batch(X, Y, return_dict=True)
    assert logs["same"] < 1e-5 and logs["again"] < 1e-5, logs
    assert logs["new"] > 1e-2, logs


@pytest.mark.parametrize("kind", ["DropPath", "DropConnect", "an augmentation"])
def test_virtual_adversarial_training_and_sharpness_compare_passes_of_equal_masks(kind):
    """At a radius of nearly 0, the divergence is 0 and the gradient at w + e is that at w."""
    start = network(kind).get_weights()
    steps = []
    for sharpness in (None, training.SharpnessAware(1e-7)):
        made = network(kind)
        _set_seeds(made)
        penalty = training.VirtualAdversarial(1e-4, weight=0.0, seed=1)
        model = training.RegularizedModel(made, penalties=[penalty], sharpness=sharpness)
        model.compile(keras.optimizers.SGD(0.1), LOSS(from_logits=True))
        logs = model.train_on_batch(X, Y, return_dict=True)
        assert logs["virtual_adversarial"] < 1e-5
        steps.append(made.get_weights())
    assert_close(steps[1], steps[0], atol=1e-4)
    assert max(np.abs(new - old).max() for new, old in zip(steps[0], start, strict=True)) > 1e-2


def _set_seeds(model):
    for layer in model.layers:
        if hasattr(layer, "random"):
            layer.random.move_to(0, 0, entropy=3)


def test_a_step_with_further_passes_draws_once_from_each_layer():
    """So the first pass of the next step has other masks."""
    made = network("DropPath")
    model = training.RegularizedModel(made, penalties=[training.VirtualAdversarial(0.1), training.ConsistentDropout()])
    model.compile(keras.optimizers.SGD(0.0), LOSS(from_logits=True))
    (drop_path,) = [layer for layer in made.layers if isinstance(layer, layers.DropPath)]
    positions = []
    for _ in range(3):
        model.train_on_batch(X, Y)
        positions.append(sum(drop_path.random.position().values()))
    assert positions[0] < positions[1] < positions[2]
    losses = [float(np.ravel(to_numpy(model.train_on_batch(X, Y)))[0]) for _ in range(4)]
    assert len({*losses}) > 1


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_saved_model_continues_with_the_next_masks(tmp_path, policy, set_dtype_policy):
    """One step, a file, and another step are two steps."""
    set_dtype_policy(policy)
    weights = []
    for is_saved in (False, True):
        keras.utils.set_random_seed(5)
        parts = [keras.layers.Dense(4), layers.DropPath(0.5, seed=1), keras.layers.Flatten(), keras.layers.Dense(3)]
        made = keras.Sequential([keras.Input((6, 6, 4)), *parts])
        penalty = training.VirtualAdversarial(0.1, seed=2)
        model = training.RegularizedModel(made, penalties=[penalty], sharpness=training.SharpnessAware(0.05))
        model.compile(keras.optimizers.SGD(0.1), LOSS(from_logits=True))
        model.train_on_batch(X, Y)
        if is_saved:
            model.save(tmp_path / "model.keras")
            model = keras.saving.load_model(tmp_path / "model.keras")
        model.train_on_batch(X, Y)
        weights.append(model.model.get_weights())
    assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
