"""What a second pass through a dataset gives: this decides whether features may be computed once."""

import hashlib

import keras
import numpy as np
from keras import tree

from keras_reg._datasets import is_finite
from keras_reg.transfer._batches import Batches
from keras_reg.transfer._data import batches_of
from keras_reg.transfer._stream import Stream

COMPARED = 32  # examples at the start of a pass that are compared with those of the next


def repeats(data):
    """Returns "the same", "another order" or "other images" for a second pass, or "nothing" if there is none.

    The first images are compared. If they differ, a whole pass shows whether they are among all images, so that the
    dataset is only shuffled.
    """
    if isinstance(data, Batches):
        return "the same"
    if isinstance(data, Stream) or not is_finite(data):
        return "nothing"
    first = _first_digests(data)
    if first == _first_digests(data):
        return "the same"
    missing = set(first)
    for x, _, _ in batches_of(data):
        missing -= set(_digests(x))
        if not missing:
            return "another order"
    return "other images"


def _first_digests(data):
    found = []
    for x, _, _ in batches_of(data):
        found += _digests(x)
        if len(found) >= COMPARED:
            break
    if isinstance(data, keras.utils.PyDataset):
        data.on_epoch_end()
    return found


def _digests(x):
    """A hash of each example."""
    columns = [np.ascontiguousarray(array) for array in tree.flatten(x)]
    return [hashlib.blake2b(b"".join(row.tobytes() for row in rows), digest_size=16).digest()
            for rows in zip(*columns, strict=True)]  # fmt: skip
