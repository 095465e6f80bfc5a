import collections
import re

import numpy as np
import pytest
from harness import import_torchvision, only, raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment
from layers.policies import BLENDING, NAMES, Outcomes, expected, photo
from scipy import stats

from keras_reg.layers import AutoAugment

# What torchvision's levels 0, 4 and 9 mean for an image of 24 x 31 pixels.
MAGNITUDES = {
    "shear_x": (0, 0.4 / 3, 0.3),
    "shear_y": (0, 0.4 / 3, 0.3),
    "translate_x": (0, 6, 14),
    "translate_y": (0, 4, 10),
    "rotate": (0, 40 / 3, 30),
    **dict.fromkeys(BLENDING, (0, 0.4, 0.9)),
    "posterize": (8, 6, 4),
    "solarize": (255, 425 / 3, 0),
    "auto_contrast": (0, 0, 0),
    "equalize": (0, 0, 0),
    "invert": (0, 0, 0),
}


@only("torch")
@pytest.mark.parametrize("name", MAGNITUDES)
def test_the_magnitude_of_a_level_is_that_of_torchvision(name):
    """It is listed there, and the functions of torchvision give the same images with it, in both directions."""
    import torch

    transforms, image = import_torchvision().transforms.v2, photo(24, 31)
    theirs, key, unit = transforms.AutoAugment(), name.title().replace("_", ""), 255 if name == "solarize" else 1
    rising, signed = theirs._AUGMENTATION_SPACE[key]
    listed, given = rising(10, 24, 31), torch.from_numpy(image).permute(2, 0, 1)
    for level, magnitude in zip((0, 4, 9), MAGNITUDES[name], strict=True):
        if listed is not None:
            number = unit * float(listed[level])
            assert (int(number) if name.startswith("translate") else number) == pytest.approx(magnitude, rel=1e-6)
        signs, results = (1, -1) if signed and magnitude else (1,), {}
        for sign in signs:
            strength, nearest = sign * magnitude / unit, transforms.InterpolationMode.NEAREST
            result = theirs._apply_image_or_video_transform(given, key, strength, nearest, theirs._fill)
            clear = expected(name, sign * magnitude, image)[1]
            assert clear.mean() > 0.9
            results[sign] = result.permute(1, 2, 0).numpy().astype(int), clear[..., None]
        layer, seen = AutoAugment([[(name, 1.0, level)]], seed=level), set()
        for result in to_numpy(layer(np.repeat(image[None], 12, axis=0))).astype(int):
            away = {sign: np.abs(result - other) * clear for sign, (other, clear) in results.items()}
            nearest = min(away, key=lambda sign: away[sign].mean())
            assert away[nearest].max() <= (name in ("color", "contrast", "sharpness")), level
            seen.add(nearest)
        assert seen == set(signs)


@pytest.mark.parametrize(("channels", "count"), [(3, 5000), (1, 100)])
def test_each_level_of_each_operation_is_that_of_pillow(channels, count):
    """One policy of all operations at all levels, which are drawn with equal probabilities in both directions."""
    pytest.importorskip("PIL")
    image = photo(channels=channels)
    layer = AutoAugment([[(name, 1.0, level)] for name in NAMES for level in range(10)], seed=4)
    possible = Outcomes(image, 10, "narrow")
    keys = possible.keys_of(augment(layer, np.repeat(image[None], count, axis=0)))
    if channels == 3:
        assert min(possible.p_values(keys)) > LEAST_P


@only("torch")
@pytest.mark.parametrize("name", ["imagenet", "cifar10", "svhn"])
def test_the_policies_are_those_of_torchvision(name):
    """With the same draws, the policy gives the same images as the table of torchvision, passed as one's own."""
    transforms = import_torchvision().transforms.v2
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy(name))
    table = [
        [(re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower(), probability, level) for key, probability, level in part]
        for part in theirs._policies
    ]
    images = np.repeat(photo(20, 24)[None], 400, axis=0)
    found, expected = (to_numpy(AutoAugment(policy, seed=1)(images)) for policy in (name, table))
    assert_same_bits(found, expected)
    assert len({image.tobytes() for image in found}) > 40


def test_sub_policies_and_operations_are_drawn_by_each_image():
    """Chi-square of all outcomes. Sub-policies need not have the same length."""
    policy = [[("invert", 0.3, None), ("posterize", 0.6, 9)], [("solarize", 0.5, 5)], [("identity", 1.0, None)]]
    images = np.full((2000, 2, 2, 3), 200, "uint8")
    images[:, 0] = 3
    found = augment(AutoAugment(policy, seed=2), images)
    counts = collections.Counter((int(image[0, 0, 0]), int(image[1, 0, 0])) for image in found)
    shares = {
        (252, 55): 0.3 * 0.4, (240, 48): 0.3 * 0.6, (0, 192): 0.7 * 0.6, (3, 55): 0.5, (3, 200): 0.7 * 0.4 + 0.5 + 1,
    }  # fmt: skip
    assert set(counts) == set(shares)
    expected = [2000 / 3 * share for share in shares.values()]
    assert stats.chisquare([counts[key] for key in shares], expected).pvalue > LEAST_P


def test_the_order_of_operations_is_kept():
    image = photo(10, 12)[None]
    chain = [("translate_y", 1.0, 5), ("auto_contrast", 1.0, None)]
    alone = [chain[0], ("identity", 1.0, None)]
    found = augment(AutoAugment([chain], fill_value=255, seed=3), image, index=0)
    moved = augment(AutoAugment([alone], fill_value=255, seed=3), image, index=0)
    reverse = augment(AutoAugment([chain[::-1]], fill_value=255, seed=3), image, index=0)
    assert (found[moved == 255] >= 254).all() and found.min() == 0  # white is the lightest value
    assert (reverse != found).any()


def test_other_policies_are_refused():
    for operation in (
        ("rotate", 0.5, 10),
        ("rotate", 0.5, -1),
        ("rotate", 0.5, None),
        ("rotate", 1.1, 3),
        ("turn", 1, 3),
    ):
        with raises_received("policy="):
            AutoAugment([[("invert", 1.0, None)], [operation]])
    for policy in ("digits", [], [[]], [("rotate", 0.5, 3)]):
        with raises_received("policy="):
            AutoAugment(policy)
