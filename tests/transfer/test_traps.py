"""What changing `trainable` does in Keras, each row on each backend, and that `TransferLearner` does not do it."""

import itertools

import keras
import numpy as np
import pytest
from harness import BACKEND, raises_received, to_numpy
from transfer.networks import flat_backbone, images

from keras_reg import training
from keras_reg.transfer import Phase, TransferLearner


def by_keras(trainable):
    """A backbone and a head, compiled and trained for one epoch, with the backbone frozen or not."""
    backbone = flat_backbone()
    backbone.trainable = trainable
    model = keras.Sequential([keras.Input((8, 8, 3)), backbone, keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # A momentum, since without it JAX has nothing whose number could be wrong.
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss)
    return model, backbone


def fit(model):
    x, y = images(8)
    model.fit(x / 255, y, batch_size=8, verbose=0)


def kernel(backbone):
    return np.array(to_numpy(backbone.get_layer("block1_conv").kernel))


def moves(model, backbone):
    """Whether the first kernel changes in an epoch."""
    before = kernel(backbone)
    fit(model)
    return not np.array_equal(before, kernel(backbone))


def sgd():
    return keras.optimizers.SGD(1e-3, momentum=0.9)


def learner_phases(*unfreeze):
    """Whether the first kernel changes in each phase of a `TransferLearner`."""
    backbone = flat_backbone()
    learner = TransferLearner(backbone, 3, preprocess=keras.layers.Rescaling(1 / 255))
    kernels = [kernel(backbone)]

    class See(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            _ = self.model  # brings the weights back on JAX
            kernels.append(kernel(backbone))

    phases = [
        Phase(f"phase {i}", 1, unfreeze=what, optimizer=sgd(), callbacks=[See()]) for i, what in enumerate(unfreeze)
    ]
    learner.fit(images(8), phases=phases, batch_size=8, verbose=0)
    return [not np.array_equal(a, b) for a, b in itertools.pairwise(kernels)]


def test_unfreezing_without_compiling():
    model, backbone = by_keras(trainable=False)
    fit(model)
    backbone.trainable = True
    if BACKEND == "tensorflow":
        assert not moves(model, backbone)  # without a word
    elif BACKEND == "jax":
        with pytest.raises(ValueError, match="optimizer"):
            fit(model)
    else:
        with pytest.raises(ValueError, match="Unknown variable"):
            fit(model)


def test_unfreezing_in_phases():
    assert learner_phases(None, "all") == [False, True]


def test_freezing_without_compiling():
    model, backbone = by_keras(trainable=True)
    fit(model)
    backbone.trainable = False
    if BACKEND == "tensorflow":
        assert moves(model, backbone)  # without a word
    elif BACKEND == "jax":
        with pytest.raises(ValueError):
            fit(model)
    else:
        assert not moves(model, backbone)


def test_freezing_in_phases():
    assert learner_phases("all", None, "all", "block3_*") == [True, False, True, False]


def statistics(backbone):
    return np.array(to_numpy(backbone.get_layer("block1_bn").moving_mean))


def test_unfreezing_turns_batch_normalization_to_the_statistics_of_batches():
    model, backbone = by_keras(trainable=False)
    backbone.trainable = True
    model.compile(sgd(), model.loss)
    before = statistics(backbone)
    fit(model)
    assert not np.array_equal(before, statistics(backbone))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_phases_keep_batch_normalization_in_inference_mode(batch_norm):
    backbone = flat_backbone()
    before, gamma = statistics(backbone), to_numpy(backbone.get_layer("block1_bn").gamma).copy()
    learner = TransferLearner(backbone, 3, preprocess=keras.layers.Rescaling(1 / 255))
    phase = Phase("all", 1, unfreeze="all", optimizer=sgd(), batch_norm=batch_norm)
    learner.fit(images(8), phases=[phase], batch_size=8, verbose=0)
    assert np.array_equal(before, statistics(backbone)) is not batch_norm
    assert np.array_equal(gamma, to_numpy(backbone.get_layer("block1_bn").gamma)) is not batch_norm


def test_fresh_slots_under_old_steps_make_long_steps():
    """What a common remedy does: the number of steps is kept and the slots are new."""
    weight = keras.Variable(np.zeros(1, "float32"))
    lengths = []
    for steps in (0, 100_000):
        adam = keras.optimizers.Adam(1.0)
        adam.build([weight])
        adam.iterations.assign(steps)
        weight.assign([0.0])
        adam.apply([keras.ops.ones(1)], [weight])
        lengths.append(abs(float(to_numpy(weight)[0])))
    assert lengths == pytest.approx([1.0, 0.1 / np.sqrt(0.001)], rel=1e-3)


def test_a_model_with_regularizers_around_it_is_no_backbone():
    model = training.RegularizedModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    with raises_received("Pass its `model`", "backbone='RegularizedModel'"):
        TransferLearner(model, 3)
