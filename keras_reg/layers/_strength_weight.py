"""A rate or stddev that is either a plain number or a `Strength`."""

import keras
from keras import ops

from keras_reg._strength import LARGEST, Strength, deserialize, plain
from keras_reg._validation import check_number


def given(name, value, low=0, high=LARGEST, open_low=False, open_high=False):
    """A Python number, or the `Strength` that was given or that its config describes, in the interval."""
    value = deserialize(value)
    number = check_number(name, plain(value), low, high, open_low, open_high)
    return value if isinstance(value, Strength) else number


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


def scale_of_kept(rate):
    """What keeps an expectation where a share `rate` is dropped: 1 / (1 - rate), and 0 where nothing is kept."""
    if isinstance(rate, keras.Variable):
        some = rate < 1
        return ops.where(some, 1 / ops.where(some, 1 - rate, 1), 0)
    return 1 / (1 - rate) if rate < 1 else 0.0
