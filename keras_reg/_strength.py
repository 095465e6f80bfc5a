from typing import Any, Self

import keras

from keras_reg._validation import check_number, fail, native

LARGEST = 1e30  # its product with any drawn number is a finite float32


@keras.saving.register_keras_serializable(package="keras_reg")
class Strength:
    """A rate, stddev or alpha that can change during training.

    Pass it to a layer in place of a number. The layer then has one non-trainable weight for it, which
    `keras_reg.callbacks.StrengthSchedule` changes without recompiling.

    Args:
        value: Number in [0, 1e30]: the full strength, with which training also starts.

    Raises:
        ValueError: If `value` is not a number in [0, 1e30].

    Example:

    >>> import keras_reg
    >>> keras_reg.Strength(0.2)
    Strength(0.2)
    """

    def __init__(self, value: float) -> None:
        self.value = check_number("value", value, low=0, high=LARGEST)

    def __repr__(self):
        return f"Strength({self.value!r})"

    def __eq__(self, other):
        return isinstance(other, Strength) and other.value == self.value

    def __hash__(self):
        return hash((Strength, self.value))

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


def plain(value):
    """Returns the number of a `Strength`, or the number itself."""
    return value.value if isinstance(value, Strength) else value


def serialize(value):
    """Returns a strength in the form that a layer's config has, for JSON."""
    return keras.saving.serialize_keras_object(value) if isinstance(value, Strength) else native(value)


def deserialize(value):
    """Restores a `Strength` from a layer's config; anything else is returned as it is."""
    if isinstance(value, dict) and value.get("class_name") == "Strength":
        if set(value.get("config") or ()) != {"value"}:
            fail('The config of a `Strength` must be {"value": number}.', config=value.get("config"))
        return Strength(value["config"]["value"])
    return value
