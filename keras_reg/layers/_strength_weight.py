"""A rate or stddev that is either a plain number or a `Strength`."""

import math

import keras

from keras_reg._strength import Strength, deserialize, plain
from keras_reg._validation import check_number


def given(name, value, low=0, high=math.inf, open_low=False, open_high=False):
    """`value` as it came, or the `Strength` that its config describes; its number must lie in the interval."""
    value = deserialize(value)
    check_number(name, plain(value), low, high, open_low, open_high)
    return value


def hold(layer, name, value):
    """What `layer` computes with: the number itself, or for a `Strength` a new non-trainable float32 weight.

    `StrengthSchedule` finds the weight by its attribute `strength`.
    """
    if not isinstance(value, Strength):
        return value
    weight = layer.add_weight(
        name=name,
        shape=(),
        initializer=keras.initializers.Constant(value.value),
        dtype="float32",
        trainable=False,
        autocast=False,
    )
    weight.strength = value
    return weight
