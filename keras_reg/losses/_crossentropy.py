"""Cross-entropy with smoothed targets, computed without building the targets."""

import math

import keras
import numpy as np
from keras import ops

from keras_reg._backend import fused_crossentropy, least_of, times, weighted_sum
from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.losses._targets import are_ids, as_numbers, of_two_classes, read_ids


def smoothed_crossentropy(y_true, y_pred, shares, from_logits, axis):
    """Returns the loss of each element in float32 or float64, which elements count, and whether targets are ids.

    `None` for the elements that count means that all of them do.
    """
    y_true, y_pred = as_numbers("y_true", y_true), as_outputs(y_pred)
    if isinstance(y_true, keras.KerasTensor) != isinstance(y_pred, keras.KerasTensor):
        kinds = {"y_true": type(y_true).__name__, "y_pred": type(y_pred).__name__}
        fail("`y_true` and `y_pred` must both be arrays, or both be symbolic tensors.", **kinds)
    shape, rank = tuple(y_pred.shape), len(y_pred.shape)
    if not -rank <= axis < rank:
        fail(f"`axis` must be one of the {rank} axes of `y_pred`.", axis=axis, **{"y_pred.shape": shape})
    axis %= rank
    of_ids, binary = are_ids(tuple(y_true.shape), shape, axis), shape[axis] == 1
    shares = shares.for_classes(2 if binary else shape[axis])
    if of_ids and len(y_true.shape) == rank:
        y_true = ops.squeeze(y_true, axis)
    if axis != rank - 1:
        y_pred = ops.moveaxis(y_pred, axis, -1)
        y_true = y_true if of_ids else ops.moveaxis(y_true, axis, -1)
    if binary:
        crossentropy, y_pred = _binary_crossentropy, _with_first_class(y_pred, from_logits)
    else:
        crossentropy = _crossentropy_of_ids if of_ids else _crossentropy_of_distributions
    losses, counted = crossentropy(y_true, y_pred, shares, from_logits)
    if not from_logits:
        expected = "`y_pred` must be probabilities, which are not negative. Logits need `from_logits=True`."
        losses = _without_negatives(losses, y_pred, counted, expected)
    return losses, counted, of_ids


def as_outputs(y_pred):
    """Returns outputs as a float64 tensor if they are float64, else as a float32 tensor."""
    written = isinstance(y_pred, (list, tuple))
    y_pred = as_numbers("y_pred", y_pred)
    if written or (isinstance(y_pred, np.ndarray) and y_pred.dtype.kind in "iu"):  # not every backend has uint64
        y_pred = y_pred.astype("float32")
    y_pred = ops.convert_to_tensor(y_pred) if isinstance(y_pred, np.ndarray) else y_pred
    return y_pred if dtype_of(y_pred) == "float64" else ops.cast(y_pred, "float32")


def _without_negatives(losses, values, counted, expected):
    """Raises for a negative number in a distribution if looking is cheap; otherwise makes the loss NaN there.

    This reveals logits without `from_logits=True`, and outputs passed as targets.
    """
    least, lowest = least_of(values), -keras.config.epsilon()
    if least is not None and least >= lowest:
        return losses
    wrong = ops.any(values < lowest, axis=-1)
    wrong = wrong if counted is None else ops.logical_and(wrong, counted)
    if least is not None and ops.convert_to_numpy(wrong).any():
        fail(expected, least=float(ops.convert_to_numpy(values).min()))
    return ops.where(wrong, float("nan"), losses)


# One output for two classes -----------------------------------------------------------------------------------------


def _with_first_class(y_pred, from_logits):
    """Returns the outputs of both classes, given that of the second: sigmoid(z) is the second of softmax([0, z])."""
    return ops.concatenate([ops.zeros_like(y_pred) if from_logits else 1 - y_pred, y_pred], axis=-1)


def _binary_crossentropy(y_true, y_pred, shares, from_logits):
    """Computes the losses for integers, which are class ids, or floats, which are shares of the second class."""
    if "float" not in dtype_of(y_true):
        return _crossentropy_of_ids(y_true, y_pred, shares, from_logits)
    targets, counted = of_two_classes(ops.cast(y_true, y_pred.dtype), shares.ignore_class)
    return _crossentropy_of_distributions(targets, y_pred, shares, from_logits, counted)


# Class ids ----------------------------------------------------------------------------------------------------------


def _crossentropy_of_ids(y_true, y_pred, shares, from_logits):
    ids, known, counted = read_ids(y_true, _classes(y_pred), shares.ignore_class)
    if counted is not None:
        y_pred = _blank(y_pred, counted)
    crossentropy = _from_logits if from_logits else _from_probabilities
    floor, floor_sum = shares.floor(_count(y_pred), y_pred.dtype)
    share = 1.0 - shares.smoothing
    if shares.weight is not None:
        share = share * ops.take(ops.convert_to_tensor(shares.weight, y_pred.dtype), ids)
    losses = crossentropy(y_pred, ids, share, floor, share + floor_sum)
    losses = ops.where(known, losses, float("nan"))
    return losses if counted is None else ops.where(counted, losses, 0.0), counted


def _from_logits(logits, ids, share, floor, total):
    """Returns total * logsumexp(z) - share * z_y - sum_k floor_k z_k, without one-hot targets."""
    symbolic = isinstance(logits, keras.KerasTensor)
    losses = None if symbolic else fused_crossentropy(logits, ids, share, floor, total)
    if losses is not None:
        return losses
    # Only differences of logits are used, so a common offset of 1e4 costs no precision. As total = share + sum_k
    # floor_k, this equals total * (logsumexp(z) - z_y) + sum_k floor_k (z_y - z_k), which XLA computes without a
    # temporary array. Where z_y is -inf, the largest logit replaces it and the difference is added afterwards.
    top = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    own = ops.take_along_axis(logits, ops.expand_dims(ids, -1), axis=-1) - top
    near = ops.where(ops.isinf(own), 0.0, own)
    sums = ops.sum(ops.exp(logits - top), axis=-1)
    losses = total * (ops.log(sums) - ops.squeeze(near, -1)) + times(share, ops.squeeze(near - own, -1))
    return losses if floor is None else losses + weighted_sum(near + top - logits, floor, ops.sum)


def _from_probabilities(probabilities, ids, share, floor, total):
    logs = _log(probabilities)
    own = ops.squeeze(ops.take_along_axis(logs, ops.expand_dims(ids, -1), axis=-1), -1)
    return -share * own if floor is None else -share * own - weighted_sum(logs, floor, ops.sum)


# Distributions ------------------------------------------------------------------------------------------------------


def _crossentropy_of_distributions(y_true, y_pred, shares, from_logits, counted=None):
    targets = given = ops.cast(y_true, y_pred.dtype)
    if targets.shape[-1] is None:
        targets = given = ops.reshape(targets, ops.shape(y_pred))  # an axis of size 1 would broadcast over the classes
    mass = 1.0
    if shares.ignore_class is not None and shares.ignore_class >= 0:
        ignored = ops.equal(ops.arange(_classes(y_pred)), shares.ignore_class)
        mass = 1 - ops.sum(ops.where(ignored, targets, 0), axis=-1)
        targets = ops.where(ignored, 0, targets)
        counted = mass > 0 if counted is None else ops.logical_and(counted, mass > 0)
    y_pred = y_pred if counted is None else _blank(y_pred, counted)
    logs = ops.log_softmax(y_pred, axis=-1) if from_logits else _log(y_pred)
    own = targets if shares.weight is None else targets * ops.convert_to_tensor(shares.weight, y_pred.dtype)
    losses = (shares.smoothing - 1) * ops.sum(own * _possible(logs, own), axis=-1)
    floor, _ = shares.floor(_count(y_pred), y_pred.dtype)
    losses = losses if floor is None else losses - mass * weighted_sum(logs, floor, ops.sum)
    expected = "`y_true` must be class ids or distributions, and must be passed before `y_pred`."
    losses = _without_negatives(losses, given, counted, expected)
    return losses if counted is None else ops.where(counted, losses, 0.0), counted


def _possible(logs, own):
    """Replaces -inf by 0 in logarithms of classes without a share: 0 times infinity is 0 here."""
    least = least_of(logs)
    if least is not None and least > -math.inf:
        return logs
    return ops.where(ops.logical_and(own == 0, ops.isinf(logs)), 0.0, logs)


# Both ---------------------------------------------------------------------------------------------------------------


def _classes(y_pred):
    """Returns the number of classes, an integer if it is known."""
    return ops.shape(y_pred)[-1]


def _count(y_pred):
    """Returns the number of classes as a divisor."""
    count = _classes(y_pred)
    return count if isinstance(count, int) else ops.cast(count, y_pred.dtype)


def _blank(y_pred, counted):
    """Replaces elements that do not count by zeros: padding may be NaN, and 0 * NaN gives a NaN gradient."""
    return ops.where(ops.expand_dims(counted, -1), y_pred, 0)


def _log(probabilities):
    """Returns logarithms of probabilities, scaled to sum to 1 and kept away from 0 as in Keras' own losses."""
    epsilon = keras.config.epsilon()
    total = ops.maximum(ops.sum(probabilities, axis=-1, keepdims=True), epsilon)
    return ops.log(ops.maximum(probabilities / total, epsilon))
