import keras
import numpy as np
import pytest
from harness import raises_received, to_numpy
from keras import layers
from transfer.networks import flat_backbone, nested_backbone

import keras_reg
from keras_reg.transfer import freeze, unfreeze


def names(model):
    return {weight.path.rsplit("/", 1)[0].split("/")[-1] for weight in model.trainable_weights}


# Freezing.


def test_freezing_reaches_everything():
    model = nested_backbone()
    assert len(model.trainable_weights) == 15
    freeze(model)
    assert model.trainable_weights == [] and len(model.weights) == 19


def test_freezing_a_list_leaves_the_others():
    model = flat_backbone()
    freeze(model.layers[:4])
    assert names(model) == {"block2_conv", "block2_bn", "block3_conv", "block3_bn"}


@pytest.mark.parametrize("layers", [[], None, "all", [1], [keras.layers.ReLU(), "top"]])
def test_freezing_something_else(layers):
    with raises_received("layers"):
        freeze(layers)


# Unfreezing: which layers.

IN_BLOCK = {f"block/{layer}/{weight}" for layer in ("first", "second") for weight in ("kernel", "bias")}


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("all", {"block1_conv", "block2_conv", "block3_conv"}),
        (4, {"block3_conv"}),  # conv, bn, relu, pool
        (9, {"block2_conv", "block3_conv"}),
        (1000, {"block1_conv", "block2_conv", "block3_conv"}),
        ("block[13]_*", {"block1_conv", "block3_conv"}),
        (["block1_*", "*3_conv"], {"block1_conv", "block3_conv"}),
        ("flat/block2*", {"block2_conv"}),
    ],
)
def test_which_layers_train(which, expected):
    model = flat_backbone()
    freeze(model)
    unfreeze(model, which)
    assert names(model) == expected


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("inner", {"dense/kernel", "dense/bias"}),
        ("inner/*", {"dense/kernel", "dense/bias"}),
        ("dense", {"dense/kernel", "dense/bias"}),
        ("wrapper", {"wrapper/timed/kernel", "wrapper/timed/bias"}),
        ("timed", {"wrapper/timed/kernel", "wrapper/timed/bias"}),
        ("block/second", {"block/second/kernel", "block/second/bias"}),
        ("block/[fs]*", IN_BLOCK),
        (1, {"block/second/kernel", "block/second/bias"}),
        (3, IN_BLOCK),
        (5, IN_BLOCK | {"dense/kernel", "dense/bias"}),
    ],
)
def test_which_nested_layers_train(which, expected):
    model = nested_backbone()
    freeze(model)
    unfreeze(model, which)
    # A path is the longer the deeper; what stands before "inner/dense" differs between versions of Keras.
    assert {
        "/".join(w.path.removeprefix("outer/").removeprefix("inner/").split("/")) for w in model.trainable_weights
    } == expected


def test_a_layer_comes_with_its_own_weights_and_all_inside():
    model = nested_backbone()
    freeze(model)
    unfreeze(model, "block", batch_norm=True)
    assert len(model.trainable_weights) == 7
    assert any(weight is model.get_layer("block").scale for weight in model.trainable_weights)


def test_what_trains_already_goes_on():
    model = flat_backbone()
    freeze(model)
    unfreeze(model, "block1_*")
    unfreeze(model, "block3_*")
    assert names(model) == {"block1_conv", "block3_conv"}


def test_a_shared_layer():
    shared = layers.Dense(3, name="shared")
    inputs = keras.Input((3,))
    twice = keras.Sequential([keras.Input((3,)), shared], name="twice")
    model = keras.Model(inputs, twice(shared(inputs)))
    freeze(model)
    unfreeze(model, "shared")
    assert len(model.trainable_weights) == 2
    freeze(model)
    unfreeze(model, "twice")
    assert len(model.trainable_weights) == 2


# Batch normalization.


def batch_normalizations(model):
    return {name: layer.trainable for name, layer in
            (("inner", model.get_layer("inner").layers[1]), ("block", model.get_layer("block").others[0]))}  # fmt: skip


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_normalization_stays_in_inference_mode(batch_norm):
    model = nested_backbone()
    x = np.random.default_rng(0).normal(2, 3, (6, 3, 5)).astype("float32")
    still = to_numpy(model(x, training=False))
    freeze(model)
    unfreeze(model, "all", batch_norm=batch_norm)
    assert set(batch_normalizations(model).values()) == {batch_norm}
    moving = [w for w in model.non_trainable_weights if "moving" in w.path]
    before = to_numpy(moving)
    outputs = to_numpy(model(x, training=True))
    same = [np.array_equal(a, b) for a, b in zip(before, to_numpy(moving), strict=True)]
    assert np.allclose(outputs, still, atol=1e-6) is not batch_norm
    assert len(same) == 4 and (not any(same) if batch_norm else all(same))


def test_keras_turns_batch_normalization_back():
    """What is avoided here: Keras' own setter hands `True` down to every batch normalization."""
    model = nested_backbone()
    freeze(model)
    model.trainable = True
    assert set(batch_normalizations(model).values()) == {True}


@pytest.mark.parametrize("cls", [keras_reg.layers.NoisyBatchNormalization, keras_reg.layers.GhostBatchNormalization])
def test_batch_normalizations_of_this_package(cls):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), cls()])
    freeze(model)
    unfreeze(model)
    x = np.random.default_rng(0).normal(2, 3, (32, 4)).astype("float32")
    np.testing.assert_allclose(to_numpy(model(x, training=True)), to_numpy(model(x, training=False)), atol=1e-6)


# What is refused.


@pytest.mark.parametrize("which", ["nothing*", "block9_*", "pool", "block1_bn", 1, 2, ["x", "y"]])
@pytest.mark.parametrize("frozen", [True, False])
def test_an_empty_pattern_changes_nothing(which, frozen):
    model = flat_backbone()
    if frozen:
        freeze(model)
    model.get_layer("block2_conv").trainable = True
    before = [weight.trainable for weight in model.weights]
    with raises_received("layers", "block1_conv"):
        unfreeze(model, which)
    assert [weight.trainable for weight in model.weights] == before


@pytest.mark.parametrize("which", [0, -1, 1.5, None, "", [], ["a", 1], True])
def test_bad_layers(which):
    with raises_received("layers"):
        unfreeze(flat_backbone(), which)


def test_bad_backbone():
    with raises_received("backbone"):
        unfreeze("resnet50", "all")
