import keras

from keras_reg._validation import check_number, fail, native

LARGEST = 1e30  # times any number that is drawn it stays within float32


@keras.saving.register_keras_serializable(package="keras_reg")
class Strength:
    """A rate, stddev or alpha that can be moved during training.

    Given to a layer in the place of the plain number: the layer then holds it as one non-trainable weight, which
    `keras_reg.callbacks.StrengthSchedule` moves without recompiling.

    Args:
        value: Number in [0, 1e30]: the full strength, which training also starts with.

    Raises:
        ValueError: If `value` is not a number in [0, 1e30].

    Example:

    >>> import keras_reg
    >>> keras_reg.Strength(0.2)
    Strength(0.2)
    """

    def __init__(self, value):
        self.value = check_number("value", value, low=0, high=LARGEST)

    def __repr__(self):
        return f"Strength({self.value!r})"

    def __eq__(self, other):
        return isinstance(other, Strength) and other.value == self.value

    def __hash__(self):
        return hash((Strength, self.value))

    def get_config(self):
        return {"value": self.value}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def plain(value):
    """The number behind a `Strength`, or the number itself."""
    return value.value if isinstance(value, Strength) else value


def serialize(value):
    """What goes into a layer's config: what JSON knows."""
    return keras.saving.serialize_keras_object(value) if isinstance(value, Strength) else native(value)


def deserialize(value):
    """What came out of a layer's config: a `Strength` again where it was one."""
    if isinstance(value, dict) and value.get("class_name") == "Strength":
        if set(value.get("config") or ()) != {"value"}:
            fail('Expected the config of a `Strength`, {"value": number}.', config=value.get("config"))
        return Strength(value["config"]["value"])
    return value
