import keras
import numpy as np
import pytest
from harness import assert_close, raises_received
from layers.batches import LEAST_P, assert_same_bits, augment, augmenter, boxes_of, coded, decoded, numbered
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import CutMix, MixUp, RandomChoice, RandomErasing, RandomPadCrop, RandomResizedCrop

COUNT = 6000


def kinds_of(images, result):
    """ "same", "cut" (every pixel is one of two whole numbers) or "blend", for `numbered` images."""
    whole = (result == np.round(result)).all(axis=(1, 2, 3))
    same = (result == images).all(axis=(1, 2, 3))
    return np.where(same, "same", np.where(whole, "cut", "blend"))


def test_each_sample_is_blended_or_cut_in_the_proportion_of_the_weights():
    """Labels say the same as the pixels: the share of pixels where it was cut, the blend where it was blended."""
    images = numbered(COUNT, 8, 8)
    layer = RandomChoice([MixUp(1.0), CutMix(1.0)], probabilities=[1, 3], mode="sample", seed=1)
    result, labels = augment(layer, images, coded(COUNT))
    kept, given, partner = decoded(labels)
    kinds = kinds_of(images, result)
    # Cuts whose box is empty, 1 - lambda under (0.5 / 8)^2, show as the same.
    expected = np.array([0.25, 0.75 * (1 - (0.5 / 8) ** 2)])
    expected = np.append(expected, 1 - expected.sum()) * COUNT
    counts = [int((kinds == kind).sum()) for kind in ("blend", "cut", "same")]
    assert stats.chisquare(counts, expected).pvalue > LEAST_P
    blend, cut = kinds == "blend", kinds == "cut"
    expected = (kept * images[:, 0, 0, 0] + given * images[partner, 0, 0, 0])[:, None, None, None]
    assert_close(result[blend], np.broadcast_to(expected[blend], result[blend].shape), rtol=1e-5, atol=1e-3)
    taken = (result != images)[cut]
    boxes_of(taken[..., 0])
    np.testing.assert_allclose(kept[cut], 1 - taken.mean(axis=(1, 2, 3)), atol=1e-6)
    np.testing.assert_array_equal(result[cut], np.where(taken, images[partner][cut], images[cut]))


def test_one_draw_for_the_batch_takes_each_layer_by_its_weight():
    """240 batches: each is blended or cut as a whole."""
    layer = RandomChoice([MixUp(1.0), CutMix(1.0)], probabilities=[1, 2], mode="batch", seed=2)
    call, images, labels = augmenter(layer), numbered(32, 8, 8), coded(32)
    blended = 0
    for _ in range(240):
        kinds = set(kinds_of(images, call(images, labels)[0])) - {"same"}
        assert len(kinds) == 1
        blended += kinds == {"blend"}
    assert stats.binomtest(blended, 240, 1 / 3).pvalue > LEAST_P


@pytest.mark.parametrize("mode", ["sample", "batch"])
@pytest.mark.parametrize(("weights", "sure"), [([1, 0], MixUp(0.4)), ([0, 1], CutMix(0.4))])
def test_a_choice_that_is_sure_is_the_layer_itself(mode, weights, sure):
    """With the same lambdas, read from the labels: the images are what that one layer makes of them."""
    images, labels = numbered(64, 6, 6), coded(64)
    layer = RandomChoice([MixUp(0.4), CutMix(0.4)], probabilities=weights, mode=mode, seed=3)
    result, mixed = augment(layer, images, labels)
    kept, given, partner = decoded(mixed)
    assert given.max() > 0.1
    if isinstance(sure, MixUp):
        expected = kept[:, None, None, None] * images + given[:, None, None, None] * images[partner]
        assert_close(result, expected, rtol=1e-5, atol=1e-4)
    else:
        taken = result != images
        boxes_of(taken[..., 0])
        np.testing.assert_array_equal(result, np.where(taken, images[partner], images))
        np.testing.assert_allclose(given, taken.mean(axis=(1, 2, 3)), atol=1e-6)


def test_each_mixer_keeps_its_own_alpha_and_rate():
    images = numbered(COUNT, 8, 8)
    layer = RandomChoice([MixUp(8.0, rate=0.5), CutMix(0.2)], probabilities=[1, 0], mode="sample", seed=4)
    kept = decoded(augment(layer, images, coded(COUNT))[1])[0]
    mixed = kept < 1
    assert stats.binomtest(int(mixed.sum()), COUNT, 0.5).pvalue > LEAST_P
    assert stats.kstest(kept[mixed], stats.beta(8, 8).cdf).pvalue > LEAST_P


def test_other_layers_are_chosen_for_the_batch():
    layer = RandomChoice([RandomErasing(1.0, (0.25, 0.25), (1, 1), fill=-1), RandomPadCrop(2, fill_value=-2)], seed=5)
    call, images = augmenter(layer), numbered(20, 8, 8)
    seen = {frozenset(np.unique(call(images))) & {-1.0, -2.0} for _ in range(12)}
    assert seen == {frozenset({-1.0}), frozenset({-2.0})}


def test_layers_of_keras_are_chosen_too():
    flip = keras.layers.RandomFlip("horizontal", seed=1)
    layer = RandomChoice([flip, RandomErasing(0.0)], probabilities=[0, 1], seed=6)
    images = np.random.default_rng(0).random((4, 6, 5, 3), "float32")
    assert_same_bits(augment(layer, images), images)


def test_strengths_of_the_mixers_move_the_choice():
    alpha = Strength(1.0)
    layer = RandomChoice([MixUp(1.0, rate=Strength(1.0)), CutMix(alpha, rate=Strength(1.0))], mode="sample", seed=7)
    rates = [v for v in layer.non_trainable_variables if v.name == "rate"]
    assert len(rates) == 2
    for rate in rates:
        rate.assign(0.0)
    images = numbered(64, 6, 6)
    assert_same_bits(augment(layer, images, coded(64))[0], images)


def test_a_choice_to_another_size_is_refused_before_it_runs():
    layer = RandomChoice([RandomErasing(0.5), RandomResizedCrop(4)])
    with raises_received("before", "after"):
        layer(np.ones((2, 8, 8, 3), "float32"))
    with raises_received("before", "after"):
        layer(keras.Input((8, 8, 3)))


def test_a_resizing_crop_to_the_same_size_may_be_chosen():
    layer = RandomChoice([RandomResizedCrop((8, 6), seed=1), RandomErasing(0.0)], probabilities=[1, 0], seed=8)
    images = np.random.default_rng(1).random((4, 8, 6, 3), "float32")
    result = augment(layer, images)
    assert result.shape == images.shape and (result != images).any(axis=(1, 2, 3)).all()
