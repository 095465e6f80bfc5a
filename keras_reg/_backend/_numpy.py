"""The place of NumPy arrays."""

import keras
import numpy as np

from keras_reg._backend._operations import numpy_ops
from keras_reg._backend._place import Place, at_least_four_bytes


class NumpyPlace(Place):
    """NumPy arrays in a data-loading worker.

    The kernels that run on the host are built from `copy` and `blend`, and from a `sampler` where there is one.

    Attributes:
        sampler: The class `Sampler`, or `None` if NumPy has to interpolate.
    """

    name = "numpy"
    ops = numpy_ops()
    is_host = True
    casts_once = False
    sampler = None

    # The numbers of elements processed at a time, so that they stay in the cache between operations. A policy takes
    # more than a blend, since it calls some functions for each few images.
    _CHUNK = 2**15
    _CHUNK_OF_BRANCH = 2**17

    _PART = 2**20  # the number of elements of a part that takes little memory, but is large enough for many branches

    def from_keras(self, tensor):
        return keras.ops.convert_to_numpy(tensor)

    def read(self, variable):
        return np.float32(keras.ops.convert_to_numpy(variable))

    def key(self, source, index=None):
        words = (0, *source.call_words()) if index is None else (1, int(index))
        return np.random.SeedSequence([source.entropy, *words])

    def fold(self, key, word):
        return np.random.SeedSequence([*key.entropy, 2, word])

    def uniform(self, key, shape):
        return np.random.default_rng(key).random(shape, "float32")

    def normal(self, key, shape):
        return np.random.default_rng(key).standard_normal(shape, "float32")

    def either(self, condition, true, false, array):
        return (true if condition else false)(array)

    def switch(self, routes, branches, images, costly=()):
        """Runs each branch on its own images, a few at a time, so that they stay in the cache between operations."""
        which, *parameters = routes
        images = np.copy(images, order="C")
        at_once = max(1, self._CHUNK_OF_BRANCH // max(1, images[:1].size))
        for step, number in np.ndindex(which.shape[1], len(branches)):
            chosen = np.flatnonzero(which[:, step] == number)
            for start in range(0, len(chosen), at_once):
                some = chosen[start : start + at_once]
                with np.errstate(all="ignore"):  # the images may have NaN or infinity
                    images[some] = branches[number](images[some], *(array[some, step] for array in parameters))
        return images

    def in_parts(self, function, images, *parameters):
        at_once = max(1, self._PART // max(1, images[:1].size))
        if at_once >= len(images):
            return function(images, *parameters)
        result = np.empty(images.shape, images.dtype)
        for start in range(0, len(images), at_once):
            some = slice(start, start + at_once)
            given = keras.tree.map_structure(lambda array, some=some: array[some], parameters)
            result[some] = function(images[some], *given)
        return result

    def dtype_of_arithmetic(self, dtype):
        return at_least_four_bytes(dtype)

    def copy(self, array):
        """Returns a contiguous copy of the array, in which each image is one row."""
        return np.copy(array, order="C")

    def blend(self, own, other, kept, out):
        """Writes kept * own + (1 - kept) * other into `out`, computed in the dtype of `kept`.

        All arrays have one row per image.
        """
        wide = max(1, min(self._CHUNK, own.shape[1]))
        high = max(1, self._CHUNK // wide)
        buffers, given = np.empty((2, min(high, len(own)), wide), kept.dtype), 1 - kept
        with np.errstate(all="ignore"):  # the user's pixels may include NaN
            for top in range(0, len(own), high):
                for left in range(0, own.shape[1], wide):
                    piece = slice(top, top + high), slice(left, left + wide)
                    rows, columns = own[piece].shape
                    first, second = buffers[:, :rows, :columns]
                    np.multiply(own[piece], kept[piece[0]], out=first)
                    np.multiply(other[piece], given[piece[0]], out=second)
                    np.add(first, second, out=out[piece], casting="same_kind")
