"""Which backend Keras runs on, and what PyTorch's compiler reads of what runs now."""

import sys

import keras

BACKEND = keras.backend.backend()


def not_compiled(function):
    """`function` as it is, run eagerly even in a step that PyTorch compiles, which takes it long and gains nothing."""
    return sys.modules["torch"].compiler.disable(function) if BACKEND == "torch" else function


def is_compiling():
    """Whether torch.compile reads the code that runs now, for which what looks at values is in the way."""
    return BACKEND == "torch" and sys.modules["torch"].compiler.is_compiling()


def _is_foreign(array, module, name):
    """Whether `array` is a tensor of a framework that is loaded but is not Keras' backend."""
    return module != BACKEND and module in sys.modules and isinstance(array, getattr(sys.modules[module], name))
