import re
from typing import Any, Self

import keras

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg._strength import Strength, deserialize, serialize
from keras_reg._typing import Config, Tensor, Tensors
from keras_reg._validation import fail
from keras_reg.layers._strength_weight import HoldsStrengths


@keras.saving.register_keras_serializable(package="keras_reg")
class Penalty(HoldsStrengths, keras.layers.Layer):
    """Base class of terms that `RegularizedModel` adds to the loss in training.

    A subclass implements `compute`. The step adds `weight` times its result to the loss. The logs show the mean of the
    result over the epoch, under the `name` of the penalty. Validation and evaluation do not compute it.

    Args:
        weight: Number of at least 0, or a `keras_reg.Strength`.
        name: Name in the logs. Defaults to the name of the class in snake case.

    Raises:
        ValueError: If `weight` is not a number of at least 0; in training, if `compute` does not return a scalar.

    Example:

    >>> from keras import ops
    >>> from keras_reg import training
    >>> class SmallOutputs(training.Penalty):
    ...     def compute(self, step, x, y, y_pred, sample_weight):
    ...         return ops.mean(ops.square(y_pred))
    >>> SmallOutputs(0.1).name
    'small_outputs'
    """

    def __init__(self, weight: float | Strength = 1.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name or _snake_case(type(self).__name__), **kwargs)
        self.set_strength("weight", weight)
        self.built = True

    def compute(self, step: Any, x: Tensors, y: Tensors, y_pred: Tensors, sample_weight: Tensors) -> Tensor:
        """Returns the term, a scalar: its mean over the batch.

        Args:
            step: The running step. `step.run(x, same_masks=True)` returns the outputs of a further pass of the network,
                which updates no variables. With `same_masks=False`, dropout draws new masks.
            x: The inputs after the augmentation.
            y: The labels, or `None`.
            y_pred: The outputs of the first pass.
            sample_weight: The sample weights, or `None`.
        """
        raise NotImplementedError

    def added(
        self, step: Any, x: Tensors, y: Tensors, y_pred: Tensors, sample_weight: Tensors
    ) -> tuple[Tensor, Tensor]:
        """Returns (what the step adds to the loss, what the logs show)."""
        term = keras.ops.convert_to_tensor(self.compute(step, x, y, y_pred, sample_weight))
        if len(term.shape):
            fail("`compute` must return a scalar, the mean over the batch.", penalty=self.name, shape=tuple(term.shape))
        term = keras.ops.cast(term, at_least_float32(dtype_of(term)))
        return keras.ops.convert_to_tensor(self._value_or_weight("weight"), dtype_of(term)) * term, term

    def get_config(self) -> Config:
        return {**super().get_config(), "weight": serialize(self.weight)}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**{name: _restored(value) for name, value in config.items()})


def _restored(value):
    """Restores a `Strength`, or what Keras has serialized, such as a layer or a function."""
    value = deserialize(value)
    is_serialized = isinstance(value, dict) and {"class_name", "config"} <= set(value)
    return keras.saving.deserialize_keras_object(value) if is_serialized else value


def _snake_case(name):
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", name).lower()
