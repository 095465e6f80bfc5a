"""Pure functions compiled as one program, and when that is worth it."""

import functools
import math
import sys

import numpy as np

from keras_reg._backend._place import Framework

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
