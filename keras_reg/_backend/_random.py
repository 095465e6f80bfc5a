"""Where the random numbers of a layer come from."""

import itertools
import random
import threading
import zlib

import keras
import numpy as np

from keras_reg._backend._native import NATIVE
from keras_reg._backend._workers import worker_words


def seed_words(*words):
    """One 31-bit number from several numbers and names: streams with other words have nothing in common."""
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else int(word) for word in words]
    return int(np.random.SeedSequence(words).generate_state(1)[0]) >> 1


class _Counter:
    """Counts calls: no two threads get the same number. Unlike `itertools.count`, it can be read and set."""

    def __init__(self):
        self.value, self._lock = 0, threading.Lock()

    def __next__(self):
        with self._lock:
            self.value += 1
            return self.value - 1


_WORKER_CALLS = itertools.count()


class RandomSource:
    """The random numbers of one layer: a fresh key for each call, or a given one for a given `index`.

    No two calls get the same key: not in parallel tf.data maps (an atomic counter), in threads (likewise), in worker
    processes (a word for each) or on replicas (their id is folded in). What is drawn depends on the key alone. `seed`
    and `salt` (the name of the class) start the stream; layers of different classes with one seed are independent.

    The layer must hold `generator` as an attribute: under JAX it is the state that compiled steps carry along. Under
    TensorFlow, compiled code draws from `philox`.
    """

    def __init__(self, seed, salt):
        self.entropy = seed_words(random.getrandbits(31) if seed is None else seed, salt)
        self._start()
        NATIVE.prepare(self)

    def _start(self):
        self.generator = keras.random.SeedGenerator(self.entropy)
        self.generator.state.random_source = self  # how `random_sources` finds it
        self._counter, self._lock, self.philox = _Counter(), threading.Lock(), None

    def __deepcopy__(self, memo):
        return self

    def __getstate__(self):
        return {"entropy": self.entropy}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._start()

    def position(self):
        """How many draws there were, eagerly (or anywhere on PyTorch) and in compiled code: plain integers."""
        return {"eager": self._counter.value, "compiled": NATIVE.compiled_draws(self)}

    def move_to(self, eager, compiled, entropy=None):
        """Continues at a `position`, of another stream where its entropy is given."""
        self.entropy = self.entropy if entropy is None else entropy
        self._counter.value = eager
        NATIVE.set_compiled_draws(self, compiled)

    def key(self, place=NATIVE, index=None):
        """A key for one call. With `index`, an integer or a scalar tensor, the key is a function of seed and index."""
        return place.key(self, index)

    # What the places make keys of.

    def next_call(self):
        """The number of this call; no two threads get the same one."""
        return next(self._counter)

    def next_seed(self):
        """The next seed of `generator`."""
        with self._lock:
            return self.generator.next()

    def call_words(self):
        """What tells this call from all others. A worker process may meet one layer again and again as a new copy."""
        worker = worker_words()
        return (next(_WORKER_CALLS if worker else self._counter), *worker)


def random_sources(variables):
    """The sources whose generators are among these variables."""
    found = {id(v): getattr(v, "random_source", None) for v in variables}
    return [source for source in found.values() if source is not None]


def fold(key, word):
    """A new key from a key and a small integer, where Keras' backend is."""
    return NATIVE.fold(key, word)


def uniform(key, shape):
    """Float32 numbers in [0, 1), as a tensor of Keras' backend."""
    return NATIVE.uniform(key, shape)


def normal(key, shape):
    """Float32 numbers from N(0, 1), as a tensor of Keras' backend."""
    return NATIVE.normal(key, shape)
