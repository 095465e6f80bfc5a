import collections
import re

import numpy as np
import pytest
from harness import import_torchvision, only, raises_received, to_numpy
from layers.batches import LEAST_P, assert_same_bits, augment
from layers.policies import photo
from scipy import stats

from keras_reg.layers import AutoAugment


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
