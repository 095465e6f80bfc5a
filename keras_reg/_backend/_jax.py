"""The places of JAX's arrays: eager, and inside a compiled program."""

import functools
import math
import sys

import numpy as np
from keras import ops

from keras_reg._backend._jax_switch import in_groups, one_by_one
from keras_reg._backend._place import Place, behind_conditional, of_one

PART = 2**20  # the numbers of N(0, 1) that are drawn at a time on a CPU
GROUP = 16  # the images for which an accelerator computes a costly operation at a time
LARGE = 2**16  # the numbers in an image from which this pays
GENERATOR = "threefry2x32"  # its keys have two words, as Keras' seeds do; `jax_default_prng_impl` may be another one


class JaxPlace(Place):
    """JAX's arrays, eager or traced by a larger program."""

    name = "jax"
    is_native = True
    fuses = True

    def key(self, source, index=None):
        """Folds an index into the key, 32 bits at a time. A traced index has only 32 bits."""
        import jax

        if index is None:
            return jax.random.wrap_key_data(source.next_seed(), impl=GENERATOR)
        key = jax.random.key(source.entropy, impl=GENERATOR)
        if not isinstance(index, int):
            return jax.random.fold_in(key, ops.cast(index, "uint32"))
        words = [index >> start & 0xFFFFFFFF for start in range(0, max(index.bit_length(), 1), 32)]
        return functools.reduce(jax.random.fold_in, np.asarray(words, "uint32"), key)

    def fold(self, key, word):
        import jax

        return jax.random.fold_in(key, word)

    def uniform(self, key, shape):
        import jax

        return jax.random.uniform(key, shape, "float32")

    def normal(self, key, shape):
        """Draws the numbers in one row: XLA is slow along a few channels. Many are drawn in parts that fit the cache.

        For a given key, they are those of `jax.random.normal` if there are few.
        """
        import jax

        if not all(isinstance(size, int) for size in shape):  # Keras infers shapes with symbols for sizes
            return jax.random.normal(key, shape, "float32")
        parts = _parts_of(shape) if jax.default_backend() == "cpu" else 1
        if parts == 1:
            return jax.random.normal(key, (math.prod(shape),), "float32").reshape(shape)
        return _normal_in_parts(math.prod(shape) // parts)(jax.random.split(key, parts)).reshape(shape)

    def compiled_draws(self, source):
        return int(ops.convert_to_numpy(source.generator.state)[1])

    def set_compiled_draws(self, source, draws):
        state = source.generator.state
        state.assign(ops.convert_to_tensor([source.entropy, draws], state.dtype))

    def compiles(self, array, draws_pixels=False):
        import jax

        return not isinstance(array, jax.core.Tracer) and array.size >= self.worth_compiling

    def compiled(self, function):
        import jax

        return jax.jit(functools.partial(function, JaxProgram()))

    def computed_once(self, *arrays):
        import jax

        if not any(isinstance(array, jax.core.Tracer) for array in arrays):
            return arrays
        if jax.default_backend() != "cpu":
            return jax.lax.optimization_barrier(arrays)
        return behind_conditional(arrays, jax.numpy.count_nonzero, jax.numpy.flip, jax.lax.cond)

    def dtype_of_arithmetic(self, dtype):
        slow = dtype == "bfloat16" and sys.modules["jax"].default_backend() == "cpu"
        return "float32" if slow else dtype

    def either(self, condition, true, false, array):
        import jax

        if isinstance(condition, jax.core.Tracer):
            return jax.lax.cond(condition, true, false, array)
        return (true if condition else false)(array)

    def switch(self, routes, branches, images, costly=()):
        """In a compiled program, images skip branches: on a CPU all but their own, and elsewhere the costly ones."""
        import jax

        which, *parameters = routes
        is_compiling = isinstance(which, jax.core.Tracer) and 0 not in images.shape
        if is_compiling and jax.default_backend() == "cpu":
            return one_by_one(which, branches, images, *parameters)
        if not is_compiling or len(images) < 2 * GROUP or math.prod(images.shape[1:]) < LARGE:
            return super().switch(routes, branches, images)
        usual = [number for number in range(len(branches)) if number not in costly]
        for step in range(which.shape[1]):
            own, given = which[:, step], [array[:, step] for array in parameters]
            images = self.chosen(own, {number: branches[number] for number in usual}, images, *given)
            for number in costly:
                images = in_groups(own == number, branches[number], GROUP, images, *given)
        return images

    def in_parts(self, function, images, *parameters):
        """In a compiled program on a CPU, the function is called for one image after another."""
        import jax

        if not isinstance(images, jax.core.Tracer) or 0 in images.shape or jax.default_backend() != "cpu":
            return function(images, *parameters)
        return jax.lax.map(lambda given: of_one(function, given), (images, *parameters))

    def held_dtype(self, dtype):
        return np.dtype(sys.modules["jax"].dtypes.canonicalize_dtype(dtype))


class JaxProgram(JaxPlace):
    """JAX's arrays inside a program that `Programs` compiles."""

    def compiles(self, array, draws_pixels=False):
        return False


@functools.cache
def _normal_in_parts(size):
    """Returns a function that draws `size` numbers from N(0, 1) for each of several keys. It is compiled once."""
    import jax

    return jax.jit(lambda keys: jax.lax.map(lambda key: jax.random.normal(key, (size,), "float32"), keys))


def _parts_of(shape):
    """Returns into how many equal parts to cut numbers of this shape, a divisor of its first size."""
    count, size = shape[0] if shape else 1, math.prod(shape)
    least = math.ceil(size / PART)
    return next((parts for parts in range(max(least, 1), min(4 * least, count) + 1) if count % parts == 0), 1)
