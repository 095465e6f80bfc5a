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

TIMED = ("wrapper/timed/kernel", "wrapper/timed/bias")
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
        (1, IN_BLOCK | {"block/scale"}),  # a layer of layers is one layer
        (3, IN_BLOCK | {"block/scale", "dense/kernel", "dense/bias"}),  # those of a model count one by one
        (6, IN_BLOCK | {"block/scale", "dense/kernel", "dense/bias", "stem/kernel", "stem/bias", *TIMED}),
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


# Weights that their owner has frozen.


def trainable(layer):
    return {weight.name: weight.trainable for weight in layer.weights}


def dense_model():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="one"), layers.Dense(2, name="two")])


WITH_LORA = {"kernel": False, "bias": True, "lora_kernel_a": True, "lora_kernel_b": True}


@pytest.mark.parametrize("order", ["LoRA first", "frozen first", "frozen by Keras first", "frozen by Keras afterwards"])
def test_lora_keeps_its_pretrained_kernel_frozen(order):
    model = dense_model()
    layer = model.get_layer("two")
    if order == "frozen first":
        freeze(model)
    elif order == "frozen by Keras first":
        model.trainable = False
    layer.enable_lora(2)
    if order == "frozen by Keras afterwards":
        model.trainable = False
    freeze(model)
    assert model.trainable_weights == [] and not any(trainable(layer).values())
    unfreeze(model)
    assert trainable(layer) == WITH_LORA
    unfreeze(model, "two")
    freeze(model.get_layer("one"))
    unfreeze(model, 1)
    assert trainable(layer) == WITH_LORA and len(model.trainable_weights) == 3


@pytest.mark.parametrize(
    ("make", "frozen"),
    [
        (lambda: layers.Embedding(5, 3), "embeddings"),
        (lambda: layers.EinsumDense("abc,cd->abd", (None, 3)), "kernel"),
        (lambda: layers.Conv2D(3, 3), "kernel"),
    ],
)
def test_lora_of_other_layers(make, frozen):
    layer = make()
    layer.build(
        {"embedding": (None,), "einsum_dense": (None, 4, 4)}.get(layer.name.rstrip("_0123456789"), (None, 8, 8, 3))
    )
    layer.enable_lora(2)
    expected = trainable(layer)
    assert expected.pop(frozen) is False
    freeze(layer)
    unfreeze(layer)
    assert trainable(layer) == {**expected, frozen: False}


def test_a_single_weight_stays_frozen_until_its_owner_opens_it():
    model = dense_model()
    kernel = model.get_layer("one").kernel
    kernel.trainable = False
    for _ in range(2):
        freeze(model)
        unfreeze(model)
        assert not kernel.trainable and len(model.trainable_weights) == 3
    kernel.trainable = True
    freeze(model)
    unfreeze(model)
    assert len(model.trainable_weights) == 4
    # Also one that is frozen after the layer has been frozen and unfrozen here.
    kernel.trainable = False
    unfreeze(model)
    assert not kernel.trainable


def test_a_weight_that_is_held_back_for_its_children_is_not_its_owners_doing():
    """A layer with a weight of its own is on while only a layer inside of it trains; later all of it does."""
    model = nested_backbone()
    scale = model.get_layer("block").scale
    freeze(model)
    unfreeze(model, "block/second")
    assert model.get_layer("block").trainable and not scale.trainable
    freeze(model)
    unfreeze(model, "block")
    assert scale.trainable
    freeze(model)
    unfreeze(model, "block/second")
    unfreeze(model, "block")
    assert scale.trainable


def test_a_single_weight_of_a_batch_normalization_and_of_a_layer_of_layers():
    model = nested_backbone()
    block = model.get_layer("block")
    block.others[0].gamma.trainable = False
    block.scale.trainable = False
    freeze(model)
    unfreeze(model, "block", batch_norm=True)
    assert trainable(block.others[0]) == {"gamma": False, "beta": True, "moving_mean": False, "moving_variance": False}
    assert not block.scale.trainable and block.first.kernel.trainable


def test_quantized_kernels_do_not_train():
    model = dense_model()
    model.get_layer("one").quantize("int8")
    before = trainable(model.get_layer("one"))
    freeze(model)
    unfreeze(model)
    assert trainable(model.get_layer("one")) == before and before["bias"] and not before["kernel"]


def test_a_weight_of_two_layers_trains_with_either():
    class Tied(layers.Layer):
        def __init__(self, other):
            super().__init__()
            self.kernel = other.kernel

        def call(self, x):
            return x @ self.kernel

    first = layers.Dense(4, use_bias=False)
    first.build((None, 4))
    model = keras.Sequential([keras.Input((4,)), first, Tied(first)])
    model.build((None, 4))
    freeze(first)
    unfreeze(model)
    assert first.kernel.trainable and len(model.trainable_weights) == 1


def test_a_weight_that_was_made_not_to_train_and_was_opened_is_frozen_too():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="bn")])
    mean = model.get_layer("bn").moving_mean
    mean.trainable = True
    freeze(model.get_layer("bn"))
    assert model.trainable_weights == []
    unfreeze(model, batch_norm=True)
    assert mean.trainable


def test_all_weights_of_the_layers_are_frozen_by_their_owner():
    model = dense_model()
    for weight in model.get_layer("two").weights:
        weight.trainable = False
    before = [weight.trainable for weight in model.weights]
    with raises_received("layers", "two"):
        unfreeze(model, "two")
    assert [weight.trainable for weight in model.weights] == before


def test_numpy_values():
    model = flat_backbone()
    freeze(model)
    unfreeze(model, np.int64(4), batch_norm=np.False_)
    assert names(model) == {"block3_conv"}
    unfreeze(model, np.array(["block1_*", "block2_*"]))
    assert names(model) == {"block1_conv", "block2_conv", "block3_conv"}
    unfreeze(model, np.str_("all"), batch_norm=np.True_)
    assert "block1_bn" in names(model)


@pytest.mark.parametrize("batch_norm", ["no", "yes", 1, None, 0.0])
def test_bad_batch_norm(batch_norm):
    with raises_received("batch_norm"):
        unfreeze(flat_backbone(), "all", batch_norm)


@pytest.mark.parametrize("frozen", ["a layer", "all", "nothing"])
def test_whatever_was_frozen_by_keras_before(frozen):
    """On TensorFlow, Keras hands `trainable` down only where it changes."""
    model = nested_backbone()
    expected = {id(weight) for weight in model.trainable_weights}
    for layer in {"a layer": [model.get_layer("inner").layers[0]], "all": [model], "nothing": []}[frozen]:
        layer.trainable = False
    freeze(model)
    assert not any(weight.trainable for weight in model.weights)
    unfreeze(model, "all", batch_norm=True)
    assert {id(weight) for weight in model.trainable_weights} == expected
