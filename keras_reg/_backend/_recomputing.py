"""A check that random layers are not called again in the backward pass."""

import sys


def refuse_recomputing(recomputes):
    """Raises an error if the backward pass repeats a call: it would draw other numbers and give a wrong gradient.

    JAX does not need this check: it repeats the traced code, which draws the same numbers.
    """
    if recomputes:
        raise ValueError(
            "A model with random layers must not be rematerialized as a whole, since the layers would draw again in "
            "the backward pass. Create the model outside the `keras.RematScope`, or select layers with "
            '`mode="list_of_layers"`. Received: a second call of a random layer, in the backward pass'
        )


def is_called_by(name):
    """Whether a function with this name is on the call stack."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != name:
        frame = frame.f_back
    return frame is not None
