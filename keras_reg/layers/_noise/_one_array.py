"""The door of layers inside a network: what comes in is an array of numbers, and `training` a flag."""

from typing import Any

from keras_reg._backend import is_compiling, is_tensor
from keras_reg._typing import Tensors
from keras_reg._validation import check_flag, fail
from keras_reg.layers._batch._arrays import array_of


class TakesOneArray:
    """A mixin for layers of one input: Keras takes any `training`, and does not name the input that is no tensor."""

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
    """Keyword arguments of a call, with `training` as a bool or `None`; a tensor is left to the backend."""
    training = arguments.get("training")
    if training is None or is_tensor(training):
        return arguments
    return {**arguments, "training": check_flag("training", training)}
