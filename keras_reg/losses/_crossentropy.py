"""Cross-entropy with smoothed targets: what the targets are, and the arithmetic that never builds them."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_reg._backend import fused_crossentropy, is_concrete, weighted_sum
from keras_reg._validation import check_integer, check_number, fail, fits, is_number

# The integers that a float dtype tells apart. Above them class ids merge in silence.
EXACT_UP_TO = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24}


@dataclasses.dataclass(frozen=True)
class Shares:
    """How much each class counts: the checked arguments. `weight` and `prior` are (classes,) float64 or `None`."""

    smoothing: float
    ignore_class: int | None
    weight: np.ndarray | None
    prior: np.ndarray | None

    @classmethod
    def checked(cls, smoothing, ignore_class, class_weight, prior):
        check_number("smoothing", smoothing, 0, 1, open_high=True)
        check_integer("ignore_class", ignore_class, optional=True)
        weight, shares = _per_class("class_weight", class_weight), _per_class("prior", prior)
        if shares is not None and abs(shares.sum() - 1) > 1e-4:
            fail(f"`prior` must sum to 1, not to {shares.sum():.6g}.", prior=prior)
        if weight is not None and shares is not None and len(weight) != len(shares):
            fail("`class_weight` and `prior` must have the same length.", class_weight=class_weight, prior=prior)
        return cls(float(smoothing), ignore_class, weight, shares)

    def check_count(self, classes):
        for name, values in (("class_weight", self.weight), ("prior", self.prior)):
            if values is not None and classes is not None and len(values) != classes:
                fail(f"`{name}` must have one number for each of the {classes} classes.", **{name: values.tolist()})

    def floor(self, classes, dtype):
        """What every class gets whatever the target, s * weight * prior, and its sum; a number where all are alike."""
        if self.smoothing == 0:
            return None, 0.0
        if self.weight is None and self.prior is None:
            return self.smoothing / classes, self.smoothing
        prior = 1 / len(self.weight) if self.prior is None else self.prior
        floor = self.smoothing * prior * (1.0 if self.weight is None else self.weight)
        return ops.convert_to_tensor(floor, dtype), float(floor.sum())


def _per_class(name, values):
    """`None` or a vector of numbers that are not negative, as float64."""
    if values is None:
        return None
    numbers = isinstance(values, (list, tuple)) and all(map(is_number, values))
    if numbers or (isinstance(values, np.ndarray) and values.dtype.kind in "fiu"):
        array = np.asarray(values, "float64")
        if array.ndim == 1 and len(array) > 1 and np.isfinite(array).all() and (array >= 0).all():
            return array
    return fail(f"`{name}` must be a list of numbers that are not negative, one for each class.", **{name: values})


def smoothed_crossentropy(y_true, y_pred, shares, from_logits, axis):
    """The loss of each element, in float32 at least, which elements count (`None`: all), whether targets are ids."""
    y_true, y_pred = _as_tensor(y_true), _as_float(y_pred)
    shape, rank = tuple(y_pred.shape), len(y_pred.shape)
    if not -rank <= axis < rank:
        fail(f"`axis` must be one of the {rank} axes of `y_pred`.", axis=axis, **{"y_pred.shape": shape})
    axis %= rank
    if shape[axis] == 1:
        fail("`y_pred` must have two classes or more; BinaryCrossentropy takes one.", **{"y_pred.shape": shape})
    shares.check_count(shape[axis])
    of_ids = _are_ids(tuple(y_true.shape), shape, axis)
    if of_ids and len(y_true.shape) == rank:
        y_true = ops.squeeze(y_true, axis)
    if axis != rank - 1:
        y_pred = ops.moveaxis(y_pred, axis, -1)
        y_true = y_true if of_ids else ops.moveaxis(y_true, axis, -1)
    crossentropy = _crossentropy_of_ids if of_ids else _crossentropy_of_distributions
    losses, counted = crossentropy(y_true, y_pred, shares, from_logits)
    return losses if from_logits else _of_probabilities(losses, y_pred, counted), counted, of_ids


def _of_probabilities(losses, y_pred, counted):
    """Logits for which nobody has said `from_logits` betray themselves, sooner or later, by a number below zero."""
    least = ops.min(y_pred, axis=-1)
    wrong = least < -keras.config.epsilon()
    wrong = wrong if counted is None else ops.logical_and(wrong, counted)
    if is_concrete(wrong) and ops.convert_to_numpy(wrong).any():
        least = float(ops.convert_to_numpy(least).min())
        fail("`y_pred` must be probabilities; logits need `from_logits=True`.", least=least)
    return ops.where(wrong, float("nan"), losses)


def _as_tensor(x):
    return x if ops.is_tensor(x) or isinstance(x, keras.KerasTensor) else np.asarray(x)


def _as_float(x):
    x = x if isinstance(x, keras.KerasTensor) else ops.convert_to_tensor(x)
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def _are_ids(targets, outputs, axis):
    """Whether targets of this shape are class ids (one for each element) rather than distributions."""
    elements, single = outputs[:axis] + outputs[axis + 1 :], (*outputs[:axis], 1, *outputs[axis + 1 :])
    if fits(targets, elements) or (fits(targets, single) and targets[axis] == 1):
        return True
    if not fits(targets, outputs):
        fail(
            f"`y_true` must be class ids of shape {elements} or {single}, or distributions of shape {outputs}, where "
            f"`y_pred` has shape {outputs} with the classes on axis {axis}.",
            **{"y_true.shape": targets},
        )
    return False


# Class ids ----------------------------------------------------------------------------------------------------------


def _crossentropy_of_ids(y_true, y_pred, shares, from_logits):
    ids, known = _read_ids(y_true, y_pred.shape[-1], shares.ignore_class)
    known = ops.logical_and(known, ops.logical_and(ids >= 0, ids < ops.shape(y_pred)[-1]))
    counted = None if shares.ignore_class is None else ops.not_equal(ids, shares.ignore_class)
    ids = ops.where(known if counted is None else ops.logical_and(known, counted), ids, 0)
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


def _read_ids(y_true, classes, ignore_class):
    """Integer ids, and where they were whole numbers. Raises for ids out of range where looking at them is cheap."""
    dtype = keras.backend.standardize_dtype(y_true.dtype)
    is_float = "float" in dtype
    if is_float and classes is not None and classes > EXACT_UP_TO.get(dtype, classes):
        fail(f"`y_true` must be integers: {dtype} cannot tell {classes} classes apart.", **{"y_true.dtype": dtype})
    if is_concrete(y_true) and classes is not None:
        _check_ids(ops.convert_to_numpy(y_true), classes, ignore_class)
    y_true = ops.convert_to_tensor(y_true) if isinstance(y_true, np.ndarray) else y_true
    ids = y_true if dtype in ("int32", "int64") else ops.cast(y_true, "int32")
    return ids, ops.equal(ops.cast(ids, dtype), y_true) if is_float else ops.ones_like(ids, dtype="bool")


def _check_ids(ids, classes, ignore_class):
    wrong = ~((ids >= 0) & (ids < classes) & (ids == np.floor(ids)))
    if ignore_class is not None:
        wrong &= ids != ignore_class
    if wrong.any():
        expected = f"`y_true` must be class ids from 0 to {classes - 1} or the `ignore_class`."
        fail(expected, y_true=ids[wrong][:5].tolist(), ignore_class=ignore_class)


def _from_logits(logits, ids, share, floor, total):
    """total * logsumexp(z) - share * z_y - sum_k floor_k z_k: the one-hot targets are nowhere."""
    symbolic = isinstance(logits, keras.KerasTensor)
    losses = None if symbolic else fused_crossentropy(logits, ids, share, floor, total)
    if losses is not None:
        return losses
    # Differences of logits alone, so that a common offset of 1e4 costs no digits. As total = share + sum_k floor_k,
    # the same is total * (logsumexp(z) - z_y) + sum_k floor_k (z_y - z_k), which XLA computes without a temporary.
    top = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    own = ops.take_along_axis(logits, ops.expand_dims(ids, -1), axis=-1)
    losses = total * (ops.logsumexp(logits - top, axis=(-1,)) - ops.squeeze(own - top, -1))
    return losses if floor is None else losses + weighted_sum(own - logits, floor, ops.sum)


def _from_probabilities(probabilities, ids, share, floor, total):
    logs = _log(probabilities)
    own = ops.squeeze(ops.take_along_axis(logs, ops.expand_dims(ids, -1), axis=-1), -1)
    return -share * own if floor is None else -share * own - weighted_sum(logs, floor, ops.sum)


# Distributions ------------------------------------------------------------------------------------------------------


def _crossentropy_of_distributions(y_true, y_pred, shares, from_logits):
    targets = ops.cast(y_true, y_pred.dtype)
    if targets.shape[-1] is None:
        targets = ops.reshape(targets, ops.shape(y_pred))  # an axis of size 1 would be spread over the classes
    mass, counted, weight = 1.0, None, shares.weight
    if shares.ignore_class is not None and shares.ignore_class >= 0:
        ignored = ops.equal(ops.arange(ops.shape(y_pred)[-1]), shares.ignore_class)
        mass = 1 - ops.sum(ops.where(ignored, targets, 0), axis=-1)
        targets, counted = ops.where(ignored, 0, targets), mass > 0
        y_pred = _blank(y_pred, counted)
    logs = ops.log_softmax(y_pred, axis=-1) if from_logits else _log(y_pred)
    own = targets if weight is None else targets * ops.convert_to_tensor(weight, y_pred.dtype)
    losses = (shares.smoothing - 1) * ops.sum(own * logs, axis=-1)
    floor, _ = shares.floor(_count(y_pred), y_pred.dtype)
    losses = losses if floor is None else losses - mass * weighted_sum(logs, floor, ops.sum)
    return losses if counted is None else ops.where(counted, losses, 0.0), counted


# Both ---------------------------------------------------------------------------------------------------------------


def _count(y_pred):
    """The number of classes, to divide by."""
    count = ops.shape(y_pred)[-1]
    return count if isinstance(count, int) else ops.cast(count, y_pred.dtype)


def _blank(y_pred, counted):
    """Zeros where an element does not count: what stands in padding may be NaN, and 0 * NaN is a NaN gradient."""
    return ops.where(ops.expand_dims(counted, -1), y_pred, 0)


def _log(probabilities):
    """Logarithms of probabilities, scaled to sum to 1 and kept from 0 as Keras' own losses do."""
    epsilon = keras.config.epsilon()
    total = ops.maximum(ops.sum(probabilities, axis=-1, keepdims=True), epsilon)
    return ops.log(ops.maximum(probabilities / total, epsilon))
