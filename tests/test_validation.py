"""What arguments of any class may be, and what messages show of them."""

import enum
import fractions

import numpy as np
import pytest
from harness import raises_received

from keras_reg import Strength
from keras_reg.callbacks import ExponentialLR
from keras_reg.layers import RandomErasing

BEYOND_FLOATS = [10**400, -(10**400), fractions.Fraction(10**400), 10**5000, np.longdouble("1e4000")]


class Half(float, enum.Enum):
    VALUE = 0.5


@pytest.mark.parametrize("value", BEYOND_FLOATS, ids=range(len(BEYOND_FLOATS)))
def test_numbers_beyond_all_floats_are_refused_in_words(value):
    for make, name in ((Strength, "value"), (RandomErasing, "rate"), (ExponentialLR, "gamma")):
        with raises_received(f"{name}="):
            make(value)
    with raises_received("scale="):
        RandomErasing(scale=(0, value))


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.array(0.5), np.longdouble(0.5), fractions.Fraction(1, 2), Half.VALUE]
)
def test_a_number_of_another_kind_becomes_pythons(value):
    found = Strength(value).get_config()["value"]
    assert found == 0.5 and type(found) is float


@pytest.mark.parametrize("value", [np.array([0.5]), np.float32("nan"), np.bool_(True), np.complex64(0.5), 1e39])
def test_what_is_no_number_stays_refused(value):
    with raises_received("value="):
        Strength(value)


def test_messages_stay_readable():
    with pytest.raises(ValueError, match=r"(?s)Received: value=\[0, .{900,1100}\.\.\.$"):
        Strength(list(range(10**5)))
