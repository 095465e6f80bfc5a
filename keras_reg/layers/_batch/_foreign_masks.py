"""Warns of Keras layers that move masks differently from the images."""

import functools
import warnings

import keras
import numpy as np

from keras_reg._backend import not_compiled

_OTHER_MATRIX = "on PyTorch, Keras transforms them by another matrix than the images"


def warn_of_masks_elsewhere(layer, place):
    """Warns if a Keras layer moves masks, label maps and pixel weights differently from the images."""
    reason = _reason(layer, place)
    if reason is not None:
        what = f"`{layer.name}` moves masks, label maps and pixel weights differently from the pixels"
        warnings.warn(f"{what}: {reason}.", stacklevel=2)


def _reason(layer, place):
    name = type(layer).__name__
    if getattr(keras.layers, name, None) is not type(layer):
        return None
    if name == "RandomElasticTransform":
        return "Keras draws another distortion for them. Do not use this layer with them"
    odd = name == "RandAugment" and layer.num_ops % 2 == 1  # an even number of changes restores the matrix
    if (name == "RandomRotation" or odd) and place.may_overwrite and _matrix_is_changed():
        better = "an even `num_ops`" if odd else "`keras_reg.layers.RandomAffine(rotation=...)`"
        return f"{_OTHER_MATRIX}. Use {better}"
    return None


@not_compiled
@functools.cache
def _matrix_is_changed():
    """Whether Keras writes into the matrices of the images, which it reads again for the masks."""
    matrix = keras.ops.convert_to_tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]])
    before = np.array(keras.ops.convert_to_numpy(matrix))
    keras.ops.image.affine_transform(keras.ops.zeros((1, 2, 2, 1)), matrix)
    return not np.array_equal(keras.ops.convert_to_numpy(matrix), before)
