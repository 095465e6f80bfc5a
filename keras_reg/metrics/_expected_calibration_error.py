from typing import Any

import keras
from keras import ops

from keras_reg._backend import least_of
from keras_reg._masks import mask_for, mask_of
from keras_reg._typing import Config, Tensor
from keras_reg._validation import check_flag, check_integer, fail, fits, have_shape_of_ids

MOST_BINS = 1000  # each prediction is compared with all bins
ROUNDING = 0.01  # of probabilities in half precision


@keras.saving.register_keras_serializable(package="keras_reg")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Measures by how much the confidence of a classifier differs from its accuracy.

    The confidence of a prediction is its largest probability. Predictions are sorted by confidence into bins of equal
    width. The result is the mean of |accuracy - mean confidence| over the bins, weighted by their predictions. It is 0
    if, in each bin, the accuracy equals the mean confidence.

    Args:
        bins: Number of bins, an integer from 1 to 1000.
        from_logits: Whether predictions are logits.
        name: Name of the metric.
        dtype: Dtype of the sums. Defaults to `keras.config.floatx()`.

    Call arguments:
        y_true: Class ids, or one-hot or soft labels, of which the largest one is used. For one output: 0 or 1, or a
            soft label from 0 to 1, which stands for class 1 if it is above 0.5.
        y_pred: Probabilities or logits with the classes on the last axis. One output is the probability of class 1.
            Positions that its Keras mask leaves out do not count. In a compiled function, numbers that are no
            probabilities give NaN unless `from_logits=True`.
        sample_weight: Weights of the examples or of the positions, or `None`.

    Raises:
        ValueError: If an argument is invalid, if the labels do not match the predictions, or if `y_pred` has numbers
            below 0 or above 1 without `from_logits=True`.

    Example:

    >>> from keras_reg import metrics
    >>> metric = metrics.ExpectedCalibrationError(bins=10)
    >>> metric.update_state([0, 0, 1], [[0.85, 0.15], [0.85, 0.15], [0.85, 0.15]])
    >>> round(float(metric.result()), 3)  # confidence 0.85, accuracy 2 / 3
    0.183

    References:
        - [On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599) (Guo et al., 2017), section 2.
    """

    def __init__(
        self,
        bins: int = 15,
        from_logits: bool = False,
        name: str = "expected_calibration_error",
        dtype: Any = None,
    ) -> None:
        bins = check_integer("bins", bins, low=1, high=MOST_BINS)
        from_logits = check_flag("from_logits", from_logits)
        super().__init__(name=name, dtype=dtype)
        self._direction = "down"  # for callbacks with `mode="auto"`
        self.bins, self.from_logits = bins, from_logits
        self.counts, self.confidences, self.hits = (
            self.add_variable((bins,), keras.initializers.Zeros(), name=name)
            for name in ("counts", "confidences", "hits")
        )

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Adds a batch to the sums of each bin."""
        mask = mask_of(y_pred) if ops.is_tensor(y_pred) else None
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.cast(ops.convert_to_tensor(y_pred), self.dtype)
        if len(y_pred.shape) == 1:
            y_pred = y_pred[:, None]
        confidence, predicted = self._predictions(y_pred)
        hit = ops.cast(ops.equal(_class_ids(y_true, y_pred), predicted), self.dtype)
        weight = _weight_of_each(sample_weight, confidence)
        if mask is not None:
            weight = weight * ops.cast(mask_for(mask, confidence), weight.dtype)
        if not self.from_logits:
            confidence = _without_logits(confidence, y_pred, weight)
        place = ops.cast(ops.ceil(confidence * self.bins), "int32") - 1
        # (predictions, bins)
        in_bin = ops.one_hot(ops.reshape(ops.clip(place, 0, self.bins - 1), [-1]), self.bins, dtype=self.dtype)
        in_bin = in_bin * ops.reshape(weight, [-1, 1])
        for sums, values in ((self.confidences, confidence), (self.hits, hit)):
            counted = ops.where(weight > 0, values, 0.0)  # without a number that is not finite, of weight 0
            sums.assign_add(ops.sum(in_bin * ops.reshape(counted, [-1, 1]), 0))
        self.counts.assign_add(ops.sum(in_bin, 0))

    def _predictions(self, y_pred):
        """Returns the confidence and the class of each prediction."""
        if y_pred.shape[-1] == 1:
            p = (ops.sigmoid(y_pred) if self.from_logits else y_pred)[..., 0]
            return ops.maximum(p, 1 - p), ops.cast(p > 0.5, "int32")
        p = ops.softmax(y_pred, -1) if self.from_logits else y_pred
        return ops.max(p, -1), ops.cast(ops.argmax(p, -1), "int32")

    def result(self) -> Tensor:
        """Returns the error of all batches since the last reset, 0 before the first one."""
        gaps = ops.abs(ops.subtract(self.hits, self.confidences))
        return ops.divide_no_nan(ops.sum(gaps), ops.sum(self.counts))

    def get_config(self) -> Config:
        return {**super().get_config(), "bins": self.bins, "from_logits": self.from_logits}


def _without_logits(confidence, y_pred, weight):
    """Raises for numbers that are no probabilities if looking is cheap; otherwise makes the confidence NaN there."""
    least, most = least_of(y_pred), least_of(-y_pred)
    if least is not None and most is not None and least >= -ROUNDING and -most <= 1 + ROUNDING:
        return confidence
    wrong = ops.any(ops.logical_or(y_pred < -ROUNDING, y_pred > 1 + ROUNDING), axis=-1)
    wrong = ops.logical_and(wrong, weight > 0)
    if least is not None and most is not None and ops.convert_to_numpy(wrong).any():
        fail("`y_pred` must be probabilities. For logits, pass `from_logits=True`.", least=least, most=-most)
    return ops.where(wrong, float("nan"), confidence)


def _class_ids(y_true, y_pred):
    """Returns the class of each label, in the shape of `y_pred` without its last axis."""
    if have_shape_of_ids(tuple(y_true.shape), tuple(y_pred.shape)):
        ids = ops.cast(y_true, y_pred.dtype) > 0.5 if y_pred.shape[-1] == 1 else y_true
        return ops.cast(ops.reshape(ids, ops.shape(y_pred)[:-1]), "int32")
    if len(y_true.shape) != len(y_pred.shape) or y_true.shape[-1] != y_pred.shape[-1]:
        fail("`y_true` must be class ids, or labels in the shape of `y_pred`.",
             y_true=tuple(y_true.shape), y_pred=tuple(y_pred.shape))  # fmt: skip
    return ops.cast(ops.argmax(y_true, -1), "int32")


def _weight_of_each(sample_weight, confidence):
    """Returns the weight of each prediction. Weights of examples count for all of their positions."""
    if sample_weight is None:
        return ops.ones_like(confidence)
    weight = ops.cast(ops.convert_to_tensor(sample_weight), confidence.dtype)
    if len(weight.shape) == len(confidence.shape) + 1:
        weight = ops.squeeze(weight, -1)
    if not fits(tuple(weight.shape), tuple(confidence.shape[: len(weight.shape)])):
        fail("`sample_weight` must have one weight per example or position.",
             sample_weight=tuple(weight.shape), predictions=tuple(confidence.shape))  # fmt: skip
    weight = ops.reshape(weight, [*ops.shape(weight), *[1] * (len(confidence.shape) - len(weight.shape))])
    return ops.broadcast_to(weight, ops.shape(confidence))
