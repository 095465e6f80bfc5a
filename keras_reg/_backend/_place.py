"""The interface of a place where a batch can live. Each place is a class in the file of its framework:

Place              Arrays                        Where
-----------------  ----------------------------  ----------------------------------------------
JaxPlace           JAX's                         under JAX
JaxProgram         JAX's                         inside a program that JAX compiles
TensorFlowPlace    TensorFlow's                  under TensorFlow, also in a tf.data graph
TensorFlowGraph    TensorFlow's                  in a tf.data graph under JAX or PyTorch
TensorFlowProgram  TensorFlow's                  inside a program that XLA compiles
TorchPlace         PyTorch's                     under PyTorch, also while torch.compile traces
TorchParameters    NumPy's                       a few numbers per image, for a TorchPlace
TorchHost          NumPy's, in PyTorch's memory  under PyTorch on a CPU, within one call
NumpyPlace         NumPy's                       in data-loading workers
ForeignTorch       NumPy's, in PyTorch's memory  PyTorch's tensors under JAX or TensorFlow
"""

import keras
import numpy as np
from keras import ops

USUAL_BATCH = 256  # the assumed size of a batch whose size is not known yet


class Place:
    """The place where one batch lives. Pure functions use this interface and do not depend on a framework.

    Attributes:
        name: "jax", "tensorflow", "torch" or "numpy".
        ops: `keras.ops`, or an object with the same operations for the arrays of this place.
        is_native: Whether Keras' backend holds the arrays.
        is_host: Whether the arrays are NumPy arrays, so that slicing costs nothing.
        fuses: Whether a compiler fuses several passes over the pixels into one loop.
        may_overwrite: Whether an operation of Keras can write into its arguments.
        starts_slowly: Whether starting an operation on images takes longer than most operations, so that fewer are
            faster.
        casts_once: Whether a call casts all pixels to `dtype_of_arithmetic`, once. Otherwise, only those are cast that
            are computed.
    """

    name = None
    ops = ops
    is_native = False
    is_host = False
    fuses = False
    may_overwrite = False
    starts_slowly = False
    casts_once = True
    worth_compiling = 2**16  # the number of elements from which a fused pass saves more than the call costs

    # Conversion to and from this place.

    def tensor(self, array):
        """Converts an array from the caller to a tensor of this place."""
        return self.ops.convert_to_tensor(array)

    def returned(self, tensor):
        """Converts a tensor of this place to the form in which the caller gets it back."""
        return tensor

    def from_keras(self, tensor):
        """Converts the output of a Keras layer to a tensor of this place."""
        return tensor

    def read(self, variable):
        """Returns the current value of a scalar Keras variable."""
        return variable.value

    def check_equal(self, sizes, expected, message):
        """Raises an error for a batch whose sizes differ, if they were not known before. Only TensorFlow's are not."""

    def is_in_reach(self, tensors):
        """Whether NumPy can work in the memory of these tensors and is faster than their framework."""
        return False

    def on_host(self, tensors):
        """Returns NumPy arrays that share the memory of these tensors, and the place that handles the arrays.

        `is_in_reach` must hold for the tensors.
        """
        raise NotImplementedError

    # Parameters: a few numbers per image, which some places compute apart from the images.

    def numbers(self, key, shape):
        """Draws float32 numbers in [0, 1) in the place that computes the parameters from them."""
        return self.uniform(key, shape)

    def computes_apart(self, numbers):
        """Whether NumPy computes the parameters from these numbers. If so, `sent` copies them to this place."""
        return False

    def of_parameters(self):
        """Returns the place where NumPy computes the parameters. Only needed if `computes_apart` may be true."""
        raise NotImplementedError

    def sent(self, structure):
        """Returns a nest of parameters. If NumPy has computed them, its arrays become tensors of this place."""
        return structure

    # Operations that a place may run faster than `ops`.

    def entries(self, array, indices, axis=0):
        """Returns the entries of an array at these indices of an axis, none of which is negative."""
        return self.ops.take(array, indices, axis=axis)

    def frequencies(self, numbers, count):
        """Returns how often each integer below `count` is among these `numbers`, int32 of shape (n,), all of them."""
        return self.ops.segment_sum(self.ops.ones_like(numbers), numbers, num_segments=count)

    # Random numbers. The type of a key depends on the framework.

    def key(self, source, index=None):
        """Returns a key of a `RandomSource`: a new one for each call, or the one that belongs to `index`."""
        raise NotImplementedError

    def fold(self, key, word):
        """Derives a new key from a key and a small integer."""
        raise NotImplementedError

    def uniform(self, key, shape):
        """Draws float32 numbers in [0, 1)."""
        raise NotImplementedError

    def normal(self, key, shape):
        """Draws float32 numbers from N(0, 1)."""
        raise NotImplementedError

    def draw_pixels(self, key, shape):
        """Draws a float32 number for each pixel, which `normal_pixels` maps to N(0, 1), if possible inside a program.

        XLA draws slowly in TensorFlow, but is faster than TensorFlow at everything else.
        """
        return self.normal(key, shape)

    def normal_pixels(self, drawn):
        """Returns numbers from N(0, 1) for numbers from `draw_pixels`."""
        return drawn

    def prepare(self, source):
        """Creates the state that compiled code draws from, unless this is Keras' seed generator."""

    def compiled_draws(self, source):
        """Returns the number of keys that compiled code has drawn from `source`."""
        return 0

    def set_compiled_draws(self, source, draws):
        """Lets compiled code continue after `draws` keys, with the current entropy of `source`."""

    def either(self, condition, true, false, array):
        """Returns `true(array)` if a scalar condition holds, and otherwise `false(array)`.

        Here, both are computed: whoever asks for the value of a condition waits for the device, or leaves a graph.
        """
        return self.ops.where(condition, true(array), false(array))

    # Work that differs between the images of a batch.

    def routes(self, which, *parameters):
        """Returns what `switch` needs to know of each image. It is called where parameters are computed.

        Args:
            which: The index of the branch for each image and step, int32 (batch, steps). -1 leaves an image as it is.
            *parameters: Further float32 arrays (batch, steps), for all branches.
        """
        return which, *parameters

    def switch(self, routes, branches, images, costly=()):
        """Applies a sequence of functions to each image. Each step applies one of several functions.

        Here, all functions are computed for all images. Places where work can be skipped override this method.

        Args:
            routes: The result of `routes`.
            branches: Functions of images and parameters, arrays (n, ...), that process each image by itself and return
                images of the same shape and dtype.
            images: The images, (batch, ...).
            costly: The indices of the branches that take longer than most.
        """
        which, *parameters = routes
        for step in range(which.shape[1]):
            given = [array[:, step] for array in parameters]
            images = self.chosen(which[:, step], dict(enumerate(branches)), images, *given)
        return images

    def in_parts(self, function, images, *parameters):
        """Returns `function(images, *parameters)`, whose result has the shape and dtype of the images.

        Here, it is called once. Places may call it for a few images at a time, so that what it computes on the way
        takes little memory.

        Args:
            function: A function that processes each image by itself.
            images: The images, (batch, ...).
            *parameters: Nests of arrays (batch, ...).
        """
        return function(images, *parameters)

    def chosen(self, which, branches, images, *parameters):
        """Applies to each image the branch of its number, if there is one. The branches are computed for all images.

        Args:
            which: The number of the branch of each image, int32 (batch,).
            branches: Functions of images and parameters, by their numbers.
            images: The images, (batch, ...).
            *parameters: Further arrays (batch,), for all branches.
        """
        found, shape = images, [-1] + [1] * (len(images.shape) - 1)
        for number, branch in branches.items():
            chosen = self.ops.reshape(which == number, shape)
            found = self.ops.where(chosen, branch(images, *parameters), found)
        return found

    # Compiled programs.

    def compiles(self, array, draws_pixels=False):
        """Whether to compile a pure function of this array. Code inside a larger program is not compiled again.

        `draws_pixels` tells whether the function draws a random number for each pixel.
        """
        return False

    def compiled(self, function):
        """Returns a compiled program of `arguments` that calls function(place, *arguments)."""
        raise NotImplementedError

    def computed_once(self, *arrays):
        """Returns the same arrays, computed once, before the operations that read them.

        XLA repeats what it can fuse for each reader: the logarithms and roots behind a box for each pixel, and the
        pixels for both the forward and the backward pass of a convolution.
        """
        return arrays

    def dtype_of_arithmetic(self, dtype):
        """Returns the dtype for computing with pixels.

        On a CPU, XLA compiles bfloat16 operations to a slow loop. NumPy and PyTorch are slow with float16, too.
        """
        return dtype

    # Conversion of NumPy arrays by Keras' backend.

    def held_dtype(self, dtype):
        """Returns the dtype, as a NumPy dtype, to which the backend converts a NumPy array of this dtype."""
        return np.dtype(dtype)

    def laid_out(self, array):
        """Returns a NumPy array in a memory layout that the backend can share."""
        return array


def at_least_four_bytes(dtype):
    """Returns float32 for a dtype of shorter floats, or the dtype itself."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def of_one(function, given):
    """Returns `function` of a nest of arrays of one sample."""
    return function(*keras.tree.map_structure(lambda array: array[None], given))[0]


def for_one(branches):
    """Returns functions of the arrays of one sample. The first one returns the first array as it is."""

    def function(branch):
        return lambda *arrays: branch(*(array[None] for array in arrays))[0]

    return [lambda first, *others: first, *map(function, branches)]


def behind_conditional(arrays, count_nonzero, reverse, cond):
    """Passes the arrays through a branch that is always taken. The compiler does not know that no count is negative.

    On a CPU, XLA drops optimization barriers before fusion, but it does not fuse across a conditional.
    """
    first = arrays[0][(slice(1),) * len(arrays[0].shape)]
    return cond(count_nonzero(first) >= 0, lambda *same: same, lambda *never: tuple(map(reverse, never)), *arrays)
