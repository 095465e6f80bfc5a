import numpy as np
import pytest
from harness import import_torchvision, only, raises_received
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import stats

from keras_reg.layers import RandomGrayscale

COLORS = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3)).astype("uint8")


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_integers_become_the_gray_of_pillow(layout):
    image = pytest.importorskip("PIL.Image")
    given = COLORS if layout == "channels_last" else COLORS.transpose(0, 3, 1, 2)
    found = augment(RandomGrayscale(1.0, data_format=layout), given)
    found = found if layout == "channels_last" else found.transpose(0, 2, 3, 1)
    expected = np.stack([np.asarray(image.fromarray(one).convert("L")) for one in COLORS])
    assert found.dtype == "uint8" and (found == found[..., :1]).all()
    exact = COLORS.astype("float64") @ [0.299, 0.587, 0.114]
    clear = abs(exact - np.floor(exact) - 0.5) > 1e-3  # no tie
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[..., 0][clear], expected[clear])


@only("torch")
def test_floats_become_the_gray_of_torchvision():
    import torch

    images = (COLORS / np.float32(255)).astype("float32")
    functional = import_torchvision().transforms.v2.functional
    expected = functional.rgb_to_grayscale(torch.from_numpy(images).permute(0, 3, 1, 2), 3).permute(0, 2, 3, 1)
    np.testing.assert_allclose(augment(RandomGrayscale(1.0), images), expected.numpy(), atol=2e-4)


def test_gray_pixels_and_images_that_are_not_chosen_stay():
    grays = np.repeat(np.arange(256, dtype="uint8").reshape(1, 16, 16, 1), 3, axis=-1)
    assert_same_bits(augment(RandomGrayscale(1.0), grays), grays)
    images = np.repeat(COLORS[:1], 2000, axis=0).astype("float32")
    images[::9, 0, 0, 0] = np.nan
    found = augment(RandomGrayscale(0.3, seed=1), images)
    chosen = (found[:, 1:] == found[:, 1:, :, :1]).all((1, 2, 3))
    assert stats.binomtest(int(chosen.sum()), 2000, 0.3).pvalue > LEAST_P
    assert_same_bits(found[~chosen], images[~chosen])


def test_all_frames_of_a_video_change_alike_and_masks_stay():
    videos = COLORS.reshape(10, 4, 6, 5, 3)
    found = augment(RandomGrayscale(0.5, seed=2), videos)
    by_frame = (found == found[..., :1]).all((2, 3, 4))
    assert (by_frame == by_frame[:, :1]).all() and 0 < by_frame[:, 0].sum() < 10
    masks = np.arange(40 * 30).reshape(40, 6, 5)
    data = {"images": COLORS, "segmentation_masks": masks, "labels": np.arange(40)}
    found = augment(RandomGrayscale(1.0), data)
    np.testing.assert_array_equal(found["segmentation_masks"], masks)
    np.testing.assert_array_equal(found["labels"], np.arange(40))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_without_three_channels_are_refused(channels):
    with raises_received("shape=(2, 4, 4, ", "3 channels"):
        RandomGrayscale()(np.ones((2, 4, 4, channels), "float32"))
