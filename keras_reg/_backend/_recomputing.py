"""Random layers must not be called again in the backward pass."""

import sys


def refuse_recomputing(recomputes):
    """A call that is repeated in the backward pass would draw other numbers, so its gradient would be wrong.

    JAX repeats the traced code, which draws the same numbers.
    """
    if recomputes:
        raise ValueError(
            "A model with random layers must not be rematerialized as a whole, since they would draw again in the "
            "backward pass. Create the model outside of the `keras.RematScope`, or select layers with "
            '`mode="list_of_layers"`. Received: a second call of a random layer, in the backward pass'
        )


def is_called_by(name):
    """Whether a function of this name is running."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != name:
        frame = frame.f_back
    return frame is not None
