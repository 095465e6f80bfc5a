"""The random numbers of a layer."""

import contextlib
import itertools
import os
import random
import threading
import zlib

import keras
import numpy as np

from keras_reg._backend._native import NATIVE
from keras_reg._backend._workers import worker_words


def seed_words(*words):
    """Combines several numbers and names into one 31-bit seed. Different words give independent streams."""
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else int(word) for word in words]
    return int(np.random.SeedSequence(words).generate_state(1)[0]) >> 1


class _Counter:
    """A thread-safe counter of calls. Unlike `itertools.count`, it can be read and set."""

    def __init__(self):
        self.value, self._lock = 0, threading.Lock()

    def __next__(self):
        with self._lock:
            self.value += 1
            return self.value - 1


_WORKER_CALLS = itertools.count()


class RandomSource:
    """The random numbers of one layer: a new key for each call, or a fixed key for each `index`.

    No two calls get the same key. This includes parallel tf.data maps and threads, which share an atomic counter,
    worker processes, each of which has its own word, and replicas, whose id is folded in. A source that was made in a
    process for other work, such as a training, follows its seed there. The numbers that are drawn depend only on the
    key. The stream starts from `seed` and `salt`, the name of the class, so layers of different classes with the same
    seed are independent.

    The layer must hold `generator` as an attribute: under JAX, compiled steps carry its state along. Under TensorFlow,
    compiled code draws from `philox`.

    Attributes:
        made_in: The id of the process that made it, or `None` for a pickled copy, which other processes may have too.
    """

    def __init__(self, seed, salt):
        self.entropy = seed_words(random.getrandbits(31) if seed is None else seed, salt)
        self.made_in = os.getpid()
        self._start()
        NATIVE.prepare(self)

    def _start(self):
        self.generator = keras.random.SeedGenerator(self.entropy)
        self.generator.state.random_source = self  # so that `random_sources` finds it
        self._counter, self._lock, self.philox = _Counter(), threading.Lock(), None

    def __deepcopy__(self, memo):
        return self

    def __getstate__(self):
        return {"entropy": self.entropy}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.made_in = None
        self._start()

    def position(self):
        """Returns the numbers of eager and of compiled draws as plain integers. On PyTorch, all draws are eager."""
        return {"eager": self._counter.value, "compiled": NATIVE.compiled_draws(self)}

    def move_to(self, eager, compiled, entropy=None):
        """Continues at a `position`. With `entropy`, the source moves to that stream."""
        self.entropy = self.entropy if entropy is None else entropy
        self._counter.value = eager
        NATIVE.set_compiled_draws(self, compiled)

    def key(self, place=NATIVE, index=None):
        """Returns a key for one call. With `index`, an integer or scalar tensor, it depends only on seed and index."""
        given = _GIVEN.keys.get(id(self)) if index is None else None
        return place.key(self, index) if given is None else place.fold(given.key, next(given.calls))

    # Places build their keys from these.

    def next_call(self):
        """Returns the number of this call. No two threads get the same number."""
        return next(self._counter)

    def next_seed(self):
        """Returns the next seed of `generator`."""
        with self._lock:
            return self.generator.next()

    def call_words(self):
        """Returns numbers that identify this call.

        A worker process uses one counter for all layers, since it may receive new copies of the same layer.
        """
        worker = worker_words(made_here=self.made_in == os.getpid())
        return (next(_WORKER_CALLS if worker else self._counter), *worker)


class _GivenKey:
    """A key that a source uses instead of its own. Each call gets another key, which follows from this one."""

    def __init__(self, key):
        self.key, self.calls = key, itertools.count()


class _Given(threading.local):
    def __init__(self):
        self.keys = {}


_GIVEN = _Given()


@contextlib.contextmanager
def given_keys(pairs):
    """Lets sources draw from given keys, so that their own state is not changed. Other sources stay as they are.

    In each context, a source starts with the first number that follows from its key.

    Args:
        pairs: (source, key) for each source.
    """
    before = _GIVEN.keys
    _GIVEN.keys = {**before, **{id(source): _GivenKey(key) for source, key in pairs}}
    try:
        yield
    finally:
        _GIVEN.keys = before


def random_sources(variables):
    """Returns the sources whose generator states are among these variables."""
    found = {id(v): getattr(v, "random_source", None) for v in variables}
    return [source for source in found.values() if source is not None]


def fold(key, word):
    """Derives a new key of Keras' backend from a key and a small integer."""
    return NATIVE.fold(key, word)


def uniform(key, shape):
    """Draws float32 numbers in [0, 1) as a tensor of Keras' backend."""
    return NATIVE.uniform(key, shape)


def normal(key, shape):
    """Draws float32 numbers from N(0, 1) as a tensor of Keras' backend."""
    return NATIVE.normal(key, shape)
