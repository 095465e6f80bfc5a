import keras
import numpy as np
import pytest
from harness import raises_received, sample_photos
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import PCAColorJitter

# Components that are not the axes, and deviations that differ.
VECTORS = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
DEVIATIONS = (0.5, 0.2, 0.1)


def jitter(stddev=0.3, **options):
    return PCAColorJitter(stddev, stddevs=DEVIATIONS, eigenvectors=VECTORS.tolist(), **options)


def test_shifts_along_each_component_are_normal_with_its_deviation():
    """5,000 images: Kolmogorov-Smirnov on each component, and no correlation between them."""
    images = np.zeros((5000, 2, 3, 3), "float32")
    shift = augment(jitter(seed=1), images)
    assert (shift == shift[:, :1, :1]).all()
    along = shift[:, 0, 0] @ VECTORS
    for values, deviation in zip(along.T, DEVIATIONS, strict=True):
        assert stats.kstest(values, stats.norm(0, 0.3 * deviation).cdf).pvalue > LEAST_P
    correlations = np.corrcoef(along.T)[np.triu_indices(3, 1)]
    assert (abs(correlations) < 4 / np.sqrt(5000)).all()


def test_the_shift_is_added_to_every_pixel():
    images = np.random.default_rng(0).random((20, 4, 5, 3), "float32")
    shift = augment(jitter(seed=2), np.zeros_like(images))
    np.testing.assert_allclose(augment(jitter(seed=2), images), images + shift, rtol=1e-6, atol=1e-6)


def test_rate_is_the_probability_of_each_image_and_the_others_stay():
    images = np.random.default_rng(0).random((5000, 2, 2, 3), "float32")
    result = augment(jitter(rate=0.3, seed=3), images)
    shifted = (result != images).any(axis=(1, 2, 3))
    assert stats.binomtest(int(shifted.sum()), 5000, 0.3).pvalue > LEAST_P
    assert_same_bits(result[~shifted], images[~shifted])


def test_adapt_finds_the_components_of_the_pixels():
    """Scikit-learn's PCA is the oracle, on two photographs; batches, tuples and dicts give the same."""
    from sklearn.decomposition import PCA

    photos = sample_photos(120, 90).astype("float32") / 255
    oracle = PCA().fit(photos.reshape(-1, 3).astype("float64"))
    ways = [photos, [photos[:1], photos[1:]], [(photos, np.arange(2))], [{"images": photos}]]
    for data in ways:
        layer = PCAColorJitter().adapt(data)
        np.testing.assert_allclose(layer.stddevs, np.sqrt(oracle.explained_variance_), rtol=1e-3)
        cosines = abs((np.array(layer.eigenvectors).T * oracle.components_).sum(1))
        np.testing.assert_allclose(cosines, 1, rtol=1e-4)


def test_adapt_knows_channels_first_and_keeps_what_it_found():
    photos = sample_photos(60, 90).astype("float32")
    last = PCAColorJitter(data_format="channels_last").adapt(photos)
    first = PCAColorJitter(data_format="channels_first").adapt(photos.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(first.stddevs, last.stddevs)
    again = PCAColorJitter.from_config(last.get_config())
    assert again.stddevs == last.stddevs and again.eigenvectors == last.eigenvectors


def test_without_components_those_of_imagenet_count():
    """Of unit length and orthogonal to three digits, as they have been copied since 2012."""
    deviations, vectors = PCAColorJitter().components
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)
    assert deviations.shape == (3,) and (np.diff(deviations) < 0).all()
    np.testing.assert_allclose(PCAColorJitter(value_range=(0, 255)).components[0], 255 * deviations, rtol=1e-6)


def test_integer_images_become_floats_and_value_range_clips():
    images = np.full((500, 2, 2, 3), 250, "uint8")
    layer = PCAColorJitter(50.0, stddevs=DEVIATIONS, eigenvectors=VECTORS.tolist(), value_range=(0, 255), seed=4)
    result = augment(layer, images)
    assert result.dtype == "float32" and result.max() == 255 and result.min() < 240


def test_a_strength_scales_the_shift():
    layer = jitter(Strength(0.4), seed=5)
    images = np.zeros((3000, 1, 1, 3), "float32")
    (weight,) = [variable for variable in layer.non_trainable_variables if variable.name == "stddev"]
    for stddev in (0.4, 0.1, 0.0):
        weight.assign(stddev)
        found = np.asarray(keras.ops.convert_to_numpy(layer(images)))[:, 0, 0] @ VECTORS
        np.testing.assert_allclose(found.std(axis=0), stddev * np.array(DEVIATIONS), rtol=0.06)


def test_channels_that_do_not_fit():
    with raises_received("shape"):
        PCAColorJitter()(np.zeros((2, 4, 4, 1), "float32"))
    with raises_received("pixels"):
        PCAColorJitter().adapt([])


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(channels):
    layer = PCAColorJitter(0.5, stddevs=[0.2] * channels, eigenvectors=np.eye(channels).tolist(), seed=6)
    shift = augment(layer, np.zeros((2000, 1, 1, channels), "float32"))
    np.testing.assert_allclose(shift.std(axis=0), 0.1, rtol=0.08)


def test_adapt_knows_the_channels_of_videos():
    last = np.random.default_rng(0).random((2, 3, 4, 5, 3)) * [1, 0.1, 0.01]
    found = PCAColorJitter(data_format="channels_first").adapt(np.moveaxis(last, -1, 1))
    expected = PCAColorJitter(data_format="channels_last").adapt(last)
    np.testing.assert_allclose(found.stddevs, expected.stddevs)
    np.testing.assert_allclose(expected.stddevs, np.sort(last.reshape(-1, 3).std(0))[::-1], rtol=0.01)
