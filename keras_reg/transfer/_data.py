"""The forms that training data may have: arrays, datasets and generators."""

import numpy as np
from keras import tree

from keras_reg._datasets import is_dataset, is_repeatable, one_pass
from keras_reg._validation import fail, fits
from keras_reg.transfer._arrays import data_arrays, unpacked
from keras_reg.transfer._batches import Batches
from keras_reg.transfer._stream import Stream


def to_data(name, data, batch_size, shuffle=False, several_inputs=False):
    """Returns `Batches` of arrays, a `Stream`, or a dataset that can be iterated repeatedly."""
    if isinstance(data, (tuple, list)):
        return Batches(data_arrays(name, data, several_inputs), batch_size, shuffle)
    alternative = ", or inputs with `y`" if name == "train" else ""
    if not is_dataset(data):
        came = type(data).__name__
        fail(f"`{name}` must be (x, y), (x, y, sample_weight) or a dataset{alternative}.", **{name: came})
    if not is_repeatable(data):
        return Stream(name, data)
    return data


def split(train, share, validation_size):
    """Splits `Batches` into the first examples and the last ones, which are the share to validate with, as in Keras."""
    if not isinstance(train, Batches):
        fail(
            "`validation_split` needs arrays. Split a dataset yourself, and pass `validation_data`.",
            train=type(train).__name__,
        )
    count = int(np.floor(train.count * (1 - share)))
    if not 0 < count < train.count:
        fail(
            "`validation_split` must leave examples for training and for validation.",
            validation_split=share,
            examples=train.count,
        )
    first = tree.map_structure(lambda array: array[:count], train.arrays)
    last = tree.map_structure(lambda array: array[count:], train.arrays)
    return Batches(first, train.sizes, train.shuffle), Batches(last, validation_size)


def batches_of(data):
    """Yields one pass through a dataset as (x, y, sample_weight) in NumPy, with `None` for missing parts."""
    if isinstance(data, Batches):
        data = Batches(data.arrays, data.sizes)
    for batch in one_pass(data):
        yield unpacked(batch)


def first_batch(data):
    """Returns (x, y, sample_weight): the first batch of a dataset, or all examples of arrays."""
    if isinstance(data, Batches):
        return (*data.arrays, None)[:3]
    if isinstance(data, Stream):
        return data.first
    return next(batches_of(data), (None, None, None))


def check_inputs(name, x, model):
    """Checks that the inputs have the shape that a model of one input takes."""
    found = tree.flatten(x)
    if len(model.inputs) != 1 or len(found) != 1 or found[0] is None:
        return
    shape, expected = np.shape(found[0]), tuple(model.inputs[0].shape)
    # Keras adds or removes a last axis of size 1.
    if not any(fits(some, expected) for some in (shape, (*shape, 1), shape[:-1] if shape[-1:] == (1,) else shape)):
        unbatched = ", in batches" if fits(shape, expected[1:]) else ""
        fail(f"`{name}` must have inputs of shape {expected}{unbatched}, which the backbone takes.", shape=shape)
