"""Data for training: arrays in batches, and what a dataset gives when it is gone through."""

import hashlib
import itertools

import keras
import numpy as np
from keras import ops, tree

from keras_reg._validation import fail, fits

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
    """Tells `Batches` which epoch of the phase it is, also where training is taken up again.

    Args:
        batches: The `Batches`.
        start: The number of the first epoch of the phase.
    """

    def __init__(self, batches, start):
        super().__init__()
        self.batches, self.start = batches, start

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch - self.start


class Stream:
    """Batches that can be gone through only once, as those of a generator: each is looked at on its way.

    Attributes:
        first: Its first batch, as (x, y, sample_weight).
        ended: Whether all have been taken.
        error: What was wrong with a batch: some backends wrap it in an error of their own.
    """

    def __init__(self, name, batches):
        self.name, self.ended, self.error = name, False, None
        self._check = lambda labels: None
        self._batches = iter(batches)
        first = next(self._batches, None)
        if first is None:
            fail(f"`{name}` must yield at least one batch. A generator can be iterated only once.", **{name: batches})
        self.first = _unpacked(first)
        self._batches = itertools.chain([first], self._batches)

    def checked(self, check):
        """The same, with a function that is given the labels of each batch."""
        self._check = check
        return self

    def generator(self):
        """The batches that are left, as Keras takes them."""
        for batch in self._batches:
            try:
                self._check(_unpacked(batch)[1])
            except ValueError as error:
                self.error = error
                raise
            yield tuple(batch) if isinstance(batch, list) else batch
        self.ended = True


def first_batch(data):
    """(x, y, sample_weight): the first batch of a dataset, or all of arrays."""
    if isinstance(data, Batches):
        return (*data.arrays, None)[:3]
    if isinstance(data, Stream):
        return data.first
    return next(batches_of(data), (None, None, None))


def check_inputs(name, x, model):
    """Whether the inputs have the shape that a model of one input takes."""
    found = tree.flatten(x)
    if len(model.inputs) != 1 or len(found) != 1 or found[0] is None:
        return
    shape, expected = np.shape(found[0]), tuple(model.inputs[0].shape)
    # Keras adds and takes away a last axis of 1.
    if not any(fits(some, expected) for some in (shape, (*shape, 1), shape[:-1] if shape[-1:] == (1,) else shape)):
        unbatched = ", in batches" if fits(shape, expected[1:]) else ""
        fail(f"`{name}` must have inputs of shape {expected}{unbatched}, which the backbone takes.", shape=shape)


def to_data(name, data, batch_size, shuffle=False, several_inputs=False):
    """`Batches` of arrays, a `Stream`, or a dataset that can be gone through repeatedly."""
    if isinstance(data, (tuple, list)):
        return Batches(_to_arrays(name, data, several_inputs), batch_size, shuffle)
    beside = ", or inputs with `y`" if name == "train" else ""
    wrong = isinstance(data, (np.ndarray, dict, str, bytes)) or ops.is_tensor(data)
    if wrong or not (isinstance(data, keras.utils.PyDataset) or hasattr(data, "__iter__")):
        fail(f"`{name}` must be (x, y), (x, y, sample_weight) or a dataset{beside}.", **{name: type(data).__name__})
    if not isinstance(data, keras.utils.PyDataset) and iter(data) is data:
        return Stream(name, data)
    return data


def split(train, share, validation_size):
    """The first and the last examples of `Batches`; the last are the share to validate with, as in Keras."""
    if not isinstance(train, Batches):
        fail(
            "`validation_split` needs arrays. Split a dataset yourself, and pass `validation_data`.",
            train=type(train).__name__,
        )
    border = int(np.floor(train.count * (1 - share)))
    if not 0 < border < train.count:
        fail(
            "`validation_split` must leave examples for training and for validation.",
            validation_split=share,
            examples=train.count,
        )
    first = tree.map_structure(lambda array: array[:border], train.arrays)
    last = tree.map_structure(lambda array: array[border:], train.arrays)
    return Batches(first, train.sizes, train.shuffle), Batches(last, validation_size)


def _to_arrays(name, data, several_inputs):
    """(x, y[, sample_weight]) as NumPy arrays of one length."""
    if len(data) not in (2, 3):
        fail(f"`{name}` must be (x, y), (x, y, sample_weight) or a dataset.", **{name: f"{len(data)} items"})
    x, y, *rest = data
    if y is None:
        fail(f"`{name}` must have labels too.", y=y)
    x = x if several_inputs else _stacked(x)
    arrays = tuple(_to_array(name, part) for part in (x, y, *rest) if part is not None)
    if any(array.dtype.kind in "OUSM" for array in tree.flatten((arrays[0], arrays[2:]))):
        fail(f"`{name}` must hold arrays of numbers.", dtype=[str(array.dtype) for array in tree.flatten(arrays)])
    lengths = sorted({len(array) if array.ndim else 0 for array in tree.flatten(arrays)})
    if len(lengths) != 1 or lengths == [0]:
        fail(f"`{name}` must have arrays of one length, of at least 1.", lengths=lengths)
    return arrays


def _stacked(x):
    """The inputs of a model of one input, where they came as a list: of single images, or of that one input."""
    if not isinstance(x, (list, tuple)) or not x or not all(hasattr(item, "shape") for item in x):
        return x
    if len(x) == 1 and len(x[0].shape) == 4:
        return x[0]
    same = len({tuple(item.shape) for item in x}) == 1
    return np.stack([to_numpy(item) for item in x]) if same else x


def _to_array(name, part):
    try:
        if isinstance(part, list) and not any(hasattr(item, "shape") for item in part):
            return np.asarray(part)
        return tree.map_structure(to_numpy, part)
    except (ValueError, TypeError) as error:  # rows of several lengths, and what is no array at all
        fail(f"`{name}` must have arrays: {error}.", **{name: type(part).__name__})


def to_numpy(x):
    return ops.convert_to_numpy(x) if ops.is_tensor(x) else x if isinstance(x, np.ndarray) else np.asarray(x)


def batches_of(data):
    """One pass through a dataset, as (x, y, sample_weight) in NumPy; `None` for what there is not."""
    if isinstance(data, Batches):
        data = Batches(data.arrays, data.sizes)
    if isinstance(data, keras.utils.PyDataset):
        batches = (data[i] for i in (itertools.count() if data.num_batches is None else range(data.num_batches)))
    else:
        batches = iter(data)
    for batch in batches:
        yield _unpacked(batch)


def _unpacked(batch):
    """(x, y, sample_weight) of a batch, in NumPy; `None` for what there is not."""
    parts = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
    return tuple(None if part is None else tree.map_structure(to_numpy, part) for part in parts)


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
    if isinstance(data, Stream) or not has_an_end(data):
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
