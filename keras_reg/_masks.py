"""Masks of Keras, as those of `Embedding(mask_zero=True)`. Keras shows and sets them in layers only."""

import functools

import keras
from keras import ops

from keras_reg._inner_layers import inside


class Masked(keras.layers.Layer):
    """Sets the second tensor of a pair as the mask of the first."""

    def __init__(self):
        super().__init__(autocast=False)

    def call(self, inputs):
        return inputs[0]

    def compute_mask(self, inputs, previous_mask=None):
        return inputs[1]


@keras.saving.register_keras_serializable(package="keras_reg")
class MaskedLike(keras.layers.Layer):
    """Gives the first of several tensors the mask of the others: a position counts if it does in one of them."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.built = True

    def call(self, inputs):
        return inputs[0]

    def compute_mask(self, inputs, previous_mask=None):
        known = [mask for mask in previous_mask[1:] if mask is not None]
        return functools.reduce(ops.logical_or, known) if known else None


class _SeesMask(keras.layers.Layer):
    def __init__(self):
        super().__init__(autocast=False)
        self.supports_masking = self.built = True

    def call(self, inputs, mask=None):
        return inputs if mask is None else (inputs, mask)


def mask_of(tensor):
    """Returns the mask of a tensor, or `None`."""
    found = _SeesMask()(tensor)
    return found[1] if isinstance(found, tuple) else None


def may_be_masked(model):
    """Whether the outputs of a Functional or Sequential model may have a mask. Inner models show it only when run."""
    if any(mask_of(output) is not None for output in model.outputs):
        return True
    makes = any(
        isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False) for layer in inside(model)
    )
    return makes and any(isinstance(layer, keras.Model) for layer in model.layers)


def masked_like(tensor, others):
    """Returns a tensor with the mask of others, if these have one."""
    return tensor if all(mask_of(other) is None for other in others) else MaskedLike()([tensor, *others])


def mean_where(mask, values):
    """Returns the mean of values (batch, ...) over the positions that a mask keeps, or over all without a mask."""
    if mask is None:
        return ops.mean(values)
    mask = ops.cast(mask, "bool")
    if len(mask.shape) > len(values.shape):
        mask = ops.any(mask, axis=tuple(range(len(values.shape), len(mask.shape))))
    mask = ops.reshape(mask, [*ops.shape(mask), *[1] * (len(values.shape) - len(mask.shape))])
    mask = ops.broadcast_to(mask, ops.shape(values))
    count = ops.sum(ops.cast(mask, values.dtype))
    return ops.sum(ops.where(mask, values, ops.zeros_like(values))) / ops.maximum(count, 1)
