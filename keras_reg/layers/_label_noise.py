from typing import Any

import keras

from keras_reg._backend import is_concrete
from keras_reg._typing import Config, StrengthLike, Tensor, Tensors
from keras_reg._validation import fail
from keras_reg.layers._batch._fill_values import check_num_classes, holds
from keras_reg.layers._batch._forms import dtype_of, is_float, is_map, leaves, one_number_each
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._mixing import check_ids, hot_rows


@keras.saving.register_keras_serializable(package="keras_reg")
class LabelNoise(BatchAugmentation):
    """Replaces each label, with probability `rate`, by a class drawn uniformly from all classes.

    The true class can be drawn again, so a share of rate * (classes - 1) / classes of the labels changes. Images are
    not changed. In inference, the layer is the identity. Inside `keras_reg.training.RegularizedModel`, metrics use the
    labels without the noise.

    Args:
        rate: Probability that a label is redrawn, in [0, 1], or a `keras_reg.Strength`.
        num_classes: Number of classes, required for integer labels, which stay integers. Their dtype must be able to
            hold all class ids.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images", "labels".
        labels: Integer ids (batch,) or (batch, 1), or one-hot or soft (batch, classes).
        sample_weight: Weights, which are not changed.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images of any shape that the other layers take, labels as above.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: For a rate outside [0, 1], no labels, labels of another rank, or integer ids without `num_classes`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import LabelNoise
    >>> x, y = np.zeros((4, 8, 8, 3)), np.arange(4)
    >>> np.asarray(LabelNoise(rate=0, num_classes=4)(x, y)[1]).tolist()
    [0, 1, 2, 3]

    References:
        - [DisturbLabel: Regularizing CNN on the Loss Layer](https://arxiv.org/abs/1605.00055) (Xie et al., 2016).
    """

    uniform_numbers = 1
    keeps_integers = True
    changes_labels_of_metrics = False

    _has_layout = False
    _works_on_host = True

    def __init__(
        self, rate: StrengthLike, num_classes: int | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        num_classes = check_num_classes(num_classes)
        super().__init__(rate, seed=seed, **kwargs)
        self.num_classes = num_classes

    def _check(self, batch):
        arrays = leaves(batch.labels)
        if not arrays:
            raise ValueError("Expected labels, to put noise on. Received: images alone")
        for array in arrays:
            self._check_label(array, batch)

    def _check_label(self, array, batch):
        lifted = 1 if len(batch.images.shape) == 3 else 0
        rank, last = len(array.shape) + lifted, array.shape[-1] if len(array.shape) else 1
        if rank not in (1, 2) or is_map(array, batch.images, self.data_format):
            fail("Expected labels of shape (batch,), (batch, 1) or (batch, classes).", shape=tuple(array.shape))
        ids = rank == 1 or last == 1
        if ids and is_float(array):
            fail("Expected integer class ids, or labels of shape (batch, classes).", dtype=dtype_of(array))
        if ids and self.num_classes is None:
            fail("Integer labels need `num_classes`.", num_classes=None)
        if ids and not holds(dtype_of(array), self.num_classes - 1):
            fail(
                f"Expected `num_classes` small enough for labels of dtype {dtype_of(array)}.",
                num_classes=self.num_classes,
            )
        if ids and is_concrete(array):
            check_ids(array, self.num_classes)
        if not ids and self.num_classes not in (None, last) and isinstance(last, int):
            fail(f"Expected labels of shape (batch, {self.num_classes}).", shape=tuple(array.shape))

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        return random.uniform[:, 0]

    def transform_labels(self, labels: Tensors, numbers: Any, batch: Any) -> Tensor:
        """Returns classes drawn with `numbers` in [0, 1), in the form of the labels."""
        ops, ids = batch.ops, one_number_each(labels)
        classes = self.num_classes if ids else ops.shape(labels)[1]
        count = ops.cast(classes, "float32")
        drawn = ops.cast(ops.minimum(ops.floor(numbers * count), count - 1), "int32")
        if ids:
            return ops.cast(ops.reshape(drawn, [-1] + [1] * (len(labels.shape) - 1)), dtype_of(labels))
        return ops.cast(hot_rows(drawn, classes, ops), dtype_of(labels))

    def get_config(self) -> Config:
        return {**super().get_config(), "num_classes": self.num_classes}
