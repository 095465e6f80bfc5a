"""Arguments, such as a rate or stddev, that are either a plain number or a `Strength`."""

import keras
from keras import ops

from keras_reg._strength import LARGEST, Strength, deserialize, plain
from keras_reg._validation import check_number


def given(name, value, low=0, high=LARGEST, open_low=False, open_high=False):
    """Checks that a number or `Strength` lies in the interval. Returns a Python number or the `Strength`.

    `value` may also be the config of a `Strength`.
    """
    value = deserialize(value)
    number = check_number(name, plain(value), low, high, open_low, open_high)
    return value if isinstance(value, Strength) else number


class HoldsStrengths:
    """A mixin for layers with arguments that may each be a number or a `keras_reg.Strength`."""

    def set_strength(self, name, value, low=0, high=LARGEST, open_low=False, open_high=False):
        """Checks and stores an argument that may be a number or a `keras_reg.Strength`.

        Call it after `super().__init__`. For a `Strength`, it adds a non-trainable float32 weight, which
        `keras_reg.callbacks.StrengthSchedule` finds by its attribute `strength`.

        Args:
            name: Name of the argument, and of the attribute.
            value: The number or `Strength`.
            low, high: The interval in which the number must lie.
            open_low, open_high: Whether `low` or `high` itself is refused.

        Returns:
            The stored value, a Python number or a `Strength`.
        """
        value = given(name, value, low, high, open_low, open_high)
        setattr(self, name, value)
        if isinstance(value, Strength):
            start = keras.initializers.Constant(value.value)
            options = {"dtype": "float32", "trainable": False, "autocast": False}
            weight = self.add_weight(name=name, shape=(), initializer=start, **options)
            weight.strength = value
            self._held = {**self._weights_of_strengths(), name: weight}
        return value

    def _weights_of_strengths(self):
        """Returns the weights of the arguments that are still a `Strength`, by their names.

        A user may replace a `Strength` by a number, or by another one, which has no weight and whose value counts.
        """
        held = getattr(self, "_held", {})
        return {name: weight for name, weight in held.items() if getattr(self, name) is weight.strength}

    def _value_or_weight(self, name):
        """Returns the value of an argument: a plain number, or the weight of a `Strength`."""
        return self._weights_of_strengths().get(name, plain(getattr(self, name)))

    def _is_plain(self, name, number):
        """Whether an argument is a plain number, which no schedule changes, and equal to `number`."""
        return name not in self._weights_of_strengths() and plain(getattr(self, name)) == number


def scale_of_kept(rate):
    """Returns the scale that keeps the expectation if a share `rate` is dropped: 1 / (1 - rate), or 0 for rate 1."""
    if isinstance(rate, keras.Variable):
        some = rate < 1
        return ops.where(some, 1 / ops.where(some, 1 - rate, 1), 0)
    return 1 / (1 - rate) if rate < 1 else 0.0
