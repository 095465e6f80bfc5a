import numpy as np
import pytest
from harness import raises_received
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import stats

from keras_reg.layers import Pipeline, RandomApply, RandomFlip

BOTH = "horizontal_and_vertical"
LAYOUTS = {"channels_last": (0, 1, 2, 3), "channels_first": (0, 3, 1, 2)}


def addressed(count, channels=3, dtype="uint8"):
    """Images (count, 4, 5, channels) of which no pixel is equal to another one."""
    pixels = np.random.default_rng(0).permutation(4 * 5 * channels).reshape(1, 4, 5, channels)
    return np.repeat(pixels, count, axis=0).astype(dtype)


def flips_of(images, found):
    """(down, across), each (count,): which axes of channels-last images were mirrored."""
    all_flips = [(down, across) for down in (1, -1) for across in (1, -1)]
    shown = np.stack([(found == images[:, ::down, ::across]).all((1, 2, 3)) for down, across in all_flips])
    assert (shown.sum(0) == 1).all()  # each image is exactly one of them
    return (np.array(all_flips)[shown.argmax(0)] == -1).T


@pytest.mark.parametrize("mode", ["horizontal", "vertical", BOTH])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_mirrored_and_their_values_stay(mode, layout):
    for dtype, channels in (("uint8", 3), ("float32", 1), ("int32", 12)):  # few channels and many
        images = addressed(2, channels, dtype)
        given = images.transpose(LAYOUTS[layout])
        found = augment(RandomFlip(mode, 1.0, data_format=layout, seed=1), given)
        expected = images[:, :: 1 if mode == "horizontal" else -1, :: 1 if mode == "vertical" else -1]
        assert_same_bits(found, expected.transpose(LAYOUTS[layout]))


def test_each_axis_of_each_image_is_drawn_by_itself():
    images = addressed(3000, 1)
    down, across = flips_of(images, augment(RandomFlip(BOTH, 0.3, seed=2), images))
    counts = np.bincount(2 * down + across, minlength=4)
    assert stats.chisquare(counts, 3000 * np.array([0.49, 0.21, 0.21, 0.09])).pvalue > LEAST_P
    down, across = flips_of(images, augment(RandomFlip(rate=0.3, seed=2), images))
    assert not down.any() and stats.binomtest(int(across.sum()), 3000, 0.3).pvalue > LEAST_P


def test_the_flip_of_an_image_does_not_depend_on_the_other_images():
    images = np.random.default_rng(1).random((6, 4, 5, 2), "float32")
    layer, others = RandomFlip(BOTH, seed=3), images.copy()
    others[1:] = np.nan
    found = augment(layer, images, index=0)
    assert_same_bits(augment(layer, others, index=0)[0], found[0])
    flips = flips_of(images, found)
    assert_same_bits(augment(layer, images[::-1].copy(), index=0), flipped(images[::-1], *flips))


def flipped(images, down, across):
    rows = [image[:: -1 if d else 1, :: -1 if a else 1] for image, d, a in zip(images, down, across, strict=True)]
    return np.ascontiguousarray(np.stack(rows))


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_masks_label_maps_and_weights_are_mirrored_along(shape):
    images = addressed(30, 1, "float32")
    maps = np.broadcast_to(images.reshape(30, 4, 5, *[1] * len(shape)), (30, 4, 5, *shape)).astype("int32")
    data = {
        "images": images,
        "labels": maps.copy(),
        "segmentation_masks": maps.copy(),
        "sample_weights": images[..., 0],
    }
    found = augment(RandomFlip(BOTH, seed=4), data)
    assert (found["images"] != images).any()
    expected = np.broadcast_to(found["images"].reshape(30, 4, 5, *[1] * len(shape)), maps.shape).astype("int32")
    np.testing.assert_array_equal(found["labels"], expected)
    np.testing.assert_array_equal(found["segmentation_masks"], expected)
    np.testing.assert_array_equal(found["sample_weights"], found["images"][..., 0])


def test_class_labels_stay():
    labels = np.eye(6, dtype="float32")
    np.testing.assert_array_equal(augment(RandomFlip(rate=1.0), addressed(6), labels)[1], labels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_frames_of_a_video_are_mirrored_alike(layout):
    videos = np.random.default_rng(2).random((8, 3, 4, 5, 2), "float32")
    given = videos if layout == "channels_last" else np.moveaxis(videos, -1, 1)
    found = augment(RandomFlip(seed=5, data_format=layout), given)
    found = found if layout == "channels_last" else np.moveaxis(found, 1, -1)
    across = (found == videos[:, :, :, ::-1]).all((1, 2, 3, 4))
    assert 0 < across.sum() < 8
    assert_same_bits(found, np.where(across[:, None, None, None, None], videos[:, :, :, ::-1], videos))


def test_signals_are_reversed_in_time():
    signals = np.random.default_rng(3).random((8, 7, 2), "float32")
    found = augment(RandomFlip(kind="signal", seed=6), signals)
    turned = (found == signals[:, ::-1]).all((1, 2))
    assert 0 < turned.sum() < 8
    assert_same_bits(found, np.where(turned[:, None, None], signals[:, ::-1], signals))
    for mode in ("vertical", BOTH):
        with raises_received(f"mode='{mode}'", "signals"):
            RandomFlip(mode, kind="signal")(signals)


def test_only_the_images_that_an_outer_layer_chooses_are_mirrored():
    images = addressed(1000, 1)
    layer = Pipeline([RandomApply(RandomFlip(BOTH, 1.0), rate=0.4)], seed=7)
    down, across = flips_of(images, augment(layer, images))
    np.testing.assert_array_equal(down, across)
    assert stats.binomtest(int(down.sum()), 1000, 0.4).pvalue > LEAST_P
