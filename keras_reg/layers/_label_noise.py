from collections.abc import Sequence
from typing import Any

import keras

from keras_reg._backend import is_concrete
from keras_reg._dtypes import dtype_of, is_float
from keras_reg._typing import Config, StrengthLike, Tensor, Tensors
from keras_reg._validation import fail, native
from keras_reg.layers._batch._content import leaves, map_arrays
from keras_reg.layers._batch._fill_values import check_num_classes, holds
from keras_reg.layers._batch._shapes import is_map, one_number_each
from keras_reg.layers._batch_augmentation import BatchAugmentation, selected
from keras_reg.layers._pixels._mixing import check_ids, hot_rows


@keras.saving.register_keras_serializable(package="keras_reg")
class LabelNoise(BatchAugmentation):
    """Replaces each label, with probability `rate`, by a class drawn uniformly from all classes.

    The true class can be drawn again, so a share of rate * (classes - 1) / classes of the labels changes. The labels of
    several outputs are redrawn independently of each other. Images are not changed. In inference, the layer is the
    identity. Inside `keras_reg.training.RegularizedModel`, metrics use the labels without the noise.

    Args:
        rate: Probability that a label is redrawn, in [0, 1], or a `keras_reg.Strength`.
        num_classes: Number of classes, required for integer labels, which stay integers. Their dtype must be able to
            hold all class ids.
        noisy_output: Name or position of the labels to redraw, or a list of these. It is required if a model has
            several outputs: a key of the labels if they are a dict, else a position in the list or tuple.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Inputs of any shape and number, which are not changed; or a tuple (inputs, labels) or
            (inputs, labels, sample_weight); or a dict with "images", "labels".
        labels: Integer ids (batch,) or (batch, 1), or one-hot or soft (batch, classes); or a nest of these.
        sample_weight: Weights, which are not changed.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Inputs of any shape (batch, ...), and labels as above. A single sample without the batch axis also works, if
        its label is a scalar.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: For a rate outside [0, 1], no labels, labels of another rank, integer ids without `num_classes`,
            and several labels without `noisy_output`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import LabelNoise
    >>> x, y = np.zeros((4, 8, 8, 3)), np.arange(4)
    >>> np.asarray(LabelNoise(rate=0, num_classes=4)(x, y)[1]).tolist()
    [0, 1, 2, 3]

    References:
        - [DisturbLabel: Regularizing CNN on the Loss Layer](https://arxiv.org/abs/1605.00055) (Xie et al., 2016).
    """

    keeps_integers = True
    changes_labels_of_metrics = False

    _has_layout = False
    _works_on_host = True
    _one_pass = True

    def __init__(
        self,
        rate: StrengthLike,
        num_classes: int | None = None,
        noisy_output: int | str | Sequence[int | str] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        num_classes, noisy_output = check_num_classes(num_classes), _check_noisy_output(noisy_output)
        super().__init__(rate, seed=seed, **kwargs)
        self.num_classes, self.noisy_output = num_classes, noisy_output

    @property
    def _noisy_outputs(self):
        return self.noisy_output if isinstance(self.noisy_output, list) else [self.noisy_output]

    @property
    def uniform_numbers(self) -> int:  # type: ignore[override]
        return 2 * len(self._noisy_outputs) - 1  # a selection and a class for each output; the base adds a selection

    def _draw_selection(self, u, batch, select):
        if len(self._noisy_outputs) == 1:
            return super()._draw_selection(u, batch, select)
        numbers = u[:, : len(self._noisy_outputs)]
        return selected(numbers, self.strength("rate", batch), None if select is None else select[:, None])

    def _changes(self, labels):
        """Returns a nest like the labels: 0 for labels that stay, else 1 + their position among the noisy outputs."""
        if self.noisy_output is None and len(leaves(labels)) <= 1:
            return super()._changes(labels)
        known = _names(labels)
        named = self._noisy_outputs
        if not all(name in known for name in named):
            named = self.noisy_output
            fail("`noisy_output` must select the labels to redraw.", noisy_output=named, labels=known)
        positions = {name: named.index(name) + 1 if name in named else 0 for name in known}
        chosen = {name: keras.tree.map_structure(lambda _, at=at: at, labels[name]) for name, at in positions.items()}
        if isinstance(labels, dict):  # `keras.tree` sorts its keys
            return chosen
        return keras.tree.pack_sequence_as(labels, keras.tree.flatten(list(chosen.values())))

    def _for_labels(self, changes, transformation, selected):
        number = int(changes) - 1
        if selected is not None and len(selected.shape) == 2:
            selected = selected[:, number]
        return transformation[:, number], selected

    def _check(self, batch):
        if not leaves(batch.labels):
            raise ValueError("Expected labels to add noise to. Received: images without labels")
        changes = self._changes(batch.labels)
        map_arrays(lambda array, changed: self._check_label(array, batch) if changed else None, batch.labels, changes)

    def _check_label(self, array, batch):
        rank, last = len(array.shape), array.shape[-1]
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
        return random.uniform[:, len(self._noisy_outputs) - 1 :]

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
        return {**super().get_config(), "num_classes": self.num_classes, "noisy_output": self.noisy_output}


def _names(labels):
    """Returns the keys or positions of several labels."""
    if isinstance(labels, dict):
        return list(labels)
    return list(range(len(labels))) if isinstance(labels, (list, tuple)) else []


def _check_noisy_output(noisy_output):
    """Checks `noisy_output`: `None`, a name or a position, or a list of these."""
    names = native(noisy_output)
    if isinstance(names, (list, tuple)) and not names:
        fail("`noisy_output` must name at least one of the labels.", noisy_output=noisy_output)
    for name in names if isinstance(names, (list, tuple)) else [names]:
        if not isinstance(name, (str, int, type(None))) or isinstance(name, bool):
            fail("`noisy_output` must be a name or a position, or a list of these.", noisy_output=noisy_output)
    return list(names) if isinstance(names, tuple) else names
