"""How the outputs of several passes or models become one output of the same form."""

import math

from keras import ops

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg._validation import fail
from keras_reg.training._distributions import LEAST

SMALLEST = 1e-37  # of a probability in float32


def merged(outputs, merge, distribution, weights=None):
    """Returns one output from a list of outputs for the same examples. These may also be symbolic.

    Args:
        outputs: List of tensors of one shape.
        merge: "mean" of probabilities, mean of "logits", "vote", "median" or "max".
        distribution: The `Distribution` of the outputs, or `None` for numbers of a regression.
        weights: Weights with a sum of 1 for "mean", "logits" and "vote", or `None` for equal weights.
    """
    dtype = dtype_of(outputs[0])
    outputs = [ops.cast(output, at_least_float32(dtype)) for output in outputs]
    weights = weights or [1 / len(outputs)] * len(outputs)
    if distribution is not None:
        found = _MERGES[merge](outputs, weights, distribution)
    elif merge in _OF_NUMBERS:
        found = _OF_NUMBERS[merge](outputs, weights)
    else:
        fail(f'Outputs of a regression have no "{merge}".', merge=merge)
    return ops.cast(found, dtype)


def _average(outputs, weights):
    return sum(weight * output for weight, output in zip(weights, outputs, strict=True))


def _mean(outputs, weights, distribution):
    """Averages probabilities. The mean of probabilities that are given by logits has exact logarithms."""
    if not distribution.from_logits:
        return _average(outputs, weights)
    logs = [distribution.logs(output) + math.log(weight) for output, weight in zip(outputs, weights, strict=True)]
    return distribution.outputs(ops.logsumexp(ops.stack(logs), (0,)))


def _logits(outputs, weights, distribution):
    if distribution.from_logits:
        return _average(outputs, weights)
    return distribution.outputs(_normalized(_average(list(map(distribution.logs, outputs)), weights)))


def _vote(outputs, weights, distribution):
    """Returns the share of the outputs that predict each class."""
    if distribution.is_categorical:
        classes, dtype = outputs[0].shape[distribution.axis], dtype_of(outputs[0])
        chosen = [ops.argmax(output, distribution.axis) for output in outputs]
        votes = [distribution.classes_back(ops.one_hot(ids, classes, dtype=dtype)) for ids in chosen]
    else:
        middle = 0 if distribution.from_logits else 0.5
        votes = [ops.cast(ops.greater(output, middle), dtype_of(output)) for output in outputs]
    return _of_probabilities(_average(votes, weights), distribution)


def _median(outputs, weights, distribution):
    """Returns the median of each probability, normalized if they belong to one distribution over classes."""
    if not distribution.is_categorical and not distribution.from_logits:
        return _middle(outputs)
    p = _middle([ops.exp(distribution.logs(output)) for output in outputs])
    if distribution.is_categorical:
        return distribution.outputs(_normalized(ops.log(ops.maximum(p, LEAST))))
    return distribution.outputs(ops.log(ops.maximum(p, SMALLEST)))


def _middle(outputs, weights=None):
    """Returns the median of each number. `ops.median` of Keras 3.10 is wrong on PyTorch."""
    ordered, count = ops.sort(ops.stack(outputs), 0), len(outputs)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _max(outputs, weights, distribution):
    """Returns the largest of each probability, normalized if they belong to one distribution over classes."""
    if not distribution.is_categorical:
        return ops.max(ops.stack(outputs), 0)
    return distribution.outputs(_normalized(ops.max(ops.stack(list(map(distribution.logs, outputs))), 0)))


def _of_probabilities(p, distribution):
    return distribution.outputs(distribution.of_probabilities.logs(p)) if distribution.from_logits else p


def _normalized(logs):
    return logs - ops.logsumexp(logs, (-1,), keepdims=True)  # Keras 3.10 needs a tuple for symbolic tensors


_MERGES = {"mean": _mean, "logits": _logits, "vote": _vote, "median": _median, "max": _max}
_OF_NUMBERS = {
    "mean": _average,
    "median": _middle,
    "max": lambda outputs, weights: ops.max(ops.stack(outputs), 0),
}
