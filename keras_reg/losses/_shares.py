"""The arguments of the loss that have one number per class."""

import dataclasses

import numpy as np
from keras import ops

from keras_reg._validation import check_integer, check_number, fail, is_integer, is_number


@dataclasses.dataclass(frozen=True)
class Shares:
    """The checked arguments.

    `prior` and `weight` are float64 arrays (classes,) or `None`. `weight` may also be a dict from class ids to weights
    until `for_classes` gets the number of classes.
    """

    smoothing: float
    ignore_class: int | None
    weight: np.ndarray | dict | None
    prior: np.ndarray | None

    @classmethod
    def checked(cls, label_smoothing, ignore_class, class_weight, prior):
        smoothing = check_number("label_smoothing", label_smoothing, 0, 1, open_high=True)
        ignore_class = check_integer("ignore_class", ignore_class, optional=True)
        weight, shares = _weights(class_weight), _per_class("prior", prior)
        if shares is not None and abs(shares.sum() - 1) > 1e-4:
            fail(f"`prior` must sum to 1, but its sum is {shares.sum():.6g}.", prior=prior)
        found = cls(float(smoothing), ignore_class, weight, shares)
        if shares is not None and weight is not None and not found._fits(len(shares)):
            fail("`class_weight` and `prior` must have the same length.", class_weight=class_weight, prior=prior)
        return found

    def _fits(self, classes):
        return max(self.weight) < classes if isinstance(self.weight, dict) else len(self.weight) == classes

    def for_classes(self, classes):
        """Returns the same with one weight per class; `classes` is `None` if their number is unknown while tracing."""
        weight, prior = self.weight, self.prior
        if classes is None and isinstance(weight, dict):
            fail(
                "`class_weight` must be a list instead of a dict if the number of classes is unknown.",
                class_weight=weight,
            )
        if classes is not None and weight is not None and not self._fits(classes):
            fail(f"`class_weight` must have one number per class, {classes} in all.", class_weight=listed(weight))
        if classes is not None and prior is not None and len(prior) != classes:
            fail(f"`prior` must have one number per class, {classes} in all.", prior=listed(prior))
        if isinstance(weight, dict):
            weight = np.array([weight.get(class_id, 1.0) for class_id in range(classes)])
        return dataclasses.replace(self, weight=weight)

    def floor(self, classes, dtype):
        """Returns smoothing * weight * prior, the part of the target that does not depend on it, and its sum.

        The first is a number if it is the same for all classes, and `None` without smoothing.
        """
        if self.smoothing == 0:
            return None, 0.0
        if self.weight is None and self.prior is None:
            return self.smoothing / classes, self.smoothing
        prior = 1 / len(self.weight) if self.prior is None else self.prior
        floor = self.smoothing * prior * (1.0 if self.weight is None else self.weight)
        return ops.convert_to_tensor(floor, dtype), float(floor.sum())


def listed(values):
    """Returns one number per class as plain Python: a list, or a dict if it was given as one."""
    if values is None:
        return None
    if isinstance(values, dict):
        return {int(class_id): float(value) for class_id, value in values.items()}
    return [float(value) for value in values]


def _weights(class_weight):
    """Checks for `None`, a vector, or a dict in which missing classes have a weight of 1, as in `fit`."""
    if not isinstance(class_weight, dict):
        return _per_class("class_weight", class_weight, " (or a dict from class ids to such numbers)")
    ids = all(is_integer(class_id) and class_id >= 0 for class_id in class_weight)
    if not class_weight or not ids or not all(is_number(value) and value >= 0 for value in class_weight.values()):
        fail(
            "`class_weight` must be a dict from class ids to numbers that are not negative.", class_weight=class_weight
        )
    return listed(class_weight)


def _per_class(name, values, alternative=""):
    """Checks for `None` or a vector of numbers that are not negative, and returns it as float64."""
    if values is None:
        return None
    numbers = isinstance(values, (list, tuple)) and all(map(is_number, values))
    if numbers or (isinstance(values, np.ndarray) and values.dtype.kind in "fiu"):
        array = np.asarray(values, "float64")
        if array.ndim == 1 and len(array) > 1 and np.isfinite(array).all() and (array >= 0).all():
            return array
    expected = f"`{name}` must be a list of numbers that are not negative, one per class{alternative}."
    return fail(expected, **{name: values})
