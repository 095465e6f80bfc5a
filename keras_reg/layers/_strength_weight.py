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


class HoldsStrengths:
    """A mixin for layers with arguments that may each be a number or a `keras_reg.Strength`."""

    def set_strength(self, name, value, low=0, high=LARGEST, open_low=False, open_high=False):
        """Checks and stores an argument that may be a number or a `keras_reg.Strength`; after `super().__init__`.

        A `Strength` becomes a new non-trainable float32 weight, which `keras_reg.callbacks.StrengthSchedule` finds by
        its attribute `strength`.

        Args:
            name: Name of the argument, and of the attribute.
            value: The number or `Strength`.
            low, high: The interval that the number must lie in.
            open_low, open_high: Whether `low` or `high` itself is refused.

        Returns:
            What was stored, `value` as plain Python.
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
        """The weights behind the arguments that are a `Strength`, by their names. A number may be set in its place."""
        held = getattr(self, "_held", {})
        return {name: weight for name, weight in held.items() if isinstance(getattr(self, name), Strength)}

    def _value_or_weight(self, name):
        """The present value of an argument: a plain number, or the weight of a `Strength`."""
        return self._weights_of_strengths().get(name, plain(getattr(self, name)))

    def _is_plain(self, name, number):
        """Whether an argument is this very number, which no schedule will move."""
        return name not in self._weights_of_strengths() and plain(getattr(self, name)) == number


def scale_of_kept(rate):
    """What keeps an expectation where a share `rate` is dropped: 1 / (1 - rate), and 0 where nothing is kept."""
    if isinstance(rate, keras.Variable):
        some = rate < 1
        return ops.where(some, 1 / ops.where(some, 1 - rate, 1), 0)
    return 1 / (1 - rate) if rate < 1 else 0.0
