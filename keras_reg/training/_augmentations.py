"""The augmentations of a training step: that of the model, and those of penalties."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_reg._inner_layers import inside
from keras_reg._validation import fail
from keras_reg.layers import Pipeline
from keras_reg.layers._batch._content import Batch, leaves, map_arrays, nest_computed_once
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.training._penalties._penalty import Penalty

PREPROCESSING = (keras.layers.Normalization, keras.layers.Discretization)  # other sizes are refused with the images


def as_augmentation(augmentation, optional=False):
    """Checks the argument `augmentation`, and returns a layer of this package."""
    if augmentation is None and optional:
        return None
    if not isinstance(augmentation, keras.layers.Layer):
        fail(
            f"`augmentation` must be a Keras layer{' or None' if optional else ''}. Put several layers into a "
            "`Pipeline`.",
            augmentation=augmentation,
        )
    if isinstance(augmentation, Penalty):
        fail("`augmentation` must not be a penalty. Pass it in `penalties`.", augmentation=augmentation.name)
    _check_does_not_preprocess(augmentation)
    return augmentation if isinstance(augmentation, BatchAugmentation) else Pipeline([augmentation])


def _check_does_not_preprocess(augmentation):
    """Refuses layers that always change the inputs, such as `Rescaling` without one that takes it back."""
    parts = inside(augmentation)
    names, scale, offset = [part.name for part in parts if isinstance(part, PREPROCESSING)], 1.0, 0.0
    for part in parts:
        if isinstance(part, keras.layers.Rescaling):
            scale, offset = scale * np.asarray(part.scale), offset * np.asarray(part.scale) + np.asarray(part.offset)
    if not np.allclose(scale, 1) or not np.allclose(offset, 0, atol=1e-6):
        names += [part.name for part in parts if isinstance(part, keras.layers.Rescaling)]
    if names:
        fail(
            "`augmentation` must not preprocess its inputs, since validation and predictions do not use it. Put these "
            "layers into the model.",
            layers=names,
        )


def build_augmentation(augmentation, images):
    """Builds the augmentation. On TensorFlow, the first step of `fit` augments before anything is built."""
    if not augmentation.built:
        augmentation._build_for(Batch(images=images))


def augmented(augmentation, batch):
    """Returns the augmented batch. A compiler computes its images once, for the forward and the backward pass."""
    before = batch.images
    batch, _ = augmentation._read(batch, called=False)
    build_augmentation(augmentation, before)
    batch = augmentation._augment(batch)
    return dataclasses.replace(batch, images=nest_computed_once(batch.images, batch.place, leaves(before)))


def augmented_images(augmentation, images):
    """Returns augmented images, or other inputs, that have no labels."""
    return augmented(augmentation, Batch(images=map_arrays(ops.convert_to_tensor, images))).images
