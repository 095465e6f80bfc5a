"""The interface of a place where a batch can live. Each place is one class, in the file of its framework:

Place              Arrays                        Where
-----------------  ----------------------------  ----------------------------------------------
JaxPlace           JAX's                         under JAX
JaxProgram         JAX's                         inside a program that JAX compiles
TensorFlowPlace    TensorFlow's                  under TensorFlow, also in a tf.data graph
TensorFlowGraph    TensorFlow's                  in a tf.data graph under JAX or PyTorch
TensorFlowProgram  TensorFlow's                  inside a program that XLA compiles
TorchPlace         PyTorch's                     under PyTorch, also while torch.compile traces
TorchHost          NumPy's, on PyTorch's memory  under PyTorch on a CPU, within one call
NumpyPlace         NumPy's                       in data-loading workers
ForeignTorch       NumPy's, on PyTorch's memory  PyTorch's tensors under JAX or TensorFlow
"""

import numpy as np
from keras import ops

USUAL_BATCH = 256  # what a batch whose size is not known yet is taken for


class Place:
    """Where one batch lives. Pure functions are written against it and do not know which framework it is.

    Attributes:
        name: "jax", "tensorflow", "torch" or "numpy".
        ops: `keras.ops`, or the same names over arrays that Keras' backend cannot hold.
        is_native: Whether Keras' backend holds the arrays.
        is_host: Whether arrays are NumPy's, so that a slice of one costs nothing.
        fuses: Whether a compiler makes one loop of several passes over the pixels.
    """

    name = None
    ops = ops
    is_native = False
    is_host = False
    fuses = False
    worth_compiling = 2**16  # numbers in a batch from which on one fused pass wins back what calling it costs

    # To and from this place.

    def tensor(self, array):
        """An array that a caller gave, as a tensor of this place."""
        return self.ops.convert_to_tensor(array)

    def returned(self, tensor):
        """A tensor of this place as the caller gets it back."""
        return tensor

    def from_keras(self, tensor):
        """What a layer of Keras returned, as a tensor of this place."""
        return tensor

    def read(self, variable):
        """The present value of a variable of Keras, a scalar."""
        return variable.value

    def is_in_reach(self, tensors):
        """Whether NumPy can stand in for the framework of these tensors, on their memory, and is faster."""
        return False

    def on_host(self, tensors):
        """NumPy's arrays on the memory of these tensors, which are in reach, and the place that handles them."""
        raise NotImplementedError

    # Random numbers. A key is whatever the framework draws from.

    def key(self, source, index=None):
        """A key of a `RandomSource` for one call, or the one that belongs to `index`."""
        raise NotImplementedError

    def fold(self, key, word):
        """A new key from a key and a small integer."""
        raise NotImplementedError

    def uniform(self, key, shape):
        """Float32 numbers in [0, 1)."""
        raise NotImplementedError

    def normal(self, key, shape):
        """Float32 numbers from N(0, 1)."""
        raise NotImplementedError

    def prepare(self, source):
        """Makes the state that compiled code draws from, where it is not Keras' seed generator."""

    def compiled_draws(self, source):
        """How many keys compiled code has drawn from `source`."""
        return 0

    def set_compiled_draws(self, source, draws):
        """Lets compiled code continue after so many keys, and with the present entropy of `source`."""

    # Compiled programs.

    def compiles(self, array, draws_pixels=False):
        """Whether to run a pure function of this array as one program: not where it is part of a larger one already.

        `draws_pixels` is whether the function draws a random number for each pixel.
        """
        return False

    def compiled(self, function):
        """function(place, *arguments) as a program of the arguments."""
        raise NotImplementedError

    def computed_once(self, *arrays):
        """The same arrays, computed before whatever reads them and not within it.

        XLA computes again for each reader what it can fuse: the logarithms and roots behind a box for each pixel, and
        the pixels for the forward and the backward pass of a convolution.
        """
        return arrays

    def dtype_of_arithmetic(self, dtype):
        """The dtype to compute with pixels in: on a CPU, XLA makes a slow loop of several operations in bfloat16."""
        return dtype

    # What Keras' backend makes of NumPy's arrays.

    def held_dtype(self, dtype):
        """The NumPy dtype of what the backend makes of a NumPy array of this dtype."""
        return np.dtype(dtype)

    def laid_out(self, array):
        """A NumPy array in a layout whose memory the backend can share."""
        return array


def behind_conditional(arrays, count_nonzero, reverse, cond):
    """The arrays behind a branch that is always taken, which a compiler does not know: no count is negative.

    On a CPU, XLA drops optimization barriers before it fuses, but it fuses nothing through a conditional.
    """
    first = arrays[0][(slice(1),) * len(arrays[0].shape)]
    return cond(count_nonzero(first) >= 0, lambda *same: same, lambda *never: tuple(map(reverse, never)), *arrays)
