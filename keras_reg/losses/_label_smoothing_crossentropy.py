import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_reg._masks import Masked
from keras_reg._renamed import renamed
from keras_reg._typing import Config, Tensor, Tensors
from keras_reg._validation import check_choice, check_flag, check_integer
from keras_reg.losses._crossentropy import as_outputs, smoothed_crossentropy
from keras_reg.losses._reduction import Reduction, checked_weights, own_weights
from keras_reg.losses._shares import Shares, listed
from keras_reg.losses._targets import as_numbers


@renamed(smoothing="label_smoothing", epsilon="label_smoothing")
def label_smoothing_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    label_smoothing: float = 0.1,
    from_logits: bool = False,
    ignore_class: int | None = None,
    class_weight: Sequence[float] | Mapping[int, float] | None = None,
    prior: Sequence[float] | None = None,
    axis: int = -1,
) -> Tensor:
    """Computes the crossentropy of each element with smoothed targets. See `LabelSmoothingCrossentropy`.

    Args:
        y_true: Class ids or distributions over the classes.
        y_pred: Logits or probabilities.
        label_smoothing: Share of the target that goes to all classes, in [0, 1).
        from_logits: Whether `y_pred` is logits rather than probabilities.
        ignore_class: Class id whose elements get a loss of 0, or `None`.
        class_weight: One weight per class, as a list or as a dict from class ids to weights, or `None`.
        prior: Distribution of the smoothed share, one number per class, or `None` for a uniform one.
        axis: Axis of `y_pred` that contains the classes.

    Returns:
        Float32 tensor of losses (float64 for float64 `y_pred`), shaped like `y_pred` without `axis`.

    Example:

    >>> logits = [[2.0, 0.0, -1.0]]
    >>> sparse = keras_reg.losses.label_smoothing_crossentropy([0], logits, from_logits=True)
    >>> dense = keras.losses.categorical_crossentropy([[1, 0, 0]], logits, from_logits=True, label_smoothing=0.1)
    >>> bool(ops.all(ops.isclose(sparse, dense)))
    True
    """
    from_logits, axis = check_flag("from_logits", from_logits), check_integer("axis", axis)
    shares = Shares.checked(label_smoothing, ignore_class, class_weight, prior)
    return smoothed_crossentropy(y_true, y_pred, shares, from_logits, axis)[0]


REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)  # those of Keras


@keras.saving.register_keras_serializable(package="keras_reg")
class LabelSmoothingCrossentropy(keras.losses.Loss):
    """Computes the crossentropy with smoothed targets, of which all classes share the fraction `label_smoothing`.

    The target of an element becomes `(1 - label_smoothing) * y + label_smoothing / classes`, so no logit is pushed to
    infinity. The loss accepts class ids, one-hot and soft targets, and gives equal targets the same value in each form.
    The loss of a soft target is the mean of the losses of its classes, weighted by the target, so smoothing before
    MixUp equals smoothing after it. For class ids, neither a one-hot array nor smoothed targets are created. With
    `label_smoothing=0` this is the plain crossentropy.

    `y_true` contains class ids, of any dtype, if it has the shape of `y_pred` without the class axis or with size 1
    there. It contains distributions if it has the shape of `y_pred`. Integer ids are never cast to a float dtype, so
    they stay exact with any number of classes under `bfloat16` and `mixed_float16`. Float ids must be whole numbers, of
    a dtype that represents all class ids. An id out of range raises a `ValueError` if checking is cheap (NumPy arrays
    and eager tensors on the CPU), and otherwise makes the loss NaN. Ids are compared in their own dtype. JAX without
    `jax_enable_x64` truncates 64-bit integers to 32 bits before a compiled loss receives them: 2**32 + 1 becomes 1.

    With one output (a class axis of size 1), `y_pred` is the logit or the probability of the second of two classes.
    Targets are 0, 1 or floats between them, and are smoothed towards 1/2, as in `keras.losses.BinaryCrossentropy`.

    A logit may be -inf for an impossible class, which adds nothing to the loss if the class has no share in the
    smoothed target. Uniform smoothing gives every class a share, so the loss would be infinite. Give such a class a
    `prior` of 0.

    The loss warns once if class ids follow distributions, since a metric named "accuracy" does not accept both. If
    training uses one-hot labels, as mixers produce them in `tf.data`, validation needs one-hot labels too.

    Logits in float16 and bfloat16 are cast to float32 first, and the losses are reduced in float32.

    Args:
        label_smoothing: Share of the target that goes to all classes, in [0, 1). Defaults to 0.1.
        from_logits: Whether `y_pred` is logits rather than probabilities. Logits are faster and more precise.
        ignore_class: Class id to ignore, such as -1 or 255 in segmentation. Its elements have a loss of 0 and, as in
            `keras.losses.SparseCategoricalCrossentropy`, do not count in a mean. The share of a soft target on this
            class is dropped, and an element whose whole target is on it does not count.
        class_weight: List or array with one weight per class; or a dict from class ids to weights, where missing
            classes have a weight of 1; or `None`. Each term of the sum over the smoothed target is multiplied by the
            weight of its class, as in `torch.nn.functional.cross_entropy`. (The `class_weight` of `fit` weights whole
            samples instead.)
        prior: List of one number per class, summing to 1: the distribution of the smoothed share, such as the class
            frequencies. `None` means a uniform distribution.
        axis: Axis of `y_pred` that contains the classes: 1 for channels-first maps. Defaults to -1.
        reduction: As in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss.
        dtype: Dtype of the result, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Class ids or distributions. A distribution with a negative number, such as logits passed by mistake,
            raises a `ValueError` (eager tensors on the CPU) or makes the loss NaN.
        y_pred: Logits or probabilities. Probabilities are scaled to sum to 1. A negative probability, as when
            `from_logits=True` is missing, raises a `ValueError` (eager tensors on the CPU) or makes the loss NaN.
        sample_weight: Weights of the elements. Weights (batch,) apply to all elements of a sample.

    Raises:
        ValueError: If an argument is out of range, or if the shapes do not fit each other.

    Example:

    >>> loss = keras_reg.losses.LabelSmoothingCrossentropy(0.1, from_logits=True)
    >>> logits = [[2.0, 0.0, -1.0]]
    >>> mixed = 0.7 * loss([0], logits) + 0.3 * loss([2], logits)
    >>> bool(ops.isclose(loss([[0.7, 0.0, 0.3]], logits), mixed))
    True

    References:
        [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567), who call the prior u(k) and use a uniform one;
        [Müller et al., 2019](https://arxiv.org/abs/1906.02629) on when it helps.
    """

    @renamed(smoothing="label_smoothing", epsilon="label_smoothing")
    def __init__(
        self,
        label_smoothing: float = 0.1,
        from_logits: bool = False,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | Mapping[int, float] | None = None,
        prior: Sequence[float] | None = None,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "label_smoothing_crossentropy",
        dtype: Any = None,
    ) -> None:
        reduction = check_choice("reduction", reduction, REDUCTIONS)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits, self.axis = check_flag("from_logits", from_logits), check_integer("axis", axis)
        self._shares = Shares.checked(label_smoothing, ignore_class, class_weight, prior)
        self.label_smoothing = self._shares.smoothing
        self.ignore_class = self._shares.ignore_class
        self.class_weight = listed(class_weight)
        self.prior = listed(prior)
        self._dtype_argument = dtype
        self._met_distributions = self._told = False
        self._masked = None if self.ignore_class is None else Masked()

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensors = None) -> Tensors:
        is_tensor = ops.is_tensor(y_pred) or isinstance(y_pred, keras.KerasTensor)
        y_pred = as_numbers("y_pred", y_pred) if is_tensor else as_outputs(y_pred)
        if sample_weight is not None:
            sample_weight = checked_weights(sample_weight, y_pred, self.axis)
            if self._masked is not None or len(sample_weight.shape) < len(y_pred.shape) - 1:
                sample_weight = own_weights(sample_weight, y_pred, self.axis)
        return ops.cast(Reduction(self, y_true)((), y_pred, sample_weight), self.dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensors:
        losses, counted, of_ids = smoothed_crossentropy(y_true, y_pred, self._shares, self.from_logits, self.axis)
        self._remember(of_ids)
        return losses if counted is None else self._masked([losses, counted])  # type: ignore[misc]

    def _remember(self, of_ids):
        """Warns once if class ids, as for validation, follow distributions, as for training."""
        if of_ids and self._met_distributions and not self._told:
            self._told = True
            warnings.warn(
                f"`{self.name}` received distributions before and now receives class ids. In `fit`, use the same form "
                'of labels for training and validation: Keras chooses the meaning of "accuracy" by the first labels.'
            )
        self._met_distributions = self._met_distributions or not of_ids

    @classmethod
    def from_config(cls, config: Config) -> Self:
        weight = config.get("class_weight")
        if isinstance(weight, dict):  # JSON turns its keys into strings
            config = {**config, "class_weight": {int(key): value for key, value in weight.items()}}
        return cls(**config)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            "class_weight": self.class_weight,
            "prior": self.prior,
            "axis": self.axis,
            "dtype": None if self._dtype_argument is None else self.dtype,
        }
