"""The place where a batch lives: its operations, and the way to and from the host."""

import functools
import sys

import numpy as np
from keras import ops

from keras_reg._backend._current import BACKEND, _is_foreign, is_compiling
from keras_reg._backend._numpy import _numpy_ops
from keras_reg._backend._tensorflow import _in_graph, _tensorflow_ops
from keras_reg._backend._torch import _in_reach, _numpy_to_torch, _torch_blend, _torch_copy, _torch_to_numpy
from keras_reg._backend._workers import _in_worker


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
    if is_compiling():
        return NATIVE
    if any(_is_foreign(array, "tensorflow", "Tensor") for array in arrays):
        return Framework("tensorflow", _tensorflow_ops())
    if any(_is_foreign(array, "torch", "Tensor") for array in arrays):
        return Framework("numpy", _numpy_ops(), restore=sys.modules["torch"].from_numpy)
    if _in_worker() and not _in_graph() and all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
        return Framework("numpy", _numpy_ops())
    return NATIVE
