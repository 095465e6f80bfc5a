"""How the outputs of several passes become one output of the same form."""

import math

from keras import ops

from keras_reg._validation import fail
from keras_reg.layers._batch._forms import at_least_float32, dtype_of
from keras_reg.training._distributions import Distribution

OF_NUMBERS = ("mean", "max", "median")  # what is defined for regression too


def merged(outputs, merge, distribution):
    """Returns one output from a list of outputs for the same examples.

    Args:
        outputs: List of tensors of one shape.
        merge: "mean" of probabilities, mean of "logits", "vote" or "max".
        distribution: The `Distribution` of the outputs, or `None` for the outputs of a regression.
    """
    dtype = dtype_of(outputs[0])
    stack = ops.cast(ops.stack(outputs), at_least_float32(dtype))
    if distribution is None:
        if merge not in OF_NUMBERS:
            fail(f'"{merge}" is not defined for the outputs of a regression.', merge=merge)
        found = ops.mean(stack, 0) if merge == "mean" else ops.max(stack, 0)
    else:
        found = _MERGES[merge](stack, distribution)
    return ops.cast(found, dtype)


def _mean(stack, distribution):
    """Averages probabilities. For logits, this is done with logarithms, so that small probabilities stay exact."""
    if not distribution.from_logits:
        return ops.mean(stack, 0)
    return distribution.outputs(ops.logsumexp(distribution.logs(stack), 0) - math.log(stack.shape[0]))


def _logits(stack, distribution):
    if distribution.from_logits:
        return ops.mean(stack, 0)
    return distribution.outputs(_normalized(ops.mean(distribution.logs(stack), 0)))


def _vote(stack, distribution):
    """Returns the share of the passes that predict each class."""
    if distribution.is_categorical:
        votes = ops.one_hot(ops.argmax(stack, -1), stack.shape[-1], dtype=stack.dtype)
    else:
        votes = ops.cast(stack > (0 if distribution.from_logits else 0.5), stack.dtype)
    shares = ops.mean(votes, 0)
    if not distribution.from_logits:
        return shares
    return distribution.outputs(Distribution(distribution.is_categorical, False).logs(shares))


def _max(stack, distribution):
    """Returns the largest probabilities, which are normalized if they belong to one distribution over classes."""
    if not distribution.is_categorical:
        return ops.max(stack, 0)
    return distribution.outputs(_normalized(ops.max(distribution.logs(stack), 0)))


def _normalized(logs):
    return logs - ops.logsumexp(logs, -1, keepdims=True)


_MERGES = {"mean": _mean, "logits": _logits, "vote": _vote, "max": _max}
MERGES = tuple(_MERGES)
