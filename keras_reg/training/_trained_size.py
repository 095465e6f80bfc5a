"""Evaluation does not resize images, so images of a size that the network was not trained on raise an error."""

import keras

from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.layers._batch._content import Batch
from keras_reg.layers._batch._shapes import spec_of


def check_trained_size(augmentation, images):
    """Checks that images have the size that `augmentation` produces in training, if that size is fixed."""
    if augmentation._any_rank or len(images.shape) not in (4, 5):
        return
    shape = tuple(images.shape)
    trained = _shape_behind(augmentation, shape, images)
    fixed = _shape_behind(augmentation, trained, images) == trained
    if fixed and any(None not in pair and pair[0] != pair[1] for pair in zip(shape[1:], trained[1:], strict=True)):
        fail(
            f"Images must have the shape {(None, *trained[1:])}, with which the augmentation trains the network. They "
            "are only resized in training. Resize them, or use `.model`, which accepts other sizes.",
            shape=(None, *shape[1:]),
        )  # fmt: skip


def inputs_of(x):
    """Returns the inputs in `x` or their specifications if they are known without reading data, else `None`.

    If possible, the check comes before the loop. On JAX, an error in the first step would leave a model without
    weights.
    """
    spec = getattr(x, "element_spec", None)
    if spec is not None:
        x = spec[0] if isinstance(spec, tuple) else spec
    parts = keras.tree.flatten(x)
    return x if parts and all(map(_has_known_rank, parts)) else None


def _has_known_rank(part):
    shape = getattr(part, "shape", None)
    return shape is not None and getattr(shape, "rank", 0) is not None and len(shape) > 0


def _shape_behind(augmentation, shape, images):
    batch = Batch.of(spec_of(shape, dtype_of(images)), kind="image" if len(shape) == 4 else "video")
    return tuple(augmentation._spec_after(batch).images.shape)
