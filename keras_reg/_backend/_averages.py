"""Running averages, computed on the device."""

import sys

from keras import ops

from keras_reg._backend._current import BACKEND


def move_towards(averages, variables, share):
    """Moves each average by a share, a scalar tensor, of the way to its variable."""
    if BACKEND == "torch":
        _move_in_place(averages, variables, share)
        return
    for average, variable in zip(averages, variables, strict=True):
        distance = ops.cast(variable, average.dtype) - average
        average.assign(average + ops.cast(share, average.dtype) * distance)


def _move_in_place(averages, variables, share):
    """On PyTorch, one operation per variable, without a copy of it."""
    with sys.modules["torch"].no_grad():
        for average, variable in zip(averages, variables, strict=True):
            value = average.value
            value.lerp_(variable.value.to(value.dtype), share.to(value.dtype))
