"""The labels of a mixed batch, and a loss that accepts them. It weights each term, with any reduction."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_reg._validation import fail
from keras_reg.training._label_terms import LabelTerms
from keras_reg.training._losses import as_loss


class Mixture(NamedTuple):
    """Labels of mixed samples in their original form.

    Attributes:
        labels: Tuple of terms, each a nest of labels as the model received them.
        weights: The weight of each term, (batch, terms), or `None` if there is only one term.
        dominant: The original label with the largest weight, for metrics.
    """

    labels: tuple
    weights: Any
    dominant: Any

    @classmethod
    def of(cls, batch):
        """Returns the mixture of an augmented batch, or its plain labels if nothing was mixed."""
        if batch.dominant is None:
            return batch.given("labels")
        labels, weights = zip(*batch.terms, strict=True)
        return cls(labels, None if len(labels) == 1 else ops.stack(weights, axis=1), batch.dominant[0])

    def as_labels(self, form):
        """Returns the labels for the losses: one nest of arrays if there is one term, else of `LabelTerms`.

        Args:
            form: Function that puts the labels of one term into the form of the outputs.
        """
        terms = [form(labels) for labels in self.labels]
        if self.weights is None:
            return terms[0]
        return keras.tree.map_structure(lambda *arrays: LabelTerms(arrays, self.weights), *terms)


class MixedLoss(keras.losses.Loss):
    """Computes the sum over terms of weight * loss for `LabelTerms`, and `loss` for all other labels.

    It only calls `loss`, once per term, with the term's share of the sample weights, so masks, ignored classes, dtypes
    and reductions are those of `loss`. A sum is linear in the sample weights. A mean over the sample weights is not, so
    each term is multiplied by its share of these weights.
    """

    def __init__(self, loss):
        self.given, self.loss, self.rank = loss, as_loss(loss), None
        super().__init__(name=self.loss.name, reduction=self.loss.reduction, dtype=self.loss.dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        weights = _weights_of(y_true)
        if weights is None:
            return self.loss(y_true, y_pred, sample_weight)
        terms = range(weights.shape[1])
        labels = [keras.tree.map_structure(lambda y, term=term: y.terms[term], y_true) for term in terms]
        shape = self._shape_of_values(labels[0], y_pred)
        total = 0.0
        for term, y in enumerate(labels):
            weight = self._share(weights[:, term], shape, sample_weight)
            part = self.loss(y, y_pred, weight)
            if self.reduction == "mean_with_sample_weight":
                count = _Count(shape, self.dtype)
                whole = count(y, y_pred, self._share(None, shape, sample_weight))
                part = part * ops.divide_no_nan(count(y, y_pred, weight), whole)
            total = total + part
        return total

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, y_pred)

    def get_config(self):
        return {"loss": keras.saving.serialize_keras_object(self.given)}

    def _shape_of_values(self, y_true, y_pred):
        """Returns the shape of the losses before their reduction, (batch, ...)."""
        outputs = keras.tree.flatten(y_pred)
        if self.rank is None:
            self.rank = _rank_of_values(self.loss, y_true, y_pred)
        if self.rank == 0:
            fail(
                "The loss must return one number per sample, without averaging over the batch, since the losses of "
                "mixed labels are weighted separately for each sample.",
                loss=self.name, shape=(),
            )  # fmt: skip
        like = next((output for output in outputs if len(output.shape) >= self.rank), outputs[0])
        return ops.shape(like)[: self.rank]

    def _share(self, share, shape, sample_weight):
        """Returns sample weights times the share of a term (`None`: 1), with the rank of the losses: (batch, ...)."""
        whole = ops.ones(shape, self.dtype) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        missing = len(shape) - len(whole.shape)
        if missing > 0:
            whole = ops.reshape(whole, (*ops.shape(whole), *[1] * missing))
        if share is None:
            return whole
        return whole * ops.reshape(ops.cast(share, self.dtype), [-1] + [1] * (len(whole.shape) - 1))


def _rank_of_values(loss, y_true, y_pred):
    """Returns the rank of the losses before their reduction, which may differ from that of labels and outputs."""
    to_dtype = lambda x: ops.cast(x, loss.dtype)  # noqa: E731
    try:
        values = loss.call(*keras.tree.map_structure(to_dtype, (y_true, y_pred)))
    except NotImplementedError:  # a loss that only implements `__call__`
        return max(len(keras.tree.flatten(y_pred)[0].shape) - 1, 1)
    return len(ops.convert_to_tensor(values).shape)


class _Count(keras.losses.Loss):
    """Counts the elements that a loss sums over, with masks and weights."""

    def __init__(self, shape, dtype):
        self.shape = shape
        super().__init__(name="count", reduction="sum", dtype=dtype)

    def call(self, y_true, y_pred):
        return ops.ones(self.shape, self.dtype)


def _weights_of(y_true):
    """Returns the weights of the terms of mixed labels, or `None` for other labels."""
    first = y_true if isinstance(y_true, LabelTerms) else next(iter(keras.tree.flatten(y_true)), None)
    return first.weights if isinstance(first, LabelTerms) else None


def wrap_losses(losses):
    """Wraps each loss in a `loss` argument of `compile`: a nest of names, functions, losses and `None`."""
    if losses is None:
        return None
    if isinstance(losses, dict):
        return type(losses)((name, wrap_losses(loss)) for name, loss in losses.items())
    if isinstance(losses, (list, tuple)):
        wrapped = [wrap_losses(loss) for loss in losses]
        return type(losses)(*wrapped) if hasattr(losses, "_fields") else type(losses)(wrapped)
    return MixedLoss(losses)


def unwrapped(config):
    """Returns the config of `compile` arguments, with the losses that were passed in place of the wrapped ones."""
    if isinstance(config, dict):
        if config.get("class_name") == MixedLoss.__name__:
            return config["config"]["loss"]
        return {name: unwrapped(value) for name, value in config.items()}
    if not isinstance(config, (list, tuple)):
        return config
    values = [unwrapped(value) for value in config]
    return type(config)(*values) if hasattr(config, "_fields") else type(config)(values)
