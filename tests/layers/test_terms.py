"""What a layer does to labels and pixels reaches every term of mixed labels, the metrics, masks and weights."""

import functools

import keras
import numpy as np
import pytest
from harness import to_numpy
from layers import batches
from layers.batches import augment

from keras_reg.layers import (
    CutMix,
    LabelNoise,
    MixUp,
    Pipeline,
    RandomAffine,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomFlip,
    RandomPadCrop,
    RandomResizedCrop,
)
from keras_reg.training import RegularizedModel

COUNT, CLASSES, HEIGHT, WIDTH = 12, 4, 8, 6
MIXERS = {name: functools.partial(make, num_classes=CLASSES) for name, make in batches.MIXERS.items()}
each_mixer = pytest.mark.parametrize("name", MIXERS)


def in_the_step(layer, images, labels, weights=None):
    """(images, terms, weight of each term, what the metrics see, sample weights) as a training step has them."""
    network = keras.Sequential([keras.Input(images.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(1)])
    images, labels, weights = RegularizedModel(network, layer).augment(images, labels, weights)
    if not hasattr(labels, "dominant"):
        return to_numpy((images, [labels], np.ones((len(images), 1)), labels, weights))
    shares = np.ones((len(images), 1)) if labels.weights is None else labels.weights
    return to_numpy((images, list(labels.labels), shares, labels.dominant, weights))


def collapsed(terms, shares):
    """The distribution over classes that the loss sees, (batch, ..., classes)."""
    shares = shares.reshape(*shares.shape, *[1] * terms[0].ndim)
    return sum(shares[:, k] * np.eye(CLASSES)[term] for k, term in enumerate(terms))


def photos_and_maps(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.random((COUNT, HEIGHT, WIDTH, 1), "float32") + 1
    return images, rng.integers(0, CLASSES, (COUNT, HEIGHT, WIDTH)).astype("int32")


# Erasing behind a mixer.


@each_mixer
@pytest.mark.parametrize("twice", [False, True])
def test_erasing_behind_mixers_reaches_what_the_loss_and_the_metrics_see(name, twice):
    images, maps = photos_and_maps()
    erase = RandomErasing(0.7, (0.25, 0.25), (1, 1), fill=-1, mask_fill=9)
    layer = Pipeline([*[MIXERS[name]()] * (2 if twice else 1), erase], seed=1)
    images, terms, _, shown, _ = in_the_step(layer, images, maps)
    erased = images[..., 0] == -1
    assert 0.05 < erased.mean() < 0.25
    for labels in (*terms, shown):
        np.testing.assert_array_equal(labels == 9, erased)


@each_mixer
def test_crops_behind_mixers_reach_what_the_loss_and_the_metrics_see(name):
    images, maps = photos_and_maps()
    layer = Pipeline([MIXERS[name](), RandomPadCrop(3, fill_value=-1, mask_fill=9)], seed=2)
    images, terms, _, shown, _ = in_the_step(layer, images, maps)
    assert (images == -1).any()
    for labels in (*terms, shown):
        np.testing.assert_array_equal(labels == 9, images[..., 0] == -1)


@each_mixer
def test_a_flip_by_keras_behind_mixers_reaches_every_term(name):
    """The mixture is of codes: each pixel's image is the mean of its terms, before the flip and behind it."""
    _, maps = photos_and_maps()
    images = maps[..., None].astype("float32")
    layer = Pipeline([MIXERS[name](), keras.layers.RandomFlip("horizontal", seed=3)], seed=3)
    images, terms, shares, shown, _ = in_the_step(layer, images, maps)
    expected = collapsed(terms, shares) @ np.arange(CLASSES)
    np.testing.assert_allclose(images[..., 0], expected, atol=1e-5)
    assert (np.stack(terms) == shown).any(axis=0).all()


@pytest.mark.parametrize("first", MIXERS)
@pytest.mark.parametrize("second", MIXERS)
def test_two_mixers_in_a_row_keep_the_mixture_of_maps_and_of_ids(first, second):
    """As terms and as soft labels it is the same mixture, pixel by pixel."""
    images, maps = photos_and_maps()
    ids = np.arange(COUNT, dtype="int32") % CLASSES
    hot = np.eye(CLASSES, dtype="float32")
    make = lambda: Pipeline([MIXERS[first](), MIXERS[second]()], seed=4)  # noqa: E731
    _, terms, shares, _, _ = in_the_step(make(), images, {"map": maps, "id": ids})
    _, (soft,), _, _, _ = in_the_step(make(), images, {"map": hot[maps], "id": hot[ids]})
    for key in soft:
        np.testing.assert_allclose(collapsed([term[key] for term in terms], shares), soft[key], atol=1e-5)
    _, terms, shares, _, _ = in_the_step(make(), images, maps)
    np.testing.assert_allclose(collapsed(terms, shares), soft["map"], atol=1e-5)


def test_a_cut_map_shows_the_metrics_each_pixel_that_is_seen():
    """What was cut counts as whole for the mixer behind it: of a blend the heavier image is shown, cut or not."""
    images, maps = photos_and_maps()
    layer = Pipeline([CutMix(1.0), MixUp(1.0)], seed=5)
    _, terms, shares, shown, _ = in_the_step(layer, images, maps)
    heavier = np.stack(terms)[shares.argmax(axis=1), np.arange(COUNT)]
    np.testing.assert_array_equal(shown, heavier)


def test_noise_behind_a_mixer_redraws_a_sample_as_a_whole():
    images, _ = photos_and_maps()
    ids = np.arange(COUNT, dtype="int32") % CLASSES
    layer = Pipeline([MixUp(1.0), LabelNoise(0.5, CLASSES)], seed=6)
    _, terms, _, shown, _ = in_the_step(layer, images, ids)
    _, clean, _, shown_clean, _ = in_the_step(Pipeline([MixUp(1.0), LabelNoise(0.0, CLASSES)], seed=6), images, ids)
    changed = (np.stack(terms) != np.stack(clean)).any(axis=0)
    assert 0 < changed.sum() < COUNT
    assert (terms[0][changed] == terms[1][changed]).all()
    np.testing.assert_array_equal(shown, shown_clean)


# Weights of pixels.

CARRIERS = {
    **{name: (lambda make=make: make()) for name, make in MIXERS.items()},
    "RandomPadCrop": lambda: RandomPadCrop((2, 3)),
    "RandomAffine": lambda: RandomAffine(40, 0.3, 0.2, 0.1, interpolation="nearest"),
    "RandomFlip": lambda: RandomFlip("vertical"),
    "reflected": lambda: RandomPadCrop((2, 3), fill_mode="reflect"),
    "RandomApply": lambda: RandomApply(RandomPadCrop(2), 0.5),
    "a flip by Keras": lambda: Pipeline([keras.layers.RandomFlip(seed=1)]),
    "a flip of some": lambda: RandomApply(keras.layers.RandomFlip(seed=1), 0.5),
    "a choice of moves": lambda: RandomChoice([RandomPadCrop(2), keras.layers.RandomFlip(seed=2)]),
    "a shift by Keras": lambda: Pipeline(
        [keras.layers.RandomTranslation(0.4, 0.4, fill_mode="constant", interpolation="nearest", seed=3)]
    ),
    "a chain": lambda: Pipeline([RandomPadCrop(2), CutMix(), keras.layers.RandomFlip(seed=4), MixUp(1.0)]),
}


@pytest.mark.parametrize("name", CARRIERS)
@pytest.mark.parametrize("channels", [False, True])
def test_weights_of_pixels_go_where_the_pixels_go(name, channels):
    """The image is the weight: both must stay one. Pixels from outside are 0 in the image and weigh 0."""
    images, _ = photos_and_maps()
    weights = images if channels else images[..., 0]
    layer = Pipeline([CARRIERS[name]()], seed=9)
    found, _, moved = to_numpy(layer(images, np.eye(COUNT, CLASSES, dtype="float32"), weights))
    assert moved.shape == weights.shape and (found != images).any()
    np.testing.assert_allclose(moved, found if channels else found[..., 0], rtol=1e-6)


def test_weights_of_pixels_in_channels_first_and_of_whole_numbers():
    images, _ = photos_and_maps()
    weights = (images[..., 0] * 100).astype("int32")
    images = weights[:, None].astype("float32")
    for layer in (CutMix(seed=1, data_format="channels_first"), RandomPadCrop(2, data_format="channels_first")):
        found, _, moved = augment(layer, images, np.eye(COUNT, dtype="float32"), weights)
        np.testing.assert_array_equal(moved, found[:, 0])


def test_weights_of_pixels_from_outside_are_0_whatever_the_layer_of_keras_fills_with():
    layer = Pipeline(
        [keras.layers.RandomTranslation((0.5, 0.5), (0.5, 0.5), fill_mode="constant", fill_value=3, seed=5)]
    )
    images = np.ones((COUNT, HEIGHT, WIDTH, 1), "float32")
    masks = np.full((COUNT, HEIGHT, WIDTH), 2, "int32")
    data = {"images": images, "segmentation_masks": masks, "sample_weights": 3 * images[..., 0]}
    found = to_numpy(layer(data))
    inside = found["images"][..., 0] == 1
    assert 0.2 < inside.mean() < 0.8
    np.testing.assert_array_equal(found["sample_weights"], np.where(inside, 3, 0))
    np.testing.assert_array_equal(found["segmentation_masks"], np.where(inside, 2, 3))
    assert found["segmentation_masks"].dtype == "int32"


def test_weights_of_pixels_follow_a_resized_crop_as_masks_do():
    images, maps = photos_and_maps()
    data = {"images": images, "segmentation_masks": maps, "sample_weights": maps.astype("float32")}
    found = augment(RandomResizedCrop((5, 7), seed=6), data)
    assert found["sample_weights"].shape == (COUNT, 5, 7)
    np.testing.assert_array_equal(found["sample_weights"], found["segmentation_masks"])


@each_mixer
def test_weights_of_pixels_in_the_step(name):
    images, maps = photos_and_maps()
    found, _, _, _, weights = in_the_step(Pipeline([MIXERS[name]()], seed=7), images, maps, images[..., 0])
    np.testing.assert_allclose(weights, found[..., 0], rtol=1e-6)


def test_weights_of_several_outputs_each_go_their_way():
    images, maps = photos_and_maps()
    labels = {"map": maps, "id": np.arange(COUNT) % CLASSES}
    weights = {"map": images[..., 0], "id": images[:, 0, 0, 0]}
    found, _, _, _, moved = in_the_step(Pipeline([RandomPadCrop(2), CutMix()], seed=8), images, labels, weights)
    np.testing.assert_array_equal(moved["map"], found[..., 0])
    assert moved["id"].shape == (COUNT,)
