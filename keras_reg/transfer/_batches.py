"""Arrays in batches, in a reproducible order."""

import keras
import numpy as np
from keras import tree


class Batches(keras.utils.PyDataset):
    """Arrays in batches. Their order depends only on the seed and the epoch, so a resumed training continues in it.

    Args:
        arrays: (x, y) or (x, y, sample_weight), nests of arrays of equal length.
        sizes: The size of all batches, or the list of their sizes.
        shuffle: Whether each epoch has its own order.
        seed: Integers from which the orders come.
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
        """Returns the same batches, in other orders if they are shuffled."""
        return Batches(self.arrays, self.sizes, self.shuffle, seed)

    def __len__(self):
        return len(self.bounds) - 1

    def __getitem__(self, index):
        start, stop = self.bounds[index], self.bounds[index + 1]
        rows = self._shuffled()[start:stop] if self.shuffle else slice(start, stop)
        # Keras' `fit` on TensorFlow accepts no lists in a batch of a `PyDataset`.
        return tree.lists_to_tuples(tree.map_structure(lambda array: np.asarray(array[rows]), self.arrays))

    def _shuffled(self):
        if self._order[0] != self.epoch:
            self._order = self.epoch, np.random.default_rng([*self.seed, self.epoch]).permutation(self.count)
        return self._order[1]

    def on_epoch_end(self):
        self.epoch += 1


class EpochOf(keras.callbacks.Callback):
    """Tells `Batches` the epoch of the phase, also when training is resumed in the middle of it.

    Args:
        batches: The `Batches`.
        start: The number of the first epoch of the phase.
    """

    def __init__(self, batches, start):
        super().__init__()
        self.batches, self.start = batches, start

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch - self.start
