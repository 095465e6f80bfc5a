"""The places of TensorFlow's tensors: under TensorFlow, in a tf.data graph under another backend, in a program."""

import functools
import math
import sys

import keras
import numpy as np

from keras_reg._backend._philox import PhiloxState
from keras_reg._backend._place import USUAL_BATCH, Place, behind_conditional, for_one, of_one
from keras_reg._backend._recomputing import is_called_by, refuse_recomputing
from keras_reg._backend._tensorflow_ops import tensorflow_ops

GENERATOR = "philox"  # TensorFlow's default under XLA is 25 times slower on a CPU
_MULTIPLIER = 6364136223846793005  # Knuth's, for 64 bits; it makes the order of folded words matter
_CAN_COMPILE = sys.platform != "darwin"  # on macOS, TensorFlow supports XLA only for some devices


class TensorFlowPlace(Place):
    """TensorFlow's tensors, eager or in a graph."""

    name = "tensorflow"
    is_native = True

    def key(self, source, index=None):
        import tensorflow as tf

        if index is not None:
            return self._key_of(source, index if isinstance(index, int) else tf.cast(index, tf.int64))
        refuse_recomputing(is_called_by("inner_recompute_grad"))  # nothing else reveals it
        if tf.executing_eagerly():
            return tf.constant([source.entropy, source.next_call()], tf.int64)
        self.prepare(source)
        return source.philox.key()

    def _key_of(self, source, index):
        """Returns the key of an index. Indices from 2^39 on also change the entropy.

        Otherwise their keys could meet those of calls without an index.
        """
        import tensorflow as tf

        low, high = index % (1 << 39), index // (1 << 39)
        if isinstance(index, int):
            high = tf.constant(high % (1 << 62), tf.int64)
        return tf.stack([source.entropy + high * _MULTIPLIER, tf.cast(low + (1 << 40), tf.int64)])

    def fold(self, key, word):
        import tensorflow as tf

        added = [word + 1, 0] if isinstance(word, int) else [tf.cast(word, tf.int64) + 1, 0]  # the index of a loop
        return key * tf.constant([_MULTIPLIER, 1], tf.int64) + tf.convert_to_tensor(added, tf.int64)

    def check_equal(self, sizes, expected, message):
        import tensorflow as tf

        for size, other in zip(sizes, expected, strict=True):
            tf.debugging.assert_equal(size, other, message)

    def either(self, condition, true, false, array):
        import tensorflow as tf

        return tf.cond(condition, lambda: true(array), lambda: false(array))

    def uniform(self, key, shape):
        return sys.modules["tensorflow"].random.stateless_uniform(shape, key, alg=GENERATOR)

    def normal(self, key, shape):
        return sys.modules["tensorflow"].random.stateless_normal(shape, key, alg=GENERATOR)

    def draw_pixels(self, key, shape):
        return self.uniform(key, shape)

    def normal_pixels(self, drawn):
        """Maps uniform numbers to quantiles of N(0, 1). They are multiples of 2^-23, and 0 must not become infinite."""
        (drawn,) = self.computed_once(drawn)
        inner = 2.0 * drawn - (1.0 - 2.0**-23)
        return math.sqrt(2.0) * sys.modules["tensorflow"].math.erfinv(inner)

    def prepare(self, source):
        if source.philox is None:
            source.philox = PhiloxState(source.entropy)

    def compiled_draws(self, source):
        return 0 if source.philox is None else source.philox.draws()

    def set_compiled_draws(self, source, draws):
        self.prepare(source)
        source.philox.set(draws, source.entropy)

    def compiles(self, array, draws_pixels=False):
        batch, *others = array.shape
        # XLA draws random numbers on a single core.
        if draws_pixels or not _CAN_COMPILE or any(size is None for size in others):
            return False
        return (USUAL_BATCH if batch is None else batch) * math.prod(others) >= self.worth_compiling

    def compiled(self, function):
        program = functools.partial(function, TensorFlowProgram(self))
        return sys.modules["tensorflow"].function(program, jit_compile=True, autograph=False)

    def held_dtype(self, dtype):
        return np.dtype({"uint64": "int64"}.get(np.dtype(dtype).name, dtype))  # `ops.where` cuts it to 32 bits


class TensorFlowGraph(TensorFlowPlace):
    """TensorFlow's tensors in a tf.data graph under another backend."""

    is_native = False

    @property
    def ops(self):
        return tensorflow_ops()

    def read(self, variable):
        """Returns the current value for each batch, although the graph is traced only once."""
        import tensorflow as tf

        value = tf.numpy_function(lambda: np.float32(keras.ops.convert_to_numpy(variable)), [], tf.float32)
        value.set_shape(())
        return value


class TensorFlowProgram(TensorFlowPlace):
    """TensorFlow's tensors inside a program that `Programs` compiles."""

    fuses = True

    def __init__(self, outside):
        self.ops = outside.ops
        self.is_native = outside.is_native

    def compiles(self, array, draws_pixels=False):
        return False

    def computed_once(self, *arrays):
        import tensorflow as tf

        if _has_gpu():  # XLA keeps barriers on a GPU
            return tuple(_barrier(*arrays))

        def cond(condition, true, false, *arrays):
            return tf.cond(condition, lambda: true(*arrays), lambda: false(*arrays))

        return behind_conditional(arrays, tf.math.count_nonzero, lambda array: tf.reverse(array, [0]), cond)

    def switch(self, routes, branches, images, costly=()):
        """On a CPU, a program runs one image after another, and for each image only its branch."""
        import tensorflow as tf

        if _has_gpu():
            return super().switch(routes, branches, images)

        which, *parameters = routes
        functions, steps = for_one(branches), which.shape[1]

        def changed(arrays):
            image, numbers, *given = arrays

            def step(i, image):
                arguments = (image, *(array[i] for array in given))
                return i + 1, tf.switch_case(numbers[i] + 1, [functools.partial(f, *arguments) for f in functions])

            return tf.while_loop(lambda i, _: i < steps, step, (0, image), maximum_iterations=steps)[1]

        signature = tf.TensorSpec(images.shape[1:], images.dtype)
        return tf.map_fn(changed, (images, which, *parameters), fn_output_signature=signature)

    def in_parts(self, function, images, *parameters):
        """On a CPU, a program calls the function for one image after another."""
        import tensorflow as tf

        if _has_gpu():
            return function(images, *parameters)
        signature = tf.TensorSpec(images.shape[1:], images.dtype)
        return tf.map_fn(lambda given: of_one(function, given), (images, *parameters), fn_output_signature=signature)

    def dtype_of_arithmetic(self, dtype):
        return "float32" if dtype == "bfloat16" and not _has_gpu() else dtype


def is_in_graph():
    """Whether a TensorFlow graph is being traced. `tf.distribute` traces in one thread per replica."""
    return keras.backend.backend() == "tensorflow" and not sys.modules["tensorflow"].executing_eagerly()


def as_written(function):
    """Returns `function`, excluded from AutoGraph. In the first tf.data map, the conversion would take seconds.

    Keras does not convert the `call` of its layers either.
    """
    tf = sys.modules.get("tensorflow")
    if tf is None or tf.executing_eagerly():
        return function
    return tf.autograph.experimental.do_not_convert(function)


def _barrier(*arrays):
    """Returns the arrays behind a barrier of XLA, or as they are if this TensorFlow offers none.

    The converter of JAX imports the barrier from the same module. TensorFlow defines no gradient for it.
    """
    import tensorflow as tf

    try:
        from tensorflow.compiler.tf2xla.python import xla
    except ImportError:
        return arrays

    @tf.custom_gradient
    def barrier(*arrays):
        return tuple(xla.optimization_barrier(*arrays)), lambda *upstream: list(upstream)

    return barrier(*arrays)


def _has_gpu():
    return bool(sys.modules["tensorflow"].config.list_physical_devices("GPU"))
