"""Which backend Keras runs on, and what PyTorch's compiler is doing."""

import sys

import keras

BACKEND = keras.backend.backend()


def is_compiling():
    """Whether torch.compile traces the code that runs now, for which code that reads values is in the way."""
    return BACKEND == "torch" and sys.modules["torch"].compiler.is_compiling()


def not_compiled(function):
    """A decorator: `function` runs eagerly, even in a step that PyTorch compiles. Other backends ignore it.

    It is for what cannot be traced, such as a random generator, or would be compiled again for each new number, such as
    a key; and for what takes the compiler long and gains nothing.
    """
    return sys.modules["torch"].compiler.disable(function) if BACKEND == "torch" else function


def is_foreign(x, module, name="Tensor"):
    """Whether `x` is a tensor of a framework that is loaded but is not Keras' backend."""
    return module != BACKEND and module in sys.modules and isinstance(x, getattr(sys.modules[module], name))
