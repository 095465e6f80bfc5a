"""The only file that knows frameworks: where a batch lives, where its random numbers come from, what a step is."""

import functools
import itertools
import math
import os
import random
import sys
import threading
import types
import zlib

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


# Where a batch lives ------------------------------------------------------------------------------------------------


class Framework:
    """The operations that the pure functions are written against, for the place where one batch lives.

    `name` is "tensorflow", "jax", "torch" or "numpy". `ops` is `keras.ops`, or the same names over the arrays that
    Keras' backend cannot hold: TensorFlow's in a tf.data graph under JAX or PyTorch, NumPy's in a data-loading worker.
    `random` names the framework that draws random numbers, where it is another one. `passes` are functions for
    `_on_host` that are faster than its own.
    """

    def __init__(self, name, namespace, restore=None, in_program=False, random=None, passes=None):
        self.name, self.ops, self.restore = name, namespace, restore
        self.random, self.passes = random or name, passes or {}
        self.native = namespace is ops
        self.in_program = in_program  # whether what runs now is compiled as a whole, by `Programs`
        self.fuses = name == "jax" or in_program  # whether a compiler makes one loop of what is done with pixels
        self.draws_in_programs = name == "jax"  # TensorFlow draws a number for each pixel by one core there

    def settle(self, *arrays):
        """The same arrays, of small numbers on which many pixels depend, kept out of the loop over the pixels.

        XLA makes again for each pixel what it can fuse: the logarithms and roots behind a box, a draw of noise. On a
        CPU it drops optimization barriers before it fuses, but it fuses nothing into a matrix product: one with the
        identity is exact for finite float32 numbers and integers up to 2^24.
        """
        if self.name == "jax":
            import jax

            if jax.default_backend() != "cpu":
                return jax.lax.optimization_barrier(arrays)
            return _through_product(arrays, self.ops, functools.partial(jax.numpy.matmul, precision="highest"))
        if self.name == "tensorflow" and self.in_program:
            tf = sys.modules["tensorflow"]
            if tf.config.list_physical_devices("GPU"):  # where products of matrices are rounded, and barriers kept
                return tuple(tf.raw_ops.XlaOptimizationBarrier(input=arrays))
            return _through_product(arrays, self.ops, tf.linalg.matmul)
        return arrays

    def computes_in(self, dtype):
        """The dtype to compute with pixels in: on a CPU, XLA makes a slow loop of several operations in bfloat16."""
        if dtype != "bfloat16" or not (self.name == "jax" or self.in_program):
            return dtype
        if self.name == "jax":
            return "float32" if sys.modules["jax"].default_backend() == "cpu" else dtype
        return dtype if sys.modules["tensorflow"].config.list_physical_devices("GPU") else "float32"

    @property
    def on_host(self):
        """Whether arrays are NumPy's, so that a slice of one costs nothing."""
        return self.name == "numpy"


def _in_reach(tensor):
    torch = sys.modules["torch"]
    if _torch_compiles() or type(tensor) is not torch.Tensor or tensor.device.type != "cpu":
        return False
    return tensor.layout is torch.strided and not (tensor.requires_grad and torch.is_grad_enabled())


def _torch_to_numpy(tensor):
    torch = sys.modules["torch"]
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(np.dtype("bfloat16"))
    return tensor.detach().numpy()


def _numpy_to_torch(array):
    torch = sys.modules["torch"]
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _torch_copy(array):
    copy = np.empty(array.shape, array.dtype)  # of NumPy, which asks for huge pages
    _numpy_to_torch(copy).copy_(_numpy_to_torch(array))
    return copy


def _torch_blend(own, other, kept, out):
    own, other, kept, out = map(_numpy_to_torch, (own, other, kept, out))
    sys.modules["torch"].lerp(other, own, kept, out=out)


def _through_product(arrays, xp, matmul):
    flat = [xp.reshape(xp.cast(array, "float32"), [-1]) for array in arrays]
    sizes = [xp.shape(array)[0] for array in flat]
    # Twice, so that the length is even: a product with a matrix of one column becomes a sum, which fuses.
    pairs = xp.reshape(xp.concatenate([*flat, *flat]), [-1, 2])
    both = xp.reshape(matmul(pairs, np.eye(2, dtype="float32")), [-1])
    found, start = [], 0
    for array, size in zip(arrays, sizes, strict=True):
        part = xp.reshape(both[start : start + size], xp.shape(array))
        found.append(xp.cast(part, array.dtype))
        start = start + size
    return found


NATIVE = Framework(BACKEND, ops)


def in_reach(arrays):
    """Whether NumPy can stand in for the framework of these tensors, on their memory: for PyTorch on a CPU.

    A small operation costs PyTorch ten times what it costs NumPy, and a layer has fifty of them.
    """
    return BACKEND == "torch" and all(map(_in_reach, arrays))


def on_host(tensors):
    """NumPy's arrays on the memory of these tensors, and their framework, whose random numbers are PyTorch's still.

    `restore` of the framework gives a tensor back as itself where nothing has changed it.
    """
    found = list(map(_torch_to_numpy, tensors))
    known = {id(array): (array, tensor) for array, tensor in zip(found, tensors, strict=True)}

    def restore(array):
        return known[id(array)][1] if id(array) in known else _numpy_to_torch(array)

    passes = {"copy": _torch_copy, "blend": _torch_blend}
    return found, Framework("numpy", _numpy_ops(), restore, random="torch", passes=passes)


def framework_of(arrays):
    """The framework that these arrays (tensors, NumPy arrays or nested lists) are to be handled by."""
    if _torch_compiles():
        return NATIVE
    if any(_is_foreign(array, "tensorflow", "Tensor") for array in arrays):
        return Framework("tensorflow", _tensorflow_ops())
    if any(_is_foreign(array, "torch", "Tensor") for array in arrays):
        return Framework("numpy", _numpy_ops(), restore=sys.modules["torch"].from_numpy)
    if _in_worker() and not _in_graph() and all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
        return Framework("numpy", _numpy_ops())
    return NATIVE


def is_tensor(x):
    """Whether `x` is a tensor of Keras' backend, or one of another framework that a batch can live in."""
    return ops.is_tensor(x) or _is_foreign(x, "tensorflow", "Tensor") or _is_foreign(x, "torch", "Tensor")


def is_dense(x):
    """Whether all elements of an array are stored, in one block."""
    if getattr(x, "sparse", False) is True or getattr(x, "ragged", False) is True:  # a KerasTensor
        return False
    for module, names in _NOT_DENSE.items():
        if module in sys.modules and isinstance(x, tuple(getattr(sys.modules[module], name) for name in names)):
            return False
    torch = sys.modules.get("torch")
    return torch is None or not isinstance(x, torch.Tensor) or (x.layout is torch.strided and not x.is_nested)


_NOT_DENSE = {
    "tensorflow": ("SparseTensor", "RaggedTensor", "IndexedSlices"),
    "jax.experimental.sparse": ("JAXSparse",),
    "scipy.sparse": ("spmatrix", "sparray"),
}


def held_dtype(dtype):
    """The NumPy dtype of what Keras' backend makes of a NumPy array of this dtype."""
    if BACKEND == "jax":
        return np.dtype(sys.modules["jax"].dtypes.canonicalize_dtype(dtype))
    if BACKEND == "torch":
        return np.dtype({"uint16": "int32", "uint32": "int64", "uint64": "int64"}.get(dtype.name, dtype))
    return np.dtype({"uint64": "int64"}.get(dtype.name, dtype))  # Keras' `where` makes 32 bits of uint64


def laid_out(array):
    """The array as the backend can share its memory: PyTorch knows no negative strides."""
    backwards = BACKEND == "torch" and any(stride < 0 for stride in array.strides)
    return np.ascontiguousarray(array) if backwards else array


def from_foreign(x):
    """A tensor of a framework that is not the backend as a NumPy array, where its values can be read; else `x`."""
    if _is_foreign(x, "torch", "Tensor"):
        return _torch_to_numpy(x.detach().cpu())
    if _is_foreign(x, "tensorflow", "Tensor") and hasattr(x, "numpy"):
        return x.numpy()
    return x


def is_compiling():
    """Whether torch.compile reads the code that runs now, for which what looks at values is in the way."""
    return _torch_compiles()


def _torch_compiles():
    return BACKEND == "torch" and sys.modules["torch"].compiler.is_compiling()


def _is_foreign(array, module, name):
    """Whether `array` is a tensor of a framework that is loaded but is not Keras' backend."""
    return module != BACKEND and module in sys.modules and isinstance(array, getattr(sys.modules[module], name))


def _in_worker():
    """Grain reads in threads, torch's DataLoader in processes: NumPy there, since a forked framework may hang."""
    return threading.current_thread() is not threading.main_thread() or worker_words() != ()


def _in_graph():
    """Whether a TensorFlow graph is being traced, which `tf.distribute` does in a thread for each replica."""
    return BACKEND == "tensorflow" and not sys.modules["tensorflow"].executing_eagerly()


_HOME = os.getpid()


@functools.cache
def _process_words(pid):
    return (pid, int.from_bytes(os.urandom(4), "little"))


def worker_words():
    """What tells this worker's random numbers from those of its siblings: nothing in the process that imported us."""
    loader = sys.modules.get("torch.utils.data")
    info = loader.get_worker_info() if loader else None
    if info is not None:
        return (int(info.seed) & 0xFFFFFFFF, int(info.seed) >> 32 & 0xFFFFFFFF)
    if os.getpid() != _HOME or _is_spawned():
        return _process_words(os.getpid())
    return ()


def _is_spawned():
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


@functools.cache
def _numpy_ops():
    same = {
        name: getattr(np, name)
        for name in [
            "abs",
            "arange",
            "broadcast_to",
            "clip",
            "concatenate",
            "cos",
            "equal",
            "exp",
            "expand_dims",
            "floor",
            "isfinite",
            "log",
            "logical_and",
            "matmul",
            "max",
            "maximum",
            "mean",
            "min",
            "minimum",
            "mod",
            "ones_like",
            "prod",
            "repeat",
            "reshape",
            "round",
            "shape",
            "sin",
            "sqrt",
            "square",
            "squeeze",
            "stack",
            "sum",
            "take",
            "take_along_axis",
            "tile",
            "transpose",
            "where",
            "zeros",
            "zeros_like",
            "all",
            "any",
        ]
    }
    return types.SimpleNamespace(
        **same,
        cast=lambda x, dtype: np.asarray(x).astype(dtype, copy=False),
        convert_to_tensor=lambda x, dtype=None: np.asarray(x, dtype=dtype),
        einsum=functools.partial(np.einsum, optimize=True),  # by products of matrices: up to 80 times as fast
        stop_gradient=lambda x: x,
        switch=lambda index, branches, *operands: branches[int(index)](*operands),
    )


@functools.cache
def _tensorflow_ops():
    tf = sys.modules["tensorflow"]

    def shape(x):
        dynamic = tf.shape(x)
        return tuple(dynamic[i] if size is None else size for i, size in enumerate(x.shape))

    def take(x, indices, axis=None):
        return tf.gather(tf.reshape(x, [-1]) if axis is None else x, indices, axis=axis or 0)

    def take_along_axis(x, indices, axis):
        return tf.experimental.numpy.take_along_axis(x, indices, axis)

    def where(condition, x1, x2):
        return tf.where(condition, *of_one_dtype(x1, x2))

    def of_one_dtype(x1, x2):
        """A plain number takes the dtype of the tensor beside it: TensorFlow takes a 1 for an int32."""
        dtype = next((x.dtype for x in (x1, x2) if isinstance(x, tf.Tensor)), None)
        return (x1, x2) if dtype is None else (tf.cast(x1, dtype), tf.cast(x2, dtype))

    def pick(function):
        return lambda x, axis=None, keepdims=False: function(x, axis=axis, keepdims=keepdims)

    return types.SimpleNamespace(
        abs=tf.abs,
        all=pick(tf.reduce_all),
        any=pick(tf.reduce_any),
        arange=lambda *args, dtype=None: tf.range(*args, dtype=dtype),
        broadcast_to=tf.broadcast_to,
        cast=tf.cast,
        clip=lambda x, low, high: tf.clip_by_value(x, tf.cast(low, x.dtype), tf.cast(high, x.dtype)),
        concatenate=lambda xs, axis=0: tf.concat(xs, axis),
        convert_to_tensor=lambda x, dtype=None: tf.convert_to_tensor(x) if dtype is None else tf.cast(x, dtype),
        cos=tf.cos,
        einsum=tf.einsum,
        equal=tf.equal,
        exp=tf.exp,
        expand_dims=tf.expand_dims,
        floor=tf.floor,
        isfinite=tf.math.is_finite,
        log=tf.math.log,
        logical_and=tf.logical_and,
        matmul=tf.matmul,
        max=pick(tf.reduce_max),
        maximum=lambda x1, x2: tf.maximum(*of_one_dtype(x1, x2)),
        mean=pick(tf.reduce_mean),
        min=pick(tf.reduce_min),
        minimum=lambda x1, x2: tf.minimum(*of_one_dtype(x1, x2)),
        mod=tf.math.floormod,
        ones_like=lambda x, dtype=None: tf.ones_like(x, dtype=dtype),
        prod=pick(tf.reduce_prod),
        repeat=tf.repeat,
        reshape=tf.reshape,
        round=tf.round,
        shape=shape,
        sin=tf.sin,
        sqrt=tf.sqrt,
        square=tf.square,
        squeeze=tf.squeeze,
        stack=tf.stack,
        stop_gradient=tf.stop_gradient,
        sum=pick(tf.reduce_sum),
        switch=lambda index, branches, *operands: tf.switch_case(
            index, [functools.partial(branch, *operands) for branch in branches]
        ),
        take=take,
        take_along_axis=take_along_axis,
        tile=tf.tile,
        transpose=tf.transpose,
        where=where,
        zeros=lambda shape, dtype="float32": tf.zeros(shape, dtype),
        zeros_like=lambda x, dtype=None: tf.zeros_like(x, dtype=dtype),
    )


def as_written(function):
    """`function`, which AutoGraph takes as it is: to translate all that it calls takes the first tf.data map seconds.

    What layers of Keras' `call` do is not translated anyway.
    """
    tf = sys.modules.get("tensorflow")
    if tf is None or tf.executing_eagerly():
        return function
    return tf.autograph.experimental.do_not_convert(function)


def read_outside(variable, framework):
    """The present value of one of Keras' variables, a scalar, where a batch lives outside of Keras' backend.

    A tf.data graph is traced once, so under JAX and PyTorch it asks again for each batch.
    """

    def read(*_):
        return np.float32(ops.convert_to_numpy(variable))

    if framework.name != "tensorflow":
        return read()
    tf = sys.modules["tensorflow"]
    value = tf.numpy_function(read, [], tf.float32)
    value.set_shape(())
    return value


def is_concrete(x):
    """Whether the values of `x` can be read here and now at no great cost: not while tracing, not from a GPU."""
    if isinstance(x, (np.ndarray, np.generic, int, float)):
        return True
    if BACKEND == "torch" and isinstance(x, sys.modules["torch"].Tensor):
        return x.device.type == "cpu" and not _torch_compiles()
    if "tensorflow" in sys.modules and isinstance(x, sys.modules["tensorflow"].Tensor):
        return hasattr(x, "numpy") and "GPU" not in x.device
    if "jax" in sys.modules and isinstance(x, sys.modules["jax"].Array):
        jax = sys.modules["jax"]
        return not isinstance(x, jax.core.Tracer) and all(d.platform == "cpu" for d in x.devices())
    return False


def least_of(x):
    """The least number of `x`, or `None` where it cannot be read at no great cost, or there is none."""
    if not is_concrete(x) or 0 in x.shape:
        return None
    try:
        return float(ops.convert_to_numpy(ops.min(x)))
    except RuntimeError:  # inside of a transform of PyTorch, such as `torch.func.vmap`
        return None


def number_of(x):
    """A scalar as a float, or `None` while tracing, and on a GPU under PyTorch, where each step would wait for it."""
    if BACKEND == "torch" and not is_concrete(x):
        return None
    if BACKEND == "jax" and isinstance(x, sys.modules["jax"].core.Tracer):
        return None
    if BACKEND == "tensorflow" and isinstance(x, sys.modules["tensorflow"].Tensor) and not hasattr(x, "numpy"):
        return None
    return float(ops.convert_to_numpy(x))


# Compiled programs --------------------------------------------------------------------------------------------------

WORTH_COMPILING = 2**16  # numbers in a batch, from which on one fused pass wins back what calling it costs
_USUAL_BATCH = 256  # what a batch whose size is not known yet is taken for
_CAN_COMPILE = sys.platform != "darwin"  # where TensorFlow has XLA for some devices only


def worth_compiling(array, framework):
    """Whether to run a pure function of this array as one XLA program: not where it is part of a larger one already."""
    if framework.in_program or framework.name not in ("jax", "tensorflow"):
        return False
    if framework.name == "jax":
        jax = sys.modules["jax"]
        return not isinstance(array, jax.core.Tracer) and array.size >= WORTH_COMPILING
    batch, *others = array.shape
    known = _CAN_COMPILE and all(size is not None for size in others)
    return known and (_USUAL_BATCH if batch is None else batch) * math.prod(others) >= WORTH_COMPILING


class _Same:
    """Any object as a part of a key: equal to itself alone. It is kept, so that no other takes its id."""

    def __init__(self, thing):
        self.thing = thing

    def __eq__(self, other):
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self):
        return id(self.thing)


def by_value(value):
    """A key that is equal for equal arguments only: each element of an array counts, and 1 is not 1.0."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        content = by_value(array.tolist()) if array.dtype.hasobject else array.tobytes()
        return ("array", array.dtype.name, array.dtype.str, array.shape, content)
    if isinstance(value, dict):
        return ("dict", *((by_value(key), by_value(item)) for key, item in value.items()))
    if isinstance(value, (tuple, list)):
        return ("list" if isinstance(value, list) else "tuple", *map(by_value, value))
    if isinstance(value, float):
        return ("float", repr(value))  # -0.0 is not 0.0
    if value is None or isinstance(value, (bool, int, str, bytes)):
        return (type(value).__name__, value)
    return _Same(value)


class Programs:
    """Pure functions compiled by XLA, kept by what they depend on besides their arguments.

    A copy of the object that holds them, in this process or another, starts with none.
    """

    def __init__(self):
        self._programs = {}

    def __deepcopy__(self, memo):
        return Programs()

    def __reduce__(self):
        return Programs, ()

    def run(self, framework, function, key, *arguments):
        """function(framework, *arguments), where the arguments and the result are nests of tensors and `None`."""
        key = (framework.name, by_value(key))
        if key not in self._programs:
            inside = Framework(framework.name, framework.ops, in_program=True)
            self._programs[key] = _compiled(functools.partial(function, inside), framework)
        return self._programs[key](*arguments)


def _compiled(function, framework):
    if framework.name == "jax":
        import jax

        return jax.jit(function)
    return sys.modules["tensorflow"].function(function, jit_compile=True, autograph=False)


# Random numbers -----------------------------------------------------------------------------------------------------


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


def process_random_state():
    """Where the random numbers stand that belong to no layer: those of Python, NumPy and PyTorch. A nest of arrays.

    Keras shuffles arrays by NumPy's under JAX and by PyTorch's under PyTorch, whose unseeded dropout draws there too.
    """
    version, words, gauss = random.getstate()
    state = {"python": [version, np.array(words, "uint32"), gauss], "numpy": np.random.get_state(legacy=False)}
    if BACKEND == "torch":
        torch = sys.modules["torch"]
        state["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            state["cuda"] = [found.numpy() for found in torch.cuda.get_rng_state_all()]
    return state


def set_process_random_state(state):
    """Puts back what `process_random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(map(int, words)), gauss))
    np.random.set_state(state["numpy"])
    if BACKEND == "torch" and "torch" in state:
        torch = sys.modules["torch"]
        torch.set_rng_state(torch.from_numpy(state["torch"]))
        if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([torch.from_numpy(found) for found in state["cuda"]])


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


def _is_called_by(name):
    """Whether a function of this name is running. A recomputation of TensorFlow shows nowhere else."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != name:
        frame = frame.f_back
    return frame is not None


def _replica_id(tf):
    context = tf.distribute.get_replica_context()
    if context is None or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.constant(0, tf.int64)
    return tf.cast(context.replica_id_in_sync_group, tf.int64)


_MULTIPLIER = 6364136223846793005  # Knuth's, for 64 bits: folding 1 then 2 is not folding 2 then 1


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


if BACKEND == "torch":
    import torch

    # A generator cannot be traced: under torch.compile the graph breaks here and goes on behind the draw. A key is made
    # of numbers that are new each time, for each of which what uses it would be compiled again.
    fold = torch.compiler.disable(fold)
    _torch_key = torch.compiler.disable(_torch_key)
    _torch_draw = torch.compiler.disable(_torch_draw)


# The training step --------------------------------------------------------------------------------------------------


class _EagerStateStep:
    """A training step on TensorFlow and PyTorch, where variables hold their state: augment, then the ordinary step."""

    def train_step(self, data):
        return super().train_step(self.augment(*keras.utils.unpack_x_y_sample_weight(data)))

    def call_network(self, inputs, **options):
        return self.model(inputs, **options)


class _StatelessStep:
    """A training step on JAX: the seeds that the augmentation moves on go from the state given to the one passed on."""

    _stateless = False

    def train_step(self, state, data):
        trainable, non_trainable, *others = state
        variables = self.non_trainable_variables
        with keras.StatelessScope(state_mapping=list(zip(variables, non_trainable, strict=True))) as scope:
            data = self.augment(*keras.utils.unpack_x_y_sample_weight(data))
        moved = [scope.get_current_value(variable) for variable in variables]
        non_trainable = [old if new is None else new for old, new in zip(non_trainable, moved, strict=True)]
        return super().train_step((trainable, non_trainable, *others), data)

    def make_train_function(self, force=False):
        super().make_train_function(force)
        self.train_function = _ReturningState.around(self.train_function, self, optimizer=True, metrics=True)

    def make_test_function(self, force=False):
        super().make_test_function(force)
        self.test_function = _ReturningState.around(self.test_function, self, metrics=True)

    def make_predict_function(self, force=False):
        super().make_predict_function(force)
        self.predict_function = _ReturningState.around(self.predict_function, self)
        return self.predict_function

    def stateless_call(self, *args, **kwargs):
        self._stateless = True
        try:
            return super().stateless_call(*args, **kwargs)
        finally:
            self._stateless = False

    def call_network(self, inputs, **options):
        """In a stateless call by `call`, as Keras does: then no layer inside hears of `training` but by its caller."""
        return (self.model.call if self._stateless else self.model)(inputs, **options)


class _ReturningState:
    """What Keras calls for each step on JAX; where it fails, the variables of the model get their values back.

    Keras takes the values out of the variables before the first step and gives them back after the last, so that an
    error in the first step, as about data that are refused, would leave a model without weights.
    """

    def __init__(self, function, model, optimizer, metrics):
        self.function, self.model, self.optimizer, self.metrics = function, model, optimizer, metrics

    @classmethod
    def around(cls, function, model, optimizer=False, metrics=False):
        return function if isinstance(function, cls) else cls(function, model, optimizer, metrics)

    def __call__(self, state, data):
        try:
            return self.function(state, data)
        except StopIteration:
            raise  # the data have ended
        except Exception:
            for variables, values in zip(self._variables(), state, strict=False):
                for variable, value in zip(variables, values, strict=False):
                    if not value.is_deleted():
                        variable.assign(value)
            raise

    def _variables(self):
        model = self.model
        found = [model.trainable_variables, model.non_trainable_variables]
        found += [model.optimizer.variables] if self.optimizer else []
        return found + ([model.metrics_variables] if self.metrics else [])


AugmentedStep = _StatelessStep if BACKEND == "jax" else _EagerStateStep


# Cross-entropy ------------------------------------------------------------------------------------------------------


def fused_crossentropy(logits, ids, share, floor, total):
    """total * logsumexp(z) - share * z_y - sum_k floor_k z_k for each row z of `logits`, where y is its id.

    Its gradient, total * softmax(z) - share * onehot(y) - floor, is written by hand, which saves automatic
    differentiation several passes over an array of the size of the logits. `None` where a compiler does as well.

    Args:
        logits: Float tensor (..., classes).
        ids: Integer tensor (...), all in range.
        share, total: A number or a tensor (...).
        floor: `None`, a number, or a tensor (classes,).
    """
    if BACKEND == "tensorflow":
        return _tensorflow_crossentropy(logits, ids, share, floor, total)
    if BACKEND == "torch" and not _torch_compiles():
        return _torch_crossentropy().apply(logits, ids.long().unsqueeze(-1), share, floor, total)[0]
    return None


def times(weight, x):
    """`weight * x` where 0 times infinity is 0: what counts nothing may be impossible. A plain number is not 0."""
    return weight * ops.where(weight == 0, 0.0, x) if len(np.shape(weight)) else weight * x


def weighted_sum(x, weight, sum_over):
    """Over the last axis; `weight` is a number or a vector along it."""
    return sum_over(times(weight, x), -1) if len(np.shape(weight)) else weight * sum_over(x, -1)


def _tensorflow_crossentropy(logits, ids, share, floor, total):
    tf = sys.modules["tensorflow"]
    shape = tf.shape(ids)

    def flat(x):
        return x if isinstance(x, float) else tf.reshape(x, [-1])

    ids, share, total = flat(ids), flat(share), flat(total)

    @tf.custom_gradient
    def crossentropy(z):
        z = z - tf.reduce_max(z, axis=-1, keepdims=True)
        losses = -times(share, tf.gather(z, ids, batch_dims=1))
        if floor is not None:
            losses -= weighted_sum(z, floor, tf.reduce_sum)
        # One array of the size of the logits, not two: the exponentials wait for the last that reads z. XLA knows no
        # control dependencies, but not that this is 0 either, and its temporary for the sum is gone by then.
        nothing = 0.0 * tf.cast(tf.math.is_nan(losses), z.dtype)
        with tf.control_dependencies([losses]):
            exps = tf.exp(z + nothing[:, None])
        sums = tf.reduce_sum(exps, axis=-1)

        def gradient(upstream):
            found = exps * (upstream * total / sums)[:, None]
            if floor is not None:
                found -= upstream[:, None] * floor
            where = tf.stack([tf.range(tf.shape(ids)[0], dtype=ids.dtype), ids], axis=-1)
            return tf.tensor_scatter_nd_sub(found, where, upstream * share)

        return losses + total * tf.math.log(sums), gradient

    return tf.reshape(crossentropy(tf.reshape(logits, [-1, tf.shape(logits)[-1]])), shape)


@functools.cache
def _torch_crossentropy():
    torch = sys.modules["torch"]

    class Crossentropy(torch.autograd.Function):
        """One array of the size of the logits is allocated, for the exponentials, which the backward pass turns into
        the gradient where they lie. Fresh memory costs more here than the arithmetic.

        `torch.log_softmax` would add the exponentials in lanes, as many as the processor has, and lose small ones.
        """

        generate_vmap_rule = True

        @staticmethod
        def forward(logits, ids, share, floor, total):
            exps = logits - logits.amax(-1, keepdim=True)
            losses = -times(share, exps.gather(-1, ids).squeeze(-1))
            if floor is not None:
                losses -= weighted_sum(exps, floor, torch.sum)
            sums = exps.exp_().sum(-1)
            return losses + total * sums.log(), exps, sums

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs[:2])
            ctx.numbers, (_, ctx.exps, ctx.sums) = inputs[2:], output
            ctx.mark_non_differentiable(*output[1:])
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, upstream, *_):
            logits, ids = ctx.saved_tensors
            share, floor, total = ctx.numbers
            spent = -(upstream * share).unsqueeze(-1)
            if torch.is_grad_enabled():  # someone wants the gradient of this gradient
                found = torch.softmax(logits, -1) * (upstream * total).unsqueeze(-1)
                found = found if floor is None else found - upstream.unsqueeze(-1) * floor
                return found.scatter_add(-1, ids, spent), None, None, None, None
            # The first pass takes the exponentials; one over a graph that was retained has to make them again.
            exps, ctx.exps = ctx.exps, None
            exps = (logits - logits.amax(-1, keepdim=True)).exp_() if exps is None else exps
            exps *= (upstream * total / ctx.sums).unsqueeze(-1)
            if floor is not None:
                exps -= upstream.unsqueeze(-1) * floor
            return exps.scatter_add_(-1, ids, spent), None, None, None, None

    return Crossentropy


# What a training step shows -----------------------------------------------------------------------------------------


def count(ids, length):
    """How often each of 0, ..., `length` - 1 occurs among the integers `ids`: exact, on the device, shape (length,)."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # tf.math.bincount takes the size from the data, which XLA cannot compile.
        return tf.raw_ops.DenseBincount(input=ids, size=tf.constant(length), weights=tf.constant([], tf.int32))
    if BACKEND == "jax":
        import jax

        return jax.numpy.bincount(ids, length=length)
    return ops.cast(sys.modules["torch"].bincount(ids, minlength=length), "int32")


def bucket(values, edges, guess):
    """The i of each value for which edges[i] <= value < edges[i + 1]; `guess()` returns one that may be off by one.

    Comparing the guess with the edges next to it is fused into one pass by XLA. PyTorch is faster with a search.
    """
    if BACKEND == "torch":
        return ops.searchsorted(edges[1:], values, side="right")
    index = guess()
    above = ops.cast(values >= ops.take(edges, index + 1), "int32")
    below = ops.cast(values < ops.take(edges, index), "int32")
    return index + above - below


def not_compiled(function):
    """`function` as it is, run eagerly even in a step that PyTorch compiles, which takes it long and gains nothing."""
    return sys.modules["torch"].compiler.disable(function) if BACKEND == "torch" else function


def sum_over_replicas(tensors):
    """The tensors added up over the replicas of a `tf.distribute` step; elsewhere Keras has added them up already."""
    if BACKEND != "tensorflow":
        return tensors
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def call_train_function(function, optimizer, *args):
    """Calls a train function made with `optimizer`, whose `own_variables` the caller, `fit`, does not know of.

    Under JAX the state of the optimizer is among the arguments and the results: the own variables go in and out here.
    """
    if BACKEND != "jax":
        return function(*args)
    own = optimizer.own_variables
    (*others, known, metrics), iterator = args
    logs, (*others, known, metrics) = function((*others, [*known, *(v.value for v in own)], metrics), iterator)
    for variable, value in zip(own, known[-len(own) :], strict=True):
        variable.assign(value)
    return logs, (*others, known[: -len(own)], metrics)


def admit_optimizer_variables(model, variables):
    """Lets variables behind those of the optimizer pass through a train step that pins the layout of its state.

    Keras 3.10 and 3.11 under JAX do so, by a list that is made at the start of `fit`; later ones need nothing.
    """
    layouts = getattr(model, "_optimizer_variable_shardings", None)
    if layouts:
        known = layouts[: len(model.optimizer.variables)]
        model._optimizer_variable_shardings = [*known, *(v.value.sharding for v in variables)]
