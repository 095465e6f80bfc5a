"""What can be asked of a tensor, whichever framework it is of."""

import sys

import numpy as np
from keras import ops

from keras_reg._backend._current import BACKEND, is_compiling, is_foreign
from keras_reg._backend._torch import to_numpy


def is_tensor(x):
    """Whether `x` is a tensor of Keras' backend, or one of another framework that a batch can live in."""
    return ops.is_tensor(x) or is_foreign(x, "tensorflow") or is_foreign(x, "torch")


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


def from_foreign(x):
    """A tensor of a framework that is not the backend as a NumPy array, where its values can be read; else `x`."""
    if is_foreign(x, "torch"):
        return to_numpy(x.detach().cpu())
    if is_foreign(x, "tensorflow") and hasattr(x, "numpy"):
        return x.numpy()
    return x


def is_concrete(x):
    """Whether the values of `x` can be read here and now at no great cost: not while tracing, not from a GPU."""
    if isinstance(x, (np.ndarray, np.generic, int, float)):
        return True
    if BACKEND == "torch" and isinstance(x, sys.modules["torch"].Tensor):
        return x.device.type == "cpu" and not is_compiling() and _has_values(x)
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
    return float(ops.convert_to_numpy(ops.min(x)))


def _has_values(x):
    """Whether a tensor of PyTorch can be read: not inside a transform, such as `torch.func.grad`, which wraps it."""
    try:
        x.detach().data_ptr()
    except RuntimeError:
        return False
    return True


def number_of(x):
    """A scalar as a float, or `None` while tracing, and on a GPU under PyTorch, where each step would wait for it."""
    if BACKEND == "torch" and not is_concrete(x):
        return None
    if BACKEND == "jax" and isinstance(x, sys.modules["jax"].core.Tracer):
        return None
    if BACKEND == "tensorflow" and isinstance(x, sys.modules["tensorflow"].Tensor) and not hasattr(x, "numpy"):
        return None
    return float(ops.convert_to_numpy(x))
