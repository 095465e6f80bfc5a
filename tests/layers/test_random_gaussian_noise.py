import numpy as np
import pytest
from harness import only, raises_received
from layers.batches import LEAST_P, assert_same_bits, augment
from scipy import stats

from keras_reg import Strength
from keras_reg.layers import Pipeline, RandomGaussianNoise

SHAPES = {"features": (400, 50), "signals": (400, 10, 5), "images": (400, 5, 5, 2), "videos": (400, 2, 5, 5, 1)}


@pytest.mark.parametrize("name", SHAPES)
def test_random_samples_of_any_shape_get_normal_noise(name):
    x = np.random.default_rng(0).random(SHAPES[name]).astype("float32")
    layer = RandomGaussianNoise(0.1, 0.3, kind="signal" if name == "signals" else None, seed=1)
    noise = (augment(layer, x).astype("float64") - x).reshape(400, 50)
    chosen = (noise != 0).any(1)
    assert (noise[chosen] != 0).mean() > 0.99  # a number of its own for each value
    assert stats.binomtest(int(chosen.sum()), 400, 0.3).pvalue > LEAST_P
    assert stats.kstest(noise[chosen].ravel(), stats.norm(0, 0.1).cdf).pvalue > LEAST_P
    correlations = np.corrcoef(noise[chosen])[np.triu_indices(int(chosen.sum()), 1)]
    assert abs(correlations).max() < 6 / np.sqrt(50)  # no two samples share their noise


def test_integers_are_rounded_and_clipped():
    images = np.full((4, 40, 40, 3), 3, "uint8")
    found = augment(RandomGaussianNoise(2.0, 1.0, seed=2), images)
    assert found.dtype == "uint8"
    expected = 1600 * 12 * np.diff(stats.norm(3, 2).cdf([-np.inf, *np.arange(0.5, 9), np.inf]))  # 0 is what is below
    counts = np.bincount(np.minimum(found.ravel(), 9), minlength=10)
    assert stats.chisquare(counts, expected).pvalue > LEAST_P
    assert augment(RandomGaussianNoise(9.0, 1.0, seed=2), np.full((4, 40, 40, 3), 250, "uint8")).max() == 255


def test_only_samples_with_noise_are_clipped():
    images = np.full((200, 3, 3, 1), 2, "float32")
    found = augment(RandomGaussianNoise(0.5, 0.4, (0, 1), seed=3), images)
    kept = (found == 2).all((1, 2, 3))
    assert 0 < kept.sum() < 200
    assert found[~kept].max() <= 1 and found[~kept].min() >= 0


def test_several_inputs_get_noise_in_the_same_samples():
    inputs = {"table": np.zeros((50, 40), "float32"), "image": np.zeros((50, 4, 5, 2), "float32")}
    found = augment(RandomGaussianNoise(1.0, 0.5, seed=4), inputs, np.arange(50))[0]
    table, image = (found[name].reshape(50, 40) for name in ("table", "image"))
    np.testing.assert_array_equal((table != 0).any(1), (image != 0).any(1))
    assert abs(np.corrcoef(table.ravel(), image.ravel())[0, 1]) < 0.2  # which is not the same noise


def test_the_noise_of_a_sample_does_not_depend_on_the_other_samples():
    layer, x = RandomGaussianNoise(0.1, 0.8, seed=5), np.random.default_rng(1).random((4, 6, 5, 2), "float32")
    others = x.copy()
    others[1:] = 7
    found = augment(layer, x, index=0)
    assert (found[0] != x[0]).any()
    assert_same_bits(augment(layer, others, index=0)[0], found[0])


@only("tensorflow", why="the others draw from N(0, 1) themselves")
def test_uniform_numbers_become_quantiles_and_none_is_infinite(monkeypatch):
    import tensorflow as tf

    shares = np.asarray([0, 2**-23, 0.01, 0.3, 0.5 - 2**-24, 0.75, 0.999, 1 - 2**-23], "float32")
    monkeypatch.setattr("keras_reg._backend._tensorflow.TensorFlowPlace.uniform", lambda *_: tf.constant(shares[None]))
    found = augment(RandomGaussianNoise(1.0, 1.0), np.zeros((1, 8), "float32"))[0]
    np.testing.assert_allclose(found, stats.norm.ppf(shares.astype("float64") + 2**-24), rtol=1e-4, atol=2e-7)


@only("jax", why="which draws many numbers in parts")
@pytest.mark.parametrize("shape", [(12, 1000), (101, 120)])
def test_noise_that_is_drawn_in_parts_is_normal_and_no_part_repeats(shape, monkeypatch):
    """12 samples are drawn in 6 parts. 101 samples could only be drawn one by one, so they are drawn at once."""
    monkeypatch.setattr("keras_reg._backend._jax.PART", 2500)
    found = augment(RandomGaussianNoise(1.0, 1.0, seed=7), np.zeros(shape, "float32"), index=0)
    assert stats.kstest(found.ravel(), stats.norm.cdf).pvalue > LEAST_P
    assert abs(np.corrcoef(found)[np.triu_indices(len(found), 1)]).max() < 6 / np.sqrt(shape[1])


def test_a_strength_moves_the_noise_and_a_pipeline_passes_it():
    layer = RandomGaussianNoise(Strength(1.0), 1.0, seed=6)
    x = np.zeros((2, 4, 5, 2), "float32")
    wide = augment(layer, x, index=0)
    (weight,) = layer.weights
    weight.assign(0.5)
    np.testing.assert_allclose(augment(layer, x, index=0), 0.5 * wide, rtol=1e-6)
    found = augment(Pipeline([RandomGaussianNoise(1.0, 1.0)], seed=6), x)
    assert (found != 0).all() and abs(found.std() - 1) < 0.4


def test_what_would_be_rounded_away_or_may_be_token_ids_is_refused():
    with raises_received("stddev=0.01", "dtype='uint8'"):
        RandomGaussianNoise(0.01)(np.zeros((2, 4, 4, 3), "uint8"))
    for ids in (np.zeros((4, 7), "int32"), np.zeros((2, 4, 4, 3), bool)):
        with raises_received("dtype=", "shape="):
            RandomGaussianNoise(1.0)(ids)
    with raises_received("clip=(0, 256)"):
        RandomGaussianNoise(1.0, clip=(0, 256))(np.zeros((2, 4, 4, 3), "uint8"))
