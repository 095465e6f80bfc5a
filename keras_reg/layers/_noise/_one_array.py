"""Checks of a call of layers inside a network: the input must be an array of numbers, and `training` a flag."""

from typing import Any

from keras_reg._backend import is_compiling, is_tensor
from keras_reg._typing import Tensors
from keras_reg._validation import check_flag, fail
from keras_reg.layers._batch._arrays import array_of


class TakesOneArray:
    """A mixin that checks the call of layers with one input.

    Keras accepts any value of `training`, and its errors do not name an input that is not a tensor.
    """

    least_rank = 1

    def __call__(self, inputs: Tensors, *args: Any, **kwargs: Any) -> Tensors:
        if is_compiling():
            return super().__call__(inputs, *args, **kwargs)
        inputs = array_of(inputs, "inputs")
        rank = getattr(inputs.shape, "rank", None) if hasattr(inputs.shape, "rank") else len(inputs.shape)
        if rank is not None and rank < self.least_rank:
            fail(f"`inputs` must have at least {self.least_rank} axes.", shape=tuple(inputs.shape))
        return super().__call__(inputs, *args, **with_flag(kwargs))


def with_flag(arguments):
    """Returns the keyword arguments with `training` as a bool or `None`. A tensor is not changed."""
    training = arguments.get("training")
    if training is None or is_tensor(training):
        return arguments
    return {**arguments, "training": check_flag("training", training)}
