"""Labels that fit the head."""

import itertools

import keras
import numpy as np
from keras import tree

from keras_reg._validation import fail
from keras_reg.losses import LabelSmoothingCrossentropy
from keras_reg.transfer._data import Batches, batches_of, has_an_end

SPARSE_NAMES = ("sparse_categorical_crossentropy", keras.losses.sparse_categorical_crossentropy)


def check_labels(name, data, model, loss):
    """Integer labels must be classes of the head: some backends take others without a word, and learn NaN."""
    if data is None or _classes(model, loss) is None:
        return
    if isinstance(data, Batches):
        labels = data.arrays[1] if len(data.arrays) > 1 else None
    else:
        # One batch of a dataset, so that the usual mistakes show at once; what can be gone through only once is left
        # alone. The others follow before the first phase.
        labels = None if iter(data) is data else next(batches_of(data))[1]
    check_batch(name, labels, model, loss)


def check_every_batch(name, data, model, loss, steps=None):
    """The same for a whole dataset, which takes a pass through it, of `steps` batches where there is no end."""
    if data is None or isinstance(data, Batches) or _classes(model, loss) is None or iter(data) is data:
        return
    if has_an_end(data) or steps is not None:
        for _, labels, _ in itertools.islice(batches_of(data), steps):
            check_batch(name, labels, model, loss)


def check_batch(name, labels, model, loss):
    """The same for labels that are at hand."""
    classes = _classes(model, loss)
    if classes is None or labels is None or len(tree.flatten(labels)) != 1:
        return
    labels = np.asarray(tree.flatten(labels)[0])
    if labels.ndim > 1 and labels.shape[-1] != 1 and labels.ndim == len(model.output.shape):
        return  # one-hot or soft
    ignored = getattr(loss, "ignore_class", None)
    outside = labels[((labels < 0) | (labels >= classes)) & (labels != ignored if ignored is not None else True)]
    if outside.size:
        found = np.unique(outside)[:5].tolist()
        fail(
            f"Labels of `{name}` must be integers from 0 to {classes - 1}: the head has {classes} classes.",
            labels=found,
        )


def _classes(model, loss):
    sparse = isinstance(loss, (keras.losses.SparseCategoricalCrossentropy, LabelSmoothingCrossentropy))
    if not sparse and not any(loss == name for name in SPARSE_NAMES if isinstance(loss, str) or callable(loss)):
        return None
    return model.output.shape[-1] if len(model.outputs) == 1 else None
