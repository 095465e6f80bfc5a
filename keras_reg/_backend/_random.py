"""Random numbers: sources, keys, and uniform and normal numbers on each framework."""

import functools
import itertools
import random
import sys
import threading
import zlib

import keras
import numpy as np
from keras import ops

from keras_reg._backend._current import BACKEND, not_compiled
from keras_reg._backend._place import NATIVE
from keras_reg._backend._tensorflow import _is_called_by, _replica_id
from keras_reg._backend._workers import worker_words


def seed_words(*words):
    """One 31-bit number from several numbers and names: streams with other words have nothing in common."""
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else int(word) for word in words]
    return int(np.random.SeedSequence(words).generate_state(1)[0]) >> 1


_WORKER_CALLS = itertools.count()
_PHILOX_STEP = 256  # by how much TensorFlow moves the counter of a Philox generator for each draw
_TENSORFLOW_GENERATOR = "philox"  # what TensorFlow itself selects under XLA is 25 times slower on a CPU
_JAX_GENERATOR = "threefry2x32"  # whose keys are the two words of Keras' seeds, whatever `jax_default_prng_impl` says


class _Counter:
    """Counts calls: no two threads get the same number. Unlike `itertools.count`, it can be read and set."""

    def __init__(self):
        self.value, self._lock = 0, threading.Lock()

    def __next__(self):
        with self._lock:
            self.value += 1
            return self.value - 1


class RandomSource:
    """The random numbers of one layer: a fresh key each call, or a given one for a given `index`.

    No two calls get the same key: not in parallel tf.data maps (an atomic counter), in threads (likewise), in worker
    processes (a word for each) or on replicas (their id is folded in). What is drawn depends on the key alone. `seed`
    and `salt` (the name of the class) start the stream; layers of different classes with one seed are independent.

    The layer must hold `generator` as an attribute: under JAX it is the state that compiled steps carry along.
    """

    def __init__(self, seed, salt):
        self.entropy = seed_words(random.getrandbits(31) if seed is None else seed, salt)
        self._make_generator()
        self._counter = _Counter()
        self._lock = threading.Lock()
        self._tensorflow_state = None
        if BACKEND == "tensorflow":
            self._make_tensorflow_state()

    def __deepcopy__(self, memo):
        return self

    def __getstate__(self):
        return {"entropy": self.entropy, "generator": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._make_generator()
        self._counter, self._lock, self._tensorflow_state = _Counter(), threading.Lock(), None

    def _make_generator(self):
        self.generator = keras.random.SeedGenerator(self.entropy)
        self.generator.state.random_source = self  # how `random_sources` finds it

    def position(self):
        """How many draws there were, eagerly (or anywhere on PyTorch) and in compiled code: plain integers."""
        compiled = 0
        if BACKEND == "jax":
            compiled = ops.convert_to_numpy(self.generator.state)[1]
        elif BACKEND == "tensorflow":
            compiled = self._read_tensorflow_state()[0] // _PHILOX_STEP
        return {"eager": self._counter.value, "compiled": int(compiled)}

    def move_to(self, eager, compiled, entropy=None):
        """Goes on from a `position`, of another stream where its entropy is given."""
        self.entropy = self.entropy if entropy is None else entropy
        self._counter.value = eager
        if BACKEND == "jax":
            self.generator.state.assign(ops.convert_to_tensor([self.entropy, compiled], self.generator.state.dtype))
        elif BACKEND == "tensorflow":
            self._tensorflow_state.assign([compiled * _PHILOX_STEP, 0, self.entropy])

    def key(self, framework=NATIVE, index=None):
        """A key for one call. With `index`, an integer or a scalar tensor, the key is a function of seed and index."""
        return getattr(self, f"_{framework.random}_key")(index)

    def _numpy_key(self, index):
        words = (0, *self.call_words()) if index is None else (1, int(index))
        return np.random.SeedSequence([self.entropy, *words])

    def call_words(self):
        """What tells this call from all others. A worker process may meet one layer again and again as a new copy."""
        worker = worker_words()
        return (next(_WORKER_CALLS if worker else self._counter), *worker)

    def _torch_key(self, index):
        return _torch_key(self, index)

    def _jax_key(self, index):
        """32 bits of the index after the other; what is traced has no more than these."""
        import jax

        if index is None:
            with self._lock:
                key = self.generator.next()
            return jax.random.wrap_key_data(key, impl=_JAX_GENERATOR)
        key = jax.random.key(self.entropy, impl=_JAX_GENERATOR)
        if not isinstance(index, int):
            return jax.random.fold_in(key, ops.cast(index, "uint32"))
        words = [index >> start & 0xFFFFFFFF for start in range(0, max(index.bit_length(), 1), 32)]
        return functools.reduce(jax.random.fold_in, np.asarray(words, "uint32"), key)

    def _tensorflow_key(self, index):
        import tensorflow as tf

        if index is not None:
            return self._tensorflow_key_of(index if isinstance(index, int) else tf.cast(index, tf.int64), tf)
        _refuse_recomputing(_is_called_by("inner_recompute_grad"))
        if tf.executing_eagerly():
            return tf.constant([self.entropy, next(self._counter)], tf.int64)
        if self._tensorflow_state is None:
            self._make_tensorflow_state()
        # Reads and advances under one lock, where assign_add lets parallel calls read the same value. The entropy is in
        # the state, too: code that was compiled before another stream was taken up then draws from that one.
        state = tf.raw_ops.RngReadAndSkip(
            resource=self._tensorflow_state.handle, alg=tf.constant(1, tf.int32), delta=tf.constant(1, tf.uint64)
        )
        return tf.stack([state[2], state[0] // _PHILOX_STEP + (1 + _replica_id(tf)) * (1 << 41)])

    def _tensorflow_key_of(self, index, tf):
        """From 2^39 on, where the counters of calls without an index are not far, an index changes the entropy."""
        low, high = index % (1 << 39), index // (1 << 39)
        if isinstance(index, int):
            high = tf.constant(high % (1 << 62), tf.int64)
        return tf.stack([self.entropy + high * _MULTIPLIER, tf.cast(low + (1 << 40), tf.int64)])

    def _make_tensorflow_state(self):
        import tensorflow as tf

        with tf.init_scope():
            self._tensorflow_state = tf.Variable(
                tf.constant([0, 0, self.entropy], tf.int64),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

    def _read_tensorflow_state(self):
        return np.zeros(3, "int64") if self._tensorflow_state is None else self._tensorflow_state.read_value().numpy()


def random_sources(variables):
    """The sources whose generators are among these variables."""
    found = {id(v): getattr(v, "random_source", None) for v in variables}
    return [source for source in found.values() if source is not None]


def _refuse_recomputing(recomputes):
    """A call that is repeated in the backward pass would draw other numbers, so its gradient would be wrong.

    JAX repeats the traced code, which draws the same numbers.
    """
    if recomputes:
        raise ValueError(
            "A model with random layers must not be rematerialized as a whole, since they would draw again in the "
            "backward pass. Create the model outside of the `keras.RematScope`, or select layers with "
            '`mode="list_of_layers"`. Received: a second call of a random layer, in the backward pass'
        )


_MULTIPLIER = 6364136223846793005  # Knuth's, for 64 bits: folding 1 then 2 is not folding 2 then 1


# A generator cannot be traced: under torch.compile the graph breaks here and goes on behind the draw. A key is made of
# numbers that are new each time, for each of which what uses it would be compiled again.
@not_compiled
def fold(key, word, framework=NATIVE):
    """A new key from a key and a small integer."""
    if framework.name == "jax":
        import jax

        return jax.random.fold_in(key, word)
    if framework.name == "tensorflow":
        tf = sys.modules["tensorflow"]
        return key * tf.constant([_MULTIPLIER, 1], tf.int64) + tf.constant([word + 1, 0], tf.int64)
    return np.random.SeedSequence([*key.entropy, 2, word])


def uniform(key, shape, framework=NATIVE):
    """Float32 numbers in [0, 1)."""
    if framework.name == "jax":
        import jax

        return jax.random.uniform(key, shape)
    if framework.name == "tensorflow":
        return sys.modules["tensorflow"].random.stateless_uniform(shape, key, alg=_TENSORFLOW_GENERATOR)
    if framework.random == "torch":
        return _torch_draw("rand", key, shape, framework)
    return np.random.default_rng(key).random(shape, "float32")


def normal(key, shape, framework=NATIVE):
    """Float32 numbers from N(0, 1)."""
    if framework.name == "jax":
        import jax

        return jax.random.normal(key, shape)
    if framework.name == "tensorflow":
        return sys.modules["tensorflow"].random.stateless_normal(shape, key, alg=_TENSORFLOW_GENERATOR)
    if framework.random == "torch":
        return _torch_draw("randn", key, shape, framework)
    return np.random.default_rng(key).standard_normal(shape, "float32")


@not_compiled
def _torch_key(source, index):
    """Made on the host, so that no draw waits for the device."""
    if index is None:
        torch = sys.modules["torch"]
        _refuse_recomputing(torch._C._current_graph_task_id() != -1)  # -1 outside of backward passes
        ranks = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if ranks else 0
        words = (0, rank, *source.call_words())
    else:
        words = (1, int(index))
    return np.random.SeedSequence([source.entropy, *words])


@not_compiled
def _torch_draw(function, key, shape, framework):
    torch = sys.modules["torch"]
    native = framework.name == "torch"
    # Where Keras puts new tensors; "meta" while it infers shapes.
    device = ops.zeros(()).device if native else torch.device("cpu")
    generator = None
    if device.type != "meta":
        generator = torch.Generator(device=device)
        generator.manual_seed(int(key.generate_state(1, np.uint64)[0]))
    shape = tuple(int(size) for size in shape)
    drawn = getattr(torch, function)(shape, generator=generator, device=device, dtype=torch.float32)
    return drawn if native else drawn.numpy()
