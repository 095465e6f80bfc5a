"""No two models hold one buffer: what one is used for leaves the other as it was, to the bit, and usable.

Under JAX a variable that is assigned the value of another one holds its very buffer, and a compiled step gives away
the buffers that it takes: both variables are lost then.
"""

import keras
import numpy as np
import pytest
from harness import BACKEND, fewer, to_numpy

from keras_reg import Strength, callbacks, layers, surgery, training, transfer

X = np.random.default_rng(0).normal(size=(8, 6, 5, 3)).astype("float32")
Y = (np.arange(8) % 3).astype("int32")


def network():
    """Kernels, moving statistics, a seed and a `Strength`."""
    parts = [keras.Input((6, 5, 3)), keras.layers.Conv2D(4, 2, name="conv"), keras.layers.BatchNormalization(name="bn")]
    parts += [keras.layers.GlobalAveragePooling2D(), layers.DropPath(Strength(0.1), seed=1)]
    return keras.Sequential([*parts, keras.layers.Dense(3, name="head")])


def compiled(model):
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def use(model):
    """Runs every compiled function, twice: the first time may copy what the second takes as it is."""
    for _ in range(2):
        model.predict(X, verbose=0)
        model.fit(X, Y, batch_size=4, verbose=0)
        model.evaluate(X, Y, verbose=0)


def addresses(variables):
    """Where the values lie. TensorFlow's variables copy what they are assigned."""
    values = [v.value for v in variables]
    if BACKEND == "jax":
        return {v.unsafe_buffer_pointer() for v in values}
    return {v.data_ptr() for v in values} if BACKEND == "torch" else set()


def everything(model):
    return [*model.variables, *(model.optimizer.variables if model.optimizer is not None else [])]


def values(variables):
    return [to_numpy(v.value).copy() for v in variables]


def assert_apart(first, second):
    """Neither shares a buffer with the other nor feels its use."""
    for used, other in ((first, second), (second, first)):
        assert not addresses(everything(used)) & addresses(everything(other))
        before = values(everything(other))
        use(used)
        for a, b in zip(values(everything(other)), before, strict=True):
            np.testing.assert_array_equal(a, b)
    for model in (first, second):
        use(model)


COPIES = {
    "regularize": lambda model: surgery.regularize(model, kernel_l2=1e-3, bn_noise=0.1, dropout=0.2),
    "regularize, nothing changed": surgery.regularize,
    "regularize twice": lambda model: surgery.regularize(surgery.regularize(model), dropout=0.2),
    "regularize an augmented network": lambda model: surgery.regularize(
        training.RegularizedModel(model, layers.RandomErasing(seed=1)).model
    ),
    "augment a copy": lambda model: training.RegularizedModel(surgery.regularize(model), layers.MixUp(seed=1)),
    "clone": lambda model: given(keras.models.clone_model(model), model.get_weights()),
}


def given(model, weights):
    model.set_weights(weights)
    return model


@pytest.mark.parametrize("how", fewer(COPIES, ["augment a copy"], on=["tensorflow"]))
def test_a_copy_and_its_original(how):
    original = compiled(network())
    original.fit(X, Y, verbose=0)
    assert_apart(original, compiled(COPIES[how](original)))


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights:UserWarning")
def test_frozen_and_unfrozen_originals():
    original = network()
    transfer.freeze(original)
    copy = surgery.regularize(original)
    transfer.unfreeze(original, 1)
    assert_apart(compiled(original), compiled(copy))


def test_transfers_around_a_backbone_and_its_copy():
    backbone = keras.Sequential([keras.Input((6, 5, 3)), *network().layers[:-1]])
    copy = surgery.regularize(backbone)
    for used, other in ((backbone, copy), (copy, backbone)):
        before = values(other.variables)
        phases = [transfer.Phase("warm up", 1), transfer.Phase("fine", 1, unfreeze="all")]
        learner = transfer.TransferLearner(used, 3, preprocess=lambda x: x)
        learner.fit((X, Y), phases=phases, batch_size=4, verbose=0)
        assert not addresses(used.variables) & addresses(other.variables)
        for a, b in zip(values(other.variables), before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_restored_weights_are_not_those_that_the_callback_holds():
    """What the callback remembers outlives a training that starts from it."""
    model = compiled(network())
    stop = callbacks.SmoothedEarlyStopping(monitor="loss", patience=9, restore_best_weights=True)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[stop])
    before = [np.array(w) for w in stop.best_weights]
    use(model)
    for a, b in zip(stop.best_weights, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_read_from_a_backup_and_the_one_that_wrote_it(tmp_path):
    fit = {"epochs": 2, "verbose": 0}
    first, second = compiled(network()), compiled(network())
    for model in (first, second):
        model.fit(X, Y, callbacks=callbacks.persist([], tmp_path), **fit)
    assert_apart(first, second)


def test_restored_weights_and_their_averages():
    """Keras alone leaves both in one buffer at the end of `fit` under JAX, and the next `fit` fails."""
    model = network()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stop = callbacks.SmoothedEarlyStopping(monitor="loss", patience=9, restore_best_weights=True)
    for _ in range(2):
        model.fit(X, Y, verbose=0, callbacks=[stop])
        assert not addresses(model.variables) & addresses(model.optimizer.variables)


def test_an_optimizer_that_excludes():
    first = compiled(network())
    use(first)
    surgery.exclude_from_weight_decay(first.optimizer, first)
    second = surgery.regularize(first)
    surgery.exclude_from_weight_decay(first.optimizer, first)
    assert_apart(first, compiled(second))
