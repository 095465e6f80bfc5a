"""What holds for every batch augmentation on any batch: tried by hypothesis over sizes, dtypes and arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers.batches import augment, properties

from keras_reg.layers import (
    ColorJitter,
    CutMix,
    LabelNoise,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandAugment,
    RandomAffine,
    RandomApply,
    RandomChoice,
    RandomErasing,
    RandomFlip,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomGrayscale,
    RandomPadCrop,
    RandomResizedCrop,
    RandomSharpness,
)

SIZES = st.sampled_from([(1, 1), (1, 5), (8, 3), (7, 16)])
COUNTS = st.sampled_from([1, 2, 5])
DTYPES = st.sampled_from(["uint8", "int32", "float32"])
RATES = st.floats(0, 1)
SEEDS = st.integers(0, 2**31)

# Each from (size, rate, seed).
MAKERS = {
    "RandomErasing": lambda size, rate, seed: RandomErasing(rate, (0.0, 0.4), fill=3, seed=seed),
    "MixUp": lambda size, rate, seed: MixUp(0.3, rate, seed=seed),
    "CutMix": lambda size, rate, seed: CutMix(0.7, rate, seed=seed),
    "RandomChoice": lambda size, rate, seed: RandomChoice(
        [MixUp(1.0, rate), CutMix(1.0, rate)], None, "sample", seed=seed
    ),
    "RandomApply": lambda size, rate, seed: RandomApply(RandomPadCrop(1), rate, seed=seed),
    "RandomAffine": lambda size, rate, seed: RandomAffine(180, 0.9, 0.9, 0.9, rate, fill_value=1, seed=seed),
    "RandAugment": lambda size, rate, seed: RandAugment(
        1, 25, operations=["shear_x", "equalize", "color"], rate=rate, fill_value=1, value_range=(0, 3), seed=seed
    ),
    "RandomFlip": lambda size, rate, seed: RandomFlip("horizontal_and_vertical", rate, seed=seed),
    "ColorJitter": lambda size, rate, seed: ColorJitter(0.9, 0.9, 0.9, 0.5, rate, (0, 3), seed=seed),
    "RandomGrayscale": lambda size, rate, seed: RandomGrayscale(rate, seed=seed),
    "RandomGaussianBlur": lambda size, rate, seed: RandomGaussianBlur((0, 3), None, rate, seed=seed),
    "RandomGaussianNoise": lambda size, rate, seed: RandomGaussianNoise(1.0, rate, (0, 3), seed=seed),
    "RandomSharpness": lambda size, rate, seed: RandomSharpness((-1, 9), rate, (0, 3), seed=seed),
    "RandomPadCrop": lambda size, rate, seed: RandomPadCrop(2, rate, fill_value=1, seed=seed),
    "RandomResizedCrop": lambda size, rate, seed: RandomResizedCrop((4, 6), (0.1, 1.0), seed=seed),
    "PCAColorJitter": lambda size, rate, seed: PCAColorJitter(0.1, rate, seed=seed),
    "LabelNoise": lambda size, rate, seed: LabelNoise(rate, seed=seed),
    "Pipeline": lambda size, rate, seed: Pipeline([RandomErasing(rate), CutMix(1.0, rate)], seed=seed),
}
BLEND = ("MixUp", "RandomChoice", "RandomResizedCrop", "PCAColorJitter")


@pytest.mark.filterwarnings("ignore:.*got pixels")
@pytest.mark.parametrize("name", MAKERS)
@properties
@given(size=SIZES, count=COUNTS, dtype=DTYPES, rate=RATES, seed=SEEDS)
def test_any_batch_keeps_its_range_its_labels_their_sum_and_the_input_its_bits(name, size, count, dtype, rate, seed):
    rng = np.random.default_rng(count)
    images = (rng.random((count, *size, 3)) * 9).astype(dtype)
    labels = np.eye(4, dtype="float32")[rng.integers(0, 4, count)]
    before = images.copy(), labels.copy()
    layer = MAKERS[name](size, rate, seed)
    found, mixed = augment(layer, images, labels)
    assert found.shape == (count, *((4, 6) if name == "RandomResizedCrop" else size), 3)
    assert found.dtype == ("float32" if name in BLEND else dtype)
    assert np.isfinite(found).all()
    if name != "PCAColorJitter":  # whose shifts have no bound
        assert found.min() >= min(images.min(), 0) - 1e-4 and found.max() <= max(images.max(), 3) + 1e-4
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-5)
    assert (mixed >= 0).all() and mixed.shape == labels.shape
    for given_array, old in zip((images, labels), before, strict=True):
        np.testing.assert_array_equal(given_array, old)


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"RandomResizedCrop"}))
@properties
@given(size=SIZES, count=COUNTS, seed=SEEDS)
def test_a_rate_of_zero_is_the_identity_on_any_batch(name, size, count, seed):
    images = np.random.default_rng(seed).random((count, *size, 3), "float32")
    labels = np.eye(count, 5, dtype="float32")
    found, same = augment(MAKERS[name](size, 0.0, seed), images, labels)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(same, labels)
