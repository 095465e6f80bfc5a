"""The backend that Keras runs on, and the state of PyTorch's compiler."""

import contextlib
import sys

import keras

BACKEND = keras.backend.backend()


def is_compiling():
    """Whether `torch.compile` is tracing the running code. Traced code should not read values of tensors."""
    return BACKEND == "torch" and sys.modules["torch"].compiler.is_compiling()


def outside_of_graphs():
    """Returns a context in which tensors are made that outlive the function that is being traced.

    A layer that is built in a traced step must not keep tensors of its graph.
    """
    if BACKEND == "tensorflow":
        return sys.modules["tensorflow"].init_scope()
    return sys.modules["jax"].ensure_compile_time_eval() if BACKEND == "jax" else contextlib.nullcontext()


def makes_no_values():
    """Whether Keras infers shapes on PyTorch's device "meta". A layer that is built there would keep empty tensors."""
    return BACKEND == "torch" and keras.ops.zeros(()).device.type == "meta"


def not_compiled(function):
    """Decorates a function that always runs eagerly, even in a step that PyTorch compiles.

    Use it for code that cannot be traced, such as a random generator; for code that would be recompiled for each new
    number, such as a key; and for code that is slow to compile and gains nothing from it. It has no effect on other
    backends.
    """
    return sys.modules["torch"].compiler.disable(function) if BACKEND == "torch" else function


def is_foreign(x, module, name="Tensor"):
    """Whether `x` is a tensor of the framework `module`, which is loaded but is not Keras' backend."""
    return module != BACKEND and module in sys.modules and isinstance(x, getattr(sys.modules[module], name))
