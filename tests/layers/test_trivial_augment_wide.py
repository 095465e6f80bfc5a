import collections

import numpy as np
import pytest
from harness import only
from layers.batches import LEAST_P, augment
from layers.policies import NAMES, Outcomes, photo
from scipy import stats

from keras_reg.layers import TrivialAugmentWide


@pytest.mark.parametrize(("channels", "count"), [(3, 700), (1, 60)])
def test_each_image_draws_one_operation_of_pillow_with_equal_probabilities(channels, count):
    """Keras draws one for the whole batch."""
    pytest.importorskip("PIL")
    image, bins = photo(channels=channels), 8  # no threshold of "solarize" is a whole number
    layer = TrivialAugmentWide(bins, operations=NAMES, seed=1)
    possible = Outcomes(image, bins, "wide")
    keys = possible.keys_of(augment(layer, np.repeat(image[None], count, axis=0)))
    counts = collections.Counter(name for name, *_ in keys)
    names = [name for name in NAMES if possible.shares[name] > 0]
    expected = [count * possible.shares[name] for name in names]
    if channels == 3:
        assert stats.chisquare([counts[name] for name in names], expected).pvalue > LEAST_P


def test_the_magnitudes_and_the_directions_of_an_operation_are_drawn_with_equal_probabilities():
    image, bins = photo(), 6
    layer, possible = TrivialAugmentWide(bins, ["rotate"], seed=2), Outcomes(image, bins, "wide", ["rotate"])
    counts = collections.Counter(possible.of(one)[0] for one in augment(layer, np.repeat(image[None], 600, axis=0)))
    expected = [50 if level else 100 for _, level, _ in possible.keys]
    assert stats.chisquare([counts[key] for key in possible.keys], expected).pvalue > LEAST_P


@only("jax", why="other backends compute the operations in another way")
@pytest.mark.parametrize(("dtype", "count"), [("uint8", 60), ("float32", 33)])
def test_large_images_on_an_accelerator_are_the_same(dtype, count, monkeypatch):
    """There, costly operations run on a few images at a time."""
    import jax

    images = np.random.default_rng(0).integers(0, 256, (count, 150, 147, 3)).astype(dtype)
    names, found = ("sharpness", "auto_contrast", "equalize"), {}
    for device in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda device=device: device)
        layer = TrivialAugmentWide(operations=names, value_range=(0, 255), seed=3)
        found[device] = augment(layer, images)
    np.testing.assert_allclose(found["gpu"], found["cpu"], atol=0 if dtype == "uint8" else 2e-4)
    assert (found["gpu"] != images).any((1, 2, 3)).sum() > 0.7 * count


@only("jax", why="other backends compute the operations in another way")
def test_gradients_pass_the_operations_for_large_images_on_an_accelerator(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    layer = TrivialAugmentWide(operations=("sharpness", "auto_contrast"), value_range=(0, 1), seed=3)
    images = np.random.default_rng(0).random((32, 150, 147, 3), "float32")
    gradients = jax.jit(jax.grad(lambda x: layer(x, training=True).sum()))(images)
    assert np.isfinite(gradients).all()
    assert (np.asarray(gradients) != 0).any((1, 2, 3)).all()
