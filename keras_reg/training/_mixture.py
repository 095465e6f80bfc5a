"""The labels of a mixed batch, and a loss that takes them: each term weighted, whatever the reduction."""

from typing import Any, NamedTuple

import keras
from keras import ops


class Mixture(NamedTuple):
    """Labels of mixed samples that keep the form in which the loss knows them.

    Attributes:
        labels: Tuple of terms, each a nest of labels as the model was given them.
        weights: What each term weighs, (batch, terms), or `None` where there is one term.
        dominant: The original label that weighs most, for metrics.
    """

    labels: tuple
    weights: Any
    dominant: Any

    @classmethod
    def of(cls, batch):
        """The mixture in an augmented batch, or its plain labels where nothing was mixed."""
        if batch.dominant is None:
            return batch.given("labels")
        labels, weights = zip(*batch.terms, strict=True)
        return cls(labels, None if len(labels) == 1 else ops.stack(weights, axis=1), batch.dominant[0])

    def stacked(self):
        """One nest of labels (batch, terms, ...)."""
        return keras.tree.map_structure(lambda *terms: ops.stack(terms, axis=1), *self.labels)


class Mixing:
    """The weights of the terms while one loss is computed; `None` where labels are plain."""

    weights = None


class MixedLoss(keras.losses.Loss):
    """Takes labels (batch, terms, ...) while `mixing` has weights: the sum over terms of weight * loss.

    It only calls `loss`, once a term, with the term's share of the sample weights; so masks, ignored classes, dtypes
    and reductions are what they are in `loss`. Sums are linear in the sample weights; a mean over the sample weights is
    made so by the share of the weights that each term has.
    """

    def __init__(self, loss, mixing):
        self.loss = loss if isinstance(loss, keras.losses.Loss) else FunctionLoss(loss)
        self.mixing = mixing
        super().__init__(name=self.loss.name, reduction=self.loss.reduction, dtype=self.loss.dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if self.mixing.weights is None:
            return self.loss(y_true, y_pred, sample_weight)
        total = 0.0
        for term in range(self.mixing.weights.shape[1]):
            weight = self._share(self.mixing.weights[:, term], y_pred, sample_weight)
            part = self.loss(y_true[:, term], y_pred, weight)
            if self.reduction == "mean_with_sample_weight":
                count = _Count(name="count", reduction="sum", dtype=self.dtype)
                whole = count(y_true[:, term], y_pred, self._share(None, y_pred, sample_weight))
                part = part * ops.divide_no_nan(count(y_true[:, term], y_pred, weight), whole)
            total = total + part
        return total

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, y_pred)

    def _share(self, share, y_pred, sample_weight):
        """The sample weights times the share of a term (1 where `None`), shaped like the losses: (batch, ...)."""
        rank = max(len(y_pred.shape) - 1, 1, 0 if sample_weight is None else len(sample_weight.shape))
        shape = ops.shape(y_pred)[: max(len(y_pred.shape) - 1, 1)]
        ones = ops.ones(shape, self.dtype) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        if len(ones.shape) < rank:
            ones = ops.reshape(ones, [-1] + [1] * (rank - 1))
        if share is None:
            return ones
        return ones * ops.reshape(ops.cast(share, self.dtype), [-1] + [1] * (len(ones.shape) - 1))


class _Count(keras.losses.Loss):
    """Counts what a loss sums over, masks and weights included."""

    def call(self, y_true, y_pred):
        return ops.ones(ops.shape(y_pred)[: max(len(y_pred.shape) - 1, 1)], self.dtype)


class FunctionLoss(keras.losses.Loss):
    """A loss function as a `Loss`, as `compile` makes one: averaged over the batch, ranks aligned."""

    def __init__(self, function):
        self.function = function
        super().__init__(name=getattr(function, "__name__", type(function).__name__))

    def call(self, y_true, y_pred):
        true_rank, predicted_rank = len(y_true.shape), len(y_pred.shape)
        if true_rank == predicted_rank + 1 and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        elif predicted_rank == true_rank + 1 and y_pred.shape[-1] == 1:
            y_true = ops.expand_dims(y_true, -1)
        return self.function(y_true, y_pred)


def wrap_losses(losses, mixing):
    """A loss argument of `compile` (nest of names, functions, losses or `None`) with each loss wrapped."""

    def wrap(loss):
        if loss is None or isinstance(loss, MixedLoss):
            return loss
        return MixedLoss(keras.losses.get(loss), mixing)

    if isinstance(losses, dict):
        return {name: wrap_losses(loss, mixing) for name, loss in losses.items()}
    if isinstance(losses, (list, tuple)):
        return type(losses)(wrap_losses(loss, mixing) for loss in losses)
    return wrap(losses)
