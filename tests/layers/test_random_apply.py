import keras
import numpy as np
from harness import raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment, augmenter, coded, decoded, numbered
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import MixUp, RandomApply, RandomErasing, RandomResizedCrop

COUNT = 4000


def test_rate_is_the_probability_of_each_image_and_multiplies_with_that_of_the_layer():
    images = numbered(COUNT, 3, 3)
    result = augment(RandomApply(RandomErasing(0.5), rate=0.6, seed=1), images)
    erased = (result == 0).any(axis=(1, 2, 3))
    assert stats.binomtest(int(erased.sum()), COUNT, 0.3).pvalue > LEAST_P
    assert_same_bits(result[~erased], images[~erased])


def test_a_layer_of_keras_changes_the_chosen_images_alone():
    images = np.random.default_rng(0).random((COUNT, 2, 2, 1), "float32")
    layer = RandomApply(keras.layers.GaussianNoise(1.0, seed=2), rate=0.25, seed=2)
    result = augment(layer, images)
    changed = (result != images).any(axis=(1, 2, 3))
    assert stats.binomtest(int(changed.sum()), COUNT, 0.25).pvalue > LEAST_P
    assert_same_bits(result[~changed], images[~changed])
    assert stats.kstest((result - images)[changed].ravel(), "norm").pvalue > LEAST_P


def test_a_mixer_mixes_the_labels_of_the_chosen_images_alone():
    images = numbered(COUNT, 2, 2)
    result, labels = augment(RandomApply(MixUp(1.0), rate=0.4, seed=3), images, coded(COUNT))
    kept, _, _ = decoded(labels)
    assert stats.binomtest(int((kept < 1).sum()), COUNT, 0.4).pvalue > LEAST_P
    assert_same_bits(result[kept == 1], images[kept == 1])
    assert_same_bits(labels[kept == 1], coded(COUNT)[kept == 1])


def test_masks_of_images_that_are_not_chosen_stay():
    """A flip of Keras moves the masks of the chosen images along."""
    images = np.arange(48, dtype="float32").reshape(1, 6, 8, 1) * np.ones((400, 1, 1, 1), "float32")
    data = {"images": images, "segmentation_masks": images.astype("int32")}
    layer = RandomApply(keras.layers.RandomFlip("horizontal", seed=4), rate=0.5, seed=4)
    result = to_numpy(layer(data))
    np.testing.assert_array_equal(result["segmentation_masks"], result["images"].astype("int32"))
    flipped = (result["images"] != images).any(axis=(1, 2, 3))
    assert stats.binomtest(int(flipped.sum()), 400, 0.25).pvalue > LEAST_P  # and Keras flips half of them


def test_a_strength_moves_the_rate():
    layer = RandomApply(RandomErasing(1.0), rate=Strength(0.5), seed=5)
    (rate,) = [v for v in layer.non_trainable_variables if v.name == "rate"]
    call, images = augmenter(layer), numbered(2000, 3, 3)
    for value in (0.0, 0.3, 1.0):
        rate.assign(value)
        erased = (call(images) == 0).any(axis=(1, 2, 3))
        assert abs(erased.mean() - value) < (0.05 if 0 < value < 1 else 1e-9)


def test_another_size_is_refused_eagerly_and_symbolically():
    layer = RandomApply(RandomResizedCrop(4), rate=0.5)
    for images in (np.ones((2, 8, 8, 3), "float32"), keras.Input((8, 8, 3))):
        with raises_received("before", "after"):
            layer(images)
    same = augment(RandomApply(RandomResizedCrop((8, 6)), rate=0.5, seed=6), numbered(40, 8, 6))
    np.testing.assert_allclose(same, numbered(40, 8, 6), rtol=1e-6)
