import sys

import keras
import numpy as np
import pytest
from harness import jit, map_in_tf_data, only, raises_received, to_numpy
from layers.batches import assert_same_bits, augment, coded, decoded, numbered

from keras_reg.layers import (
    BatchAugmentation,
    ColorJitter,
    CutMix,
    LabelNoise,
    MixUp,
    Pipeline,
    RandomAffine,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomFlip,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomPadCrop,
    RandomResizedCrop,
)
from keras_reg.training import RegularizedModel


def addressed(count, height=8, width=6):
    return np.repeat(np.arange(1.0, height * width + 1, dtype="float32").reshape(1, height, width, 1), count, axis=0)


def test_layers_run_in_their_order():
    """Padded then erased, a box is whole; erased then padded, it may be cut off."""
    images = np.ones((200, 8, 8, 1), "float32")
    erase, shift = RandomErasing(1.0, (0.25, 0.25), (1, 1), fill=-1), RandomPadCrop(3, fill_value=-2)
    last_shifted = augment(Pipeline([erase, shift], seed=1), images)
    last_erased = augment(Pipeline([shift, erase], seed=1), images)
    assert ((last_erased == -1).sum(axis=(1, 2, 3)) == 16).all()
    assert ((last_shifted == -1).sum(axis=(1, 2, 3)) < 16).mean() > 0.2


def test_erasing_before_mixing_erases_the_partners_too():
    images = numbered(64, 8, 8)
    layer = Pipeline([RandomErasing(1.0, (1, 1), (0.1, 9.0), fill=0), MixUp(1.0)], seed=2)
    result, labels = augment(layer, images, coded(64))
    assert not result.any() and (decoded(labels)[1] > 0).any()


def test_pipelines_and_choices_nest():
    choice = RandomChoice([MixUp(0.4), CutMix(1.0)], mode="sample")
    inner = Pipeline([RandomPadCrop(1), RandomApply(RandomErasing(1.0), 0.5)])
    layer = Pipeline([inner, choice], seed=3)
    images, labels = augment(layer, numbered(16, 6, 6), coded(16))
    assert np.isfinite(images).all()
    np.testing.assert_allclose(labels.sum(axis=1), coded(16).sum(axis=1), rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    for found, expected in zip(augment(again, numbered(16, 6, 6), coded(16)), (images, labels), strict=True):
        assert_same_bits(found, expected)


def test_a_pipeline_of_one_is_that_layer_with_other_numbers():
    result = augment(Pipeline([RandomErasing(1.0, (0.25, 0.25), (1, 1))], seed=4), np.ones((50, 8, 8, 1), "float32"))
    assert ((result == 0).sum(axis=(1, 2, 3)) == 16).all()


def test_layers_of_keras_move_images_and_masks_as_they_do_alone():
    images = addressed(32)
    data = {"images": images, "segmentation_masks": images.astype("int32"), "labels": np.arange(32, dtype="int32")}
    layer = Pipeline([keras.layers.RandomFlip("horizontal", seed=5), RandomErasing(0.0)])
    result = to_numpy(layer(data))
    np.testing.assert_array_equal(result["segmentation_masks"], result["images"].astype("int32"))
    flipped = (result["images"] == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 4 < flipped.sum() < 28 and (result["images"][~flipped] == images[~flipped]).all()
    np.testing.assert_array_equal(result["labels"], np.arange(32))


def test_seeds_of_the_parts_make_the_whole_repeatable():
    def make():
        return Pipeline([RandomPadCrop(2, seed=1), RandomErasing(1.0, seed=2)])

    first, second = augment(make(), addressed(8)), augment(make(), addressed(8))
    assert_same_bits(first, second)


def test_two_layers_of_one_class_draw_differently():
    erase = {"rate": 1.0, "scale": (0.25, 0.25), "ratio": (1, 1)}
    images = np.ones((300, 8, 8, 1), "float32")
    layer = Pipeline([RandomErasing(**erase), RandomErasing(**erase)], seed=6)
    erased = (augment(layer, images) == 0).sum(axis=(1, 2, 3))
    assert (erased == 16).mean() < 0.15  # one chance in 25 that both boxes agree


def test_sizes_may_change_on_the_way():
    layer = Pipeline([RandomResizedCrop((5, 7)), keras.layers.Rescaling(2.0), CutMix()], seed=7)
    images, _ = augment(layer, np.ones((4, 8, 8, 3), "float32"), coded(4))
    assert images.shape == (4, 5, 7, 3)
    np.testing.assert_allclose(images, 2.0, rtol=1e-5)
    symbolic, _ = layer(keras.Input((8, 8, 3)), keras.Input((4,)))
    assert tuple(symbolic.shape) == (None, 5, 7, 3)


@pytest.mark.parametrize("parallel", [None, 2])
def test_a_pipeline_with_layers_of_keras_maps_over_tf_data(parallel):
    """On every backend: Keras' own layers have a form for tf.data graphs too."""
    layer = Pipeline([keras.layers.RandomFlip(seed=8), RandomErasing(0.5), CutMix(num_classes=4)], seed=8)
    images, labels = addressed(20), np.arange(20, dtype="int32") % 4
    found = map_in_tf_data(layer, (images, labels), batch_size=8, num_parallel_calls=parallel)
    assert [x.shape for x, _ in found] == [(8, 8, 6, 1), (8, 8, 6, 1), (4, 8, 6, 1)]
    assert all(np.allclose(y.sum(axis=1), 1) and y.shape[1] == 4 for _, y in found)


@pytest.mark.parametrize("within", ["alone", "choice", "beside a layer of Keras"])
def test_autograph_leaves_it_as_it_is(within):
    """Translating what it calls would take seconds before the first batch."""

    class Watching(RandomErasing):
        def get_random_transformation(self, *args):
            files.append(sys._getframe().f_code.co_filename)
            return super().get_random_transformation(*args)

    files, layer = [], Watching(0.5)
    if within == "choice":
        layer = RandomChoice([layer, RandomApply(layer)])
    if within == "beside a layer of Keras":
        layer = Pipeline([keras.layers.RandomFlip(seed=8), layer])
    map_in_tf_data(layer, addressed(4), batch_size=4)
    assert files and set(files) == {__file__}


def test_keras_own_mixers_are_refused():
    if not hasattr(keras.layers, "MixUp"):
        pytest.skip("this Keras has none")
    with raises_received("layer"):
        Pipeline([keras.layers.MixUp(0.2)])


@pytest.mark.parametrize("kind", [Pipeline, RandomChoice])
def test_layers_one_after_the_other_or_with_weights_are_refused(kind):
    with raises_received("must be a list", "layers="):
        kind(RandomErasing(), MixUp())
    for trained in (keras.layers.Dense(3), keras.layers.BatchNormalization()):
        with raises_received("without weights to train", "layers="):
            kind([RandomErasing(), trained])


def test_layers_of_two_layouts_are_refused():
    with raises_received("data_format"):
        Pipeline([RandomErasing(data_format="channels_first"), RandomPadCrop(2, data_format="channels_last")])


def test_a_bad_batch_is_refused_before_anything_runs():
    """The second layer looks at what the first one makes of the shapes."""
    layer = Pipeline([RandomResizedCrop(3), RandomPadCrop(4, fill_mode="reflect")])
    with raises_received("padding"):
        layer(np.ones((2, 16, 16, 3), "float32"))
    with raises_received("num_classes"):
        Pipeline([RandomErasing(), CutMix()])(np.ones((2, 8, 8, 3), "float32"), np.array([0, 1]))


def test_label_noise_stays_sparse_before_a_mixer():
    layer = Pipeline([LabelNoise(1.0, num_classes=4), MixUp(num_classes=4)], seed=9)
    _, labels = augment(layer, np.ones((6, 4, 4, 1), "float32"), np.arange(6) % 4)
    assert labels.shape == (6, 4)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)


class KeepsLabels(BatchAugmentation):
    """A layer of a user that leaves everything as it is, for inputs of any shape and number."""

    moves_pixels = False

    def transform_sample_weights(self, sample_weights, transformation, batch):
        return sample_weights


@pytest.mark.parametrize("compiled", [False, True])
def test_inputs_with_names_keep_their_names(compiled):
    inputs = {"b": np.full((4, 3), 2, "float32"), "a": np.full((4, 3), 1, "float32")}
    layer = Pipeline([KeepsLabels(), MixUp(0.2)], seed=1)
    call = jit(lambda x: layer({"images": x}), layer) if compiled else lambda x: layer({"images": x})
    found = call(inputs)["images"]
    for name, expected in inputs.items():
        np.testing.assert_allclose(to_numpy(found[name]), expected, rtol=1e-6)


@only("jax")
def test_a_compiler_computes_each_layer_once_for_the_next():
    """XLA would compute pixels again for each reader, with 4.2 times as many operations as the single layers."""
    import jax

    def operations(layer):
        compiled = jax.jit(lambda images: layer(images, index=0)).lower(np.zeros((8, 64, 64, 3), "float32")).compile()
        return compiled.cost_analysis()["flops"]

    layers = [
        RandomAffine(15), ColorJitter(0.4, 0.4, 0.4, 0.1, value_range=(0, 1)), RandomGaussianBlur(rate=1.0),
        RandomGrayscale(0.1),
    ]  # fmt: skip
    assert operations(Pipeline(layers)) < 2 * sum(map(operations, layers))


def test_a_pipeline_of_keras_is_unpacked():
    """So its layers move masks too, and a `Rescaling` in it is found."""
    if not hasattr(keras.layers, "Pipeline"):
        pytest.skip("This Keras has no `keras.layers.Pipeline`.")
    images, masks = np.random.default_rng(0).random((4, 6, 8, 1), "float32"), np.zeros((4, 6, 8, 1), "uint8")
    masks[:, :, :4] = 1
    of_keras = keras.layers.Pipeline([RandomFlip(rate=1.0, seed=1), keras.layers.RandomFlip("horizontal", seed=2)])
    done = Pipeline([of_keras])({"images": images, "segmentation_masks": masks})
    np.testing.assert_array_equal(to_numpy(done["segmentation_masks"]).sum((1, 2, 3)), 24)
    model = keras.Sequential([keras.Input((6, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with raises_received("must not preprocess", "layers="):
        RegularizedModel(model, keras.layers.Pipeline([keras.layers.Rescaling(1 / 255)]))
    RegularizedModel(model, of_keras)


def test_a_layer_that_only_defines_call():
    class Negative(keras.layers.Layer):
        def call(self, inputs):
            return -inputs

    images = np.ones((2, 4, 4, 1), "float32")
    assert to_numpy(Pipeline([Negative(), RandomFlip()])(images)).max() == -1
