"""What a second pass through a dataset gives: this decides whether features and labels may be kept from the first."""

import hashlib

import keras
import numpy as np
from keras import tree

from keras_reg._datasets import is_finite
from keras_reg.transfer._batches import Batches
from keras_reg.transfer._data import batches_of
from keras_reg.transfer._stream import Stream

COMPARED = 256  # examples at the start of a pass that are compared with those of the next


def repeats(data):
    """Returns "the same", "another order" or "other examples" for a second pass, or "nothing" if there is none.

    The first examples are compared, with their labels and weights. If they differ, a whole pass shows whether they are
    among all examples, so that the dataset is only shuffled.
    """
    if isinstance(data, Batches):
        return "the same"
    if isinstance(data, Stream) or not is_finite(data):
        return "nothing"
    first = _first_digests(data)
    if first == _first_digests(data):
        return "the same"
    missing = set(first)
    for batch in batches_of(data):
        missing -= set(_digests(batch))
        if not missing:
            return "another order"
    return "other examples"


def _first_digests(data):
    found = []
    for batch in batches_of(data):
        found += _digests(batch)
        if len(found) >= COMPARED:
            break
    if isinstance(data, keras.utils.PyDataset):
        data.on_epoch_end()
    return found


def _digests(batch):
    """A hash of each example: its inputs, labels and weights."""
    columns = [np.ascontiguousarray(array) for array in tree.flatten(batch) if array is not None]
    return [hashlib.blake2b(b"".join(row.tobytes() for row in rows), digest_size=16).digest()
            for rows in zip(*columns, strict=True)]  # fmt: skip
