"""The labels of a mixed batch, and a loss that accepts them. It weights each term, with any reduction."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_reg._validation import fail
from keras_reg.losses._reduction import one_per_element
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

    def __getattr__(self, name: str) -> Any:
        # An `AttributeError`, so that `hasattr` works.
        raise AttributeError(
            f"The labels of a mixed batch have no `{name}`. Pass them on to `super().compute_loss` or "
            "`super().compute_metrics`, which accept them in place of an array."
        )

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
        self.given, self.loss, self.shapes = loss, as_loss(loss), {}
        super().__init__(name=self.loss.name, reduction=self.loss.reduction, dtype=self.loss.dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        weights = _weights_of(y_true)
        if weights is None:
            return self.loss(y_true, y_pred, self._aligned(sample_weight, y_true, y_pred))
        terms = range(weights.shape[1])
        labels = [keras.tree.map_structure(lambda y, term=term: y.terms[term], y_true) for term in terms]
        shape = self._shape_of_values(labels[0], y_pred)
        if not shape:
            fail(
                "The loss must return one number per sample, without averaging over the batch, since the losses of "
                "mixed labels are weighted separately for each sample.",
                loss=self.name, shape=(),
            )  # fmt: skip
        shares = [self._share(weights[:, term], shape, sample_weight) for term in terms]
        # Copies, since Keras multiplies masks into weights in place on PyTorch.
        parts = [self.loss(y, y_pred, share + 0.0) for y, share in zip(labels, shares, strict=True)]
        if self.reduction == "mean_with_sample_weight":
            count = _Count(self.loss, shape)
            counts = [ops.cast(count(y, y_pred, share), self.dtype) for y, share in zip(labels, shares, strict=True)]
            parts = [ops.divide_no_nan(part * own, sum(counts)) for part, own in zip(parts, counts, strict=True)]
        return sum(parts)

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, y_pred)

    def get_config(self):
        return {"loss": keras.saving.serialize_keras_object(self.given)}

    def _shape_of_values(self, y_true, y_pred):
        """Returns the shape of the losses before their reduction, (batch, ...). It is computed once per known shape."""
        key = str([tuple(array.shape) for array in keras.tree.flatten((y_true, y_pred))])
        if key in self.shapes:
            return self.shapes[key]
        shape = _shape_of_values(self.loss, y_true, y_pred)
        if all(isinstance(size, int) for size in shape):
            self.shapes[key] = shape
        return shape

    def _aligned(self, sample_weight, y_true, y_pred):
        """Returns a copy of sample weights, in the shape of the losses if their rank is lower.

        Keras would align weights (batch,) with the last axis of losses (batch, height, width). On PyTorch, it
        multiplies masks into the weights in place, which would change those of metrics and further passes.
        """
        if sample_weight is None or not hasattr(sample_weight, "shape"):
            return sample_weight
        sample_weight, rank = ops.convert_to_tensor(sample_weight), len(sample_weight.shape)
        if rank + 1 < max(len(output.shape) for output in keras.tree.flatten(y_pred)):
            shape = self._shape_of_values(y_true, y_pred)
            if rank < len(shape):
                return one_per_element(sample_weight, shape)
        return sample_weight * ops.ones((), sample_weight.dtype)

    def _share(self, share, shape, sample_weight):
        """Returns sample weights times the share of a term, with the rank of the losses: (batch, ...)."""
        whole = ops.ones(shape, self.dtype)
        if sample_weight is not None:
            whole = one_per_element(ops.cast(sample_weight, self.dtype), shape)
        return whole * ops.reshape(ops.cast(share, self.dtype), [-1] + [1] * (len(whole.shape) - 1))


def _shape_of_values(loss, y_true, y_pred):
    """Returns the shape of the losses before their reduction, which may differ from that of labels and outputs."""
    to_dtype = lambda x: ops.cast(x, loss.dtype)  # noqa: E731
    try:
        values = loss.call(*keras.tree.map_structure(to_dtype, (y_true, y_pred)))
    except NotImplementedError:  # a loss that only implements `__call__`
        first = keras.tree.flatten(y_pred)[0]
        return ops.shape(first)[: max(len(first.shape) - 1, 1)]
    return ops.shape(ops.convert_to_tensor(values))


class _Count(keras.losses.Loss):
    """Sums the weights of the elements that a loss sums over: those that neither its mask nor that of outputs hides."""

    def __init__(self, loss, shape):
        self.loss, self.shape, self.ones = loss, shape, _Ones()
        super().__init__(name="count", reduction="sum", dtype="float64" if loss.dtype == "float64" else "float32")

    def call(self, y_true, y_pred):
        try:
            return self.ones(self.loss.call(y_true, y_pred))
        except NotImplementedError:  # a loss that only implements `__call__`
            return ops.ones(self.shape, self.dtype)


class _Ones(keras.layers.Layer):
    """Returns ones with the mask of its input. Keras gives masks to layers only."""

    def __init__(self):
        super().__init__(autocast=False)
        self.supports_masking = True

    def call(self, inputs):
        return ops.ones_like(inputs)


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
