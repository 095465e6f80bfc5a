"""The augmentations of a training step: that of the model, and those of penalties."""

import dataclasses

import keras
from keras import ops

from keras_reg._inner_layers import inside
from keras_reg._validation import fail
from keras_reg.layers import Pipeline
from keras_reg.layers._batch._content import Batch, leaves, map_arrays, nest_computed_once
from keras_reg.layers._batch_augmentation import BatchAugmentation

PREPROCESSING = (
    keras.layers.Rescaling,
    keras.layers.Normalization,
    keras.layers.Resizing,
    keras.layers.CenterCrop,
    keras.layers.Discretization,
)


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
    fixed = [layer.name for layer in inside(augmentation) if isinstance(layer, PREPROCESSING)]
    if fixed:
        fail(
            "`augmentation` must not preprocess its inputs, since validation and predictions do not use it. Put these "
            "layers into the model.",
            layers=fixed,
        )
    return augmentation if isinstance(augmentation, BatchAugmentation) else Pipeline([augmentation])


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
