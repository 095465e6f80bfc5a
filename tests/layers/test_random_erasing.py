import keras
import numpy as np
import pytest
from harness import assert_close, gradients, import_torchvision, only, raises_received
from hypothesis import given
from hypothesis import strategies as st
from layers.batches import LEAST_P, assert_same_bits, augment, augmenter, boxes_of, properties
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import RandomErasing


def ones(count, height, width, channels=1, dtype="uint8"):
    return np.ones((count, height, width, channels), dtype)


def erased_boxes(layer, *shape):
    """The boxes that `layer` erases from ones."""
    return boxes_of(augment(layer, ones(*shape))[..., 0] == 0)


# What is drawn.


@pytest.mark.parametrize("rate", [0.25, 0.75])
def test_rate_is_the_probability_of_each_image(rate):
    """20,000 images: the share is known to 0.003 (one sigma), far from 36 % at a rate of 75 %."""
    images = augment(RandomErasing(rate, seed=1), ones(20_000, 3, 3))
    hit = (images == 0).any(axis=(1, 2, 3))
    assert stats.binomtest(int(hit.sum()), len(hit), rate).pvalue > LEAST_P
    # Each for itself: a hit says nothing about the next image.
    assert abs(np.corrcoef(hit[1:], hit[:-1])[0, 1]) < 4 / np.sqrt(len(hit))


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (160, 160, (0.02, 0.33), (0.3, 3.3)),
        (160, 160, (0.02, 0.33), (0.2, 1.0)),  # tall boxes only
        (80, 320, (0.05, 0.9), (0.3, 3.3)),  # areas beyond 0.83 do not fit, nor tall boxes at most others
    ],
)
def test_area_is_uniform_and_aspect_log_uniform_in_what_fits(height, width, scale, ratio):
    """Kolmogorov-Smirnov on 1,000 boxes, against the truncated law. Rounding to pixels moves it by less than 0.01."""
    box = erased_boxes(RandomErasing(1.0, scale, ratio, seed=2), 1000, height, width)
    tall, wide = box[2:]
    largest = min(1.0, ratio[1] * height / width, width / height / ratio[0], scale[1])
    area = tall * wide / (height * width)
    assert stats.kstest(area, stats.uniform(scale[0], largest - scale[0]).cdf).pvalue > LEAST_P
    aspect = wide / tall
    low, high = np.maximum(ratio[0], area * width / height), np.minimum(ratio[1], width / height / area)
    free = high > low * 1.2  # where there is a choice to speak of
    assert free.mean() > 0.7
    place = np.log(aspect / low)[free] / np.log(high / low)[free]
    assert stats.kstest(place, "uniform").pvalue > LEAST_P
    assert stats.spearmanr(place, area[free]).pvalue > LEAST_P


def test_the_corner_is_uniform_over_every_valid_place_edges_included():
    """Boxes of 3 x 3 in 8 x 6 pixels: chi-square over 6 x 4 places."""
    top, left, tall, wide = erased_boxes(RandomErasing(1.0, (9 / 48, 9 / 48), (1, 1), seed=3), 12_000, 8, 6)
    assert (tall == 3).all() and (wide == 3).all()
    counts = np.bincount(top * 4 + left, minlength=24)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > LEAST_P


def test_a_ratio_of_one_erases_squares_as_cutout_does():
    _, _, tall, wide = erased_boxes(RandomErasing(1.0, (0.0, 0.5), (1, 1), seed=4), 500, 12, 20)
    np.testing.assert_array_equal(tall, wide)
    assert set(tall) == set(range(1, 12))  # 0.5 * 240 pixels: sides up to 10.95


def test_the_least_is_one_pixel_and_the_most_the_whole_image():
    assert (np.stack(erased_boxes(RandomErasing(1.0, (0, 0), seed=5), 50, 7, 5)[2:]) == 1).all()
    assert not augment(RandomErasing(1.0, (1, 1), (0.1, 9.0), seed=5), ones(4, 7, 5)).any()


@pytest.mark.parametrize("count", [1, 3, (1, 3)])
def test_boxes_share_the_area(count):
    """Each box has its own colour, so that they can be counted; few of 1 % of the image overlap."""
    layer = RandomErasing(1.0, (0.03, 0.03), (1, 1), count=count, fill="channel_noise", seed=6)
    images = augment(layer, np.zeros((400, 100, 100, 1), "float32"))[..., 0]
    found = [np.unique(image[image != 0], return_counts=True)[1] for image in images]
    number = np.array([len(sizes) for sizes in found])
    if count == (1, 3):
        assert stats.chisquare(np.bincount(number, minlength=4)[1:]).pvalue > LEAST_P
    else:
        assert (number == count).all()
    for sizes in found:  # whole, or overlapped by a later one
        assert sizes.max() == round(np.sqrt(300 / len(sizes))) ** 2
        assert sizes.sum() <= 1.02 * 300


@properties
@given(
    size=st.sampled_from([(1, 1), (1, 9), (7, 4), (13, 16)]),
    scale=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    ratio=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)).map(sorted),
    dtype=st.sampled_from(["uint8", "int32", "float32"]),
)
def test_any_size_scale_and_ratio_erases_one_box_that_fits_or_says_that_none_does(size, scale, ratio, dtype):
    height, width = size
    layer = RandomErasing(1.0, tuple(scale), tuple(ratio), fill=7, seed=8)
    images = np.arange(8 * height * width).reshape(8, height, width, 1).astype(dtype) % 7
    fits = min(ratio[1] * height * height, width * width / ratio[0], height * width)
    if scale[0] * height * width > fits * (1 + 1e-4) + 1e-3:
        with raises_received("scale", "ratio"):
            layer(images)
        return
    if scale[0] * height * width > fits * (1 - 1e-4) - 1e-3:
        return  # on the edge, rounding decides
    result = augment(layer, images)
    region = (result == 7)[..., 0]
    _, _, tall, wide = boxes_of(region)
    assert (tall >= 1).all() and (wide >= 1).all()
    assert_same_bits(result[~region], images[~region])
    # The sides were rounded, or raised to one pixel: what is within half a pixel of them fits the arguments.
    least, most = scale[0] * height * width, scale[1] * height * width
    assert ((tall + 0.51) * (wide + 0.51) >= least).all()
    assert (((tall - 0.51) * (wide - 0.51) <= most) | (tall == 1) | (wide == 1)).all()
    assert (((wide + 0.51) / (tall - 0.51) >= ratio[0]) | (tall == 1)).all()
    assert (((wide - 0.51) / (tall + 0.51) <= ratio[1]) | (wide == 1)).all()


# What is filled in.


def test_images_and_pixels_that_are_not_erased_come_back_bit_for_bit():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2**32, (64, 9, 7, 3), "uint32").view("float32")  # every kind of float, NaN among them
    images = np.where(images == 0.125, 0.25, images).astype("float32")
    result = augment(RandomErasing(0.5, fill=0.125, seed=9), images)
    erased = (result == 0.125).all(axis=-1)
    assert 0 < erased.any(axis=(1, 2)).mean() < 1
    quiet = ~np.isnan(images) & ~erased[..., None]  # a copy may set the quiet bit of a NaN
    assert_same_bits(result[quiet], images[quiet])
    assert np.isnan(result[np.isnan(images) & ~erased[..., None]]).all()
    boxes_of(erased)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_constant_of_each_channel(dtype):
    images = np.full((40, 8, 8, 3), 9, dtype)
    result = augment(RandomErasing(1.0, fill=(1, 2, 3), seed=10), images)
    assert result.dtype == dtype
    erased = (result != 9).all(axis=-1)
    np.testing.assert_array_equal(result, np.where(erased[..., None], np.array([1, 2, 3], dtype), images))


def noise_of(layer, count=300, dtype="float32", channels=2):
    """(the noise in the erased boxes of each image as a list of (pixels, channels), the images)."""
    images = np.full((count, 16, 12, channels), 99, dtype)
    result = augment(layer, images)
    erased = (result != 99).any(axis=-1)
    return [image[where] for image, where in zip(result, erased, strict=True)], result


def test_channel_noise_is_one_standard_normal_colour_a_box():
    noise, _ = noise_of(RandomErasing(1.0, (0.3, 0.3), fill="channel_noise", seed=11), 2000)
    colours = np.stack([pixels[0] for pixels in noise])
    assert all((pixels == pixels[0]).all() for pixels in noise)
    assert stats.kstest(colours.ravel(), "norm").pvalue > LEAST_P
    assert abs(np.corrcoef(colours.T)[0, 1]) < 4 / np.sqrt(len(colours))
    assert len(np.unique(colours)) > 0.99 * colours.size  # JAX draws its normal numbers from 23 bits


def test_pixel_noise_is_standard_normal_and_differs_from_pixel_to_pixel_and_image_to_image():
    noise, result = noise_of(RandomErasing(1.0, (1, 1), (0.1, 9), fill="pixel_noise", seed=12), 40)
    assert all(len(np.unique(pixels)) == pixels.size for pixels in noise)
    # One tile of twice the height is shared, so there are at most that many independent numbers.
    tile = np.unique(np.concatenate(noise))
    assert 1.5 * result[0].size < tile.size <= 2 * result[0].size
    assert stats.kstest(tile, "norm").pvalue > LEAST_P
    same = [(result[i] == result[j]).all() for i in range(40) for j in range(i)]
    assert np.mean(same) < 3 / 17  # 17 starts


@pytest.mark.parametrize("mode", ["channel_noise", "pixel_noise"])
def test_noise_is_uniform_in_the_value_range(mode):
    layer = RandomErasing(1.0, (0.3, 0.3), fill=mode, value_range=(-2, 4), seed=13)
    noise = np.unique(np.concatenate(noise_of(layer, 1000)[0]))
    assert stats.kstest(noise, stats.uniform(-2, 6).cdf).pvalue > LEAST_P


@pytest.mark.parametrize("mode", ["channel_noise", "pixel_noise"])
def test_noise_in_integer_images_takes_every_value_of_the_range_alike(mode):
    layer = RandomErasing(1.0, (1, 1), (0.1, 9), fill=mode, value_range=(3, 6), seed=14)
    noise, result = noise_of(layer, 1500, "uint8", 1)
    assert result.dtype == "uint8"
    values = np.concatenate([pixels[:1] for pixels in noise]) if mode == "channel_noise" else result[:2]
    counts = np.bincount(values.ravel(), minlength=7)
    assert counts[:3].sum() == 0 and len(counts) == 7
    # Two images share a tile of 32 x 12 numbers, at worst wholly: half as many are independent.
    divisor = 1 if mode == "channel_noise" else 2
    assert stats.chisquare(counts[3:] / divisor).pvalue > LEAST_P


def test_noise_in_integer_images_needs_a_range():
    with raises_received("value_range", "uint8"):
        RandomErasing(1.0, fill="pixel_noise")(ones(2, 8, 8))


# What belongs to the images.


def test_labels_weights_and_masks_stay():
    images, labels = np.ones((6, 8, 8, 3), "float32"), np.arange(6)
    weights, masks = np.linspace(0, 1, 6, dtype="float32"), np.ones((6, 8, 8, 1), "int32")
    data = {"images": images, "labels": labels, "sample_weights": weights, "segmentation_masks": masks}
    result = augment(RandomErasing(1.0, seed=15), data)
    np.testing.assert_array_equal(result["labels"], labels)
    assert_same_bits(result["sample_weights"], weights)
    np.testing.assert_array_equal(result["segmentation_masks"], masks)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (8, 6, 2)])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_masks_and_label_maps_are_filled_where_the_image_is(shape, dtype):
    images, maps = np.ones((20, 8, 6, 3), "float32"), np.full((20, *shape), 3, dtype)
    layer = RandomErasing(1.0, (0.2, 0.5), count=2, mask_fill=5, seed=16)
    result = augment(layer, {"images": images, "labels": maps, "segmentation_masks": maps})
    erased = (result["images"] == 0).all(axis=-1).reshape(20, 8, 6, *[1] * (len(shape) - 2))
    for found in (result["labels"], result["segmentation_masks"]):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.where(erased, 5, maps))


def test_mask_fill_leaves_class_labels_alone():
    result = augment(RandomErasing(1.0, mask_fill=5, seed=16), ones(4, 8, 8), np.eye(4, 8, dtype="float32"))
    np.testing.assert_array_equal(result[1], np.eye(4, 8))


# Arguments that move.


def test_a_strength_moves_the_rate_without_a_new_layer():
    layer = RandomErasing(Strength(0.6), seed=17)
    (weight,) = [w for w in layer.non_trainable_variables if w.name == "rate"]
    call, images = augmenter(layer), ones(4000, 3, 3)

    def share():
        return (call(images) == 0).any(axis=(1, 2, 3)).mean()

    assert abs(share() - 0.6) < 0.04  # five sigma
    for rate in (0.0, 0.2, 1.0):
        weight.assign(rate)
        assert abs(share() - rate) < (0.04 if 0 < rate < 1 else 1e-9)


# Against others.


@only("torch")
def test_torchvision_erases_the_same_given_the_box():
    import torch

    functional = import_torchvision().transforms.v2.functional
    images = np.random.default_rng(1).random((16, 14, 11, 3), "float32")
    result = augment(RandomErasing(1.0, fill=(-1.0, -2.0, -3.0), seed=18), images)
    fill = torch.tensor([-1.0, -2.0, -3.0])[:, None, None]
    for image, found, *box in zip(images, result, *boxes_of(result[..., 0] < 0), strict=True):
        top, left, tall, wide = map(int, box)
        expected = functional.erase(torch.from_numpy(image).permute(2, 0, 1), top, left, tall, wide, fill)
        assert_same_bits(found, expected.permute(1, 2, 0).numpy())


@only("torch")
def test_torchvision_draws_the_same_law_where_everything_fits():
    """Two samples, Kolmogorov-Smirnov: where nothing has to be drawn again the laws are one, but its `ratio` is the
    height divided by the width, unlike in its own `RandomResizedCrop`."""
    import torch

    scale, ratio = (0.05, 0.2), (0.5, 1.5)
    transform = import_torchvision().transforms.RandomErasing
    torch.manual_seed(0)
    image = torch.zeros(1, 90, 120)
    theirs = np.array(
        [transform.get_params(image, scale, [1 / ratio[1], 1 / ratio[0]], [0.0])[:4] for _ in range(1500)]
    ).T
    ours = np.stack(erased_boxes(RandomErasing(1.0, scale, ratio, seed=19), 1500, 90, 120))
    for place in range(2):
        assert stats.ks_2samp(ours[place], theirs[place]).pvalue > LEAST_P
    assert stats.ks_2samp(ours[2] * ours[3], theirs[2] * theirs[3]).pvalue > LEAST_P
    assert stats.ks_2samp(ours[2] / ours[3], theirs[2] / theirs[3]).pvalue > LEAST_P


def test_gradients_flow_through_what_is_not_erased():
    images = keras.Variable(np.ones((4, 8, 8, 1), "float32"))
    layer = RandomErasing(1.0, (0.3, 0.3), seed=20)
    (found,) = gradients(lambda: keras.ops.sum(3.0 * layer(images.value)), [images])
    share = (found == 0).mean(axis=(1, 2, 3))
    assert (abs(share - 0.3) < 0.08).all()  # whole pixels: 3 x 6 to 5 x 5 of 64
    assert_close(found, np.where(found == 0, 0.0, 3.0), rtol=0, atol=0)
