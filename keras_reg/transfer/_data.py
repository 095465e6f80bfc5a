"""Data for training: arrays in batches, and what a dataset gives when it is gone through."""

import hashlib
import itertools

import keras
import numpy as np
from keras import ops, tree

from keras_reg._validation import fail

LOOKED_AT = 32  # examples that tell whether a dataset gives the same images again


class Batches(keras.utils.PyDataset):
    """Arrays in batches, in an order that depends on the seed and the epoch alone: so a killed training goes on in it.

    Args:
        arrays: (x, y) or (x, y, sample_weight), nests of arrays of one length.
        sizes: The size of all batches, or the list of their sizes.
        shuffle: Whether each epoch has an order of its own.
        seed: Integers that the orders come from.
    """

    def __init__(self, arrays, sizes, shuffle=False, seed=(0,)):
        super().__init__()
        self.arrays, self.sizes = arrays, sizes
        self.count = len(tree.flatten(arrays)[0])
        ends = np.cumsum(sizes) if isinstance(sizes, list) else np.arange(sizes, self.count + sizes, sizes)
        self.bounds = [0, *np.minimum(ends, self.count).tolist()]
        self.shuffle, self.seed = shuffle, seed
        self.epoch = 0
        self._order = (None, None)

    def with_seed(self, *seed):
        """The same batches, in other orders where they are shuffled."""
        return Batches(self.arrays, self.sizes, self.shuffle, seed)

    @property
    def num_batches(self):
        return len(self.bounds) - 1

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        start, stop = self.bounds[index], self.bounds[index + 1]
        rows = self._shuffled()[start:stop] if self.shuffle else slice(start, stop)
        return tree.map_structure(lambda array: np.asarray(array[rows]), self.arrays)

    def _shuffled(self):
        if self._order[0] != self.epoch:
            self._order = self.epoch, np.random.default_rng([*self.seed, self.epoch]).permutation(self.count)
        return self._order[1]

    def on_epoch_end(self):
        self.epoch += 1


class EpochOf(keras.callbacks.Callback):
    """Tells `Batches` which epoch it is, also where training is taken up again."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


def to_arrays(name, data):
    """(x, y[, sample_weight]) as NumPy arrays of one length, or `None` where `data` is a dataset."""
    if not isinstance(data, (tuple, list)):
        if isinstance(data, (np.ndarray, dict)) or ops.is_tensor(data):
            fail(f"`{name}` must be (x, y), (x, y, sample_weight) or a dataset.", **{name: type(data).__name__})
        return None
    if len(data) not in (2, 3):
        fail(f"`{name}` must be (x, y), (x, y, sample_weight) or a dataset.", **{name: f"{len(data)} items"})
    arrays = tuple(_to_array(part) for part in data if part is not None)
    lengths = sorted({len(array) if array.ndim else 0 for array in tree.flatten(arrays)})
    if len(lengths) != 1 or lengths == [0]:
        fail(f"`{name}` must have arrays of one length, of at least 1.", lengths=lengths)
    return arrays


def _to_array(part):
    if isinstance(part, list) and not any(hasattr(item, "shape") for item in part):
        return np.asarray(part)
    return tree.map_structure(to_numpy, part)


def to_numpy(x):
    return ops.convert_to_numpy(x) if ops.is_tensor(x) else x if isinstance(x, np.ndarray) else np.asarray(x)


def batches_of(data):
    """One pass through a dataset, as (x, y, sample_weight) in NumPy; `None` for what there is not."""
    if isinstance(data, keras.utils.PyDataset):
        batches = (data[i] for i in (itertools.count() if data.num_batches is None else range(data.num_batches)))
    else:
        batches = iter(data)
    for batch in batches:
        parts = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
        yield tuple(None if part is None else tree.map_structure(to_numpy, part) for part in parts)


def _digests(x):
    columns = [np.ascontiguousarray(array) for array in tree.flatten(x)]
    return [hashlib.blake2b(b"".join(row.tobytes() for row in rows), digest_size=16).digest()
            for rows in zip(*columns, strict=True)]  # fmt: skip


def _first(data):
    found = []
    for x, _, _ in batches_of(data):
        found += _digests(x)
        if len(found) >= LOOKED_AT:
            break
    if isinstance(data, keras.utils.PyDataset):
        data.on_epoch_end()
    return found


def has_an_end(data):
    """Whether a pass through a dataset comes to an end, as far as it says so itself."""
    cardinality = getattr(data, "cardinality", None)
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is not None
    return not (callable(cardinality) and int(cardinality()) == -1)


def repeats(data):
    """What a second pass gives: "the same", "another order" or "other images"; "nothing" where there is none.

    Judged by the first images. Where they differ, a pass shows whether they are among all, and thus only shuffled.
    """
    if isinstance(data, Batches):
        return "the same"
    if iter(data) is data or not has_an_end(data):
        return "nothing"
    first = _first(data)
    if first == _first(data):
        return "the same"
    missing = set(first)
    for x, _, _ in batches_of(data):
        missing -= set(_digests(x))
        if not missing:
            return "another order"
    return "other images"
