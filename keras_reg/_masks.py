"""Masks of Keras, such as those of `Embedding(mask_zero=True)`. Its public API reads and sets them only in layers."""

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


class SeesMask(keras.layers.Layer):
    """Returns its input, and the mask of it if there is one."""

    def __init__(self):
        super().__init__(autocast=False)
        self.supports_masking = self.built = True

    def call(self, inputs, mask=None):
        return inputs if mask is None else (inputs, mask)


_SEES = SeesMask()  # made once, since an eager step asks for masks again and again


def mask_of(tensor):
    """Returns the mask of a tensor, or `None`."""
    # A symbolic tensor would stay in the graph of a layer that is shared.
    sees = SeesMask() if isinstance(tensor, keras.KerasTensor) else _SEES
    found = sees(tensor)
    return found[1] if isinstance(found, tuple) else None


def may_be_masked(model):
    """Whether the outputs of a Functional or Sequential model may have a mask. Inner models show it only when run."""
    if not getattr(model, "outputs", None):
        return False
    if any(mask_of(output) is not None for output in model.outputs):
        return True
    makes = any(
        isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False) for layer in inside(model)
    )
    return makes and any(isinstance(layer, keras.Model) for layer in model.layers)


def masked_like(tensor, others, models=()):
    """Returns a tensor with the mask of others, if these or the outputs of one of the models may have one."""
    has_mask = any(map(may_be_masked, models)) or any(mask_of(other) is not None for other in others)
    return MaskedLike()([tensor, *others]) if has_mask else tensor


def mask_for(mask, values):
    """Returns a mask in the shape of values (batch, ...). Further axes of the mask are reduced by "any"."""
    mask, rank = ops.cast(mask, "bool"), len(values.shape)
    if len(mask.shape) > rank:
        mask = ops.any(mask, axis=tuple(range(rank, len(mask.shape))))
    mask = ops.reshape(mask, [*ops.shape(mask), *[1] * (rank - len(mask.shape))])
    return ops.broadcast_to(mask, ops.shape(values))


def mean_where(mask, values):
    """Returns the mean of values (batch, ...) over the positions that a mask keeps, or over all without a mask."""
    if mask is None:
        return _mean(values)
    mask = mask_for(mask, values)
    count = ops.sum(ops.cast(mask, values.dtype))
    return ops.sum(ops.where(mask, values, ops.zeros_like(values))) / ops.maximum(count, 1)


def _mean(values):
    """Returns the mean, or 0 without values: `tf.distribute` gives a replica no examples if the last batch is short."""
    if all(values.shape):
        return ops.mean(values)
    return ops.sum(values) / ops.cast(ops.maximum(ops.size(values), 1), values.dtype)
