"""Properties and values of tensors of any framework."""

import sys

import numpy as np
from keras import ops

from keras_reg._backend._current import BACKEND, is_compiling, is_foreign
from keras_reg._backend._torch_memory import to_numpy


def is_tensor(x):
    """Whether `x` is a tensor of Keras' backend or of another framework that a batch can live in."""
    return ops.is_tensor(x) or is_foreign(x, "tensorflow") or is_foreign(x, "torch")


def is_dense(x):
    """Whether an array is dense: neither sparse, nor ragged, nor nested."""
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
    """Converts a tensor of another framework to a NumPy array if its values can be read. Otherwise returns `x`."""
    if is_foreign(x, "torch"):
        return to_numpy(x.detach().cpu())
    if is_foreign(x, "tensorflow") and hasattr(x, "numpy"):
        return x.numpy()
    return x


def is_concrete(x):
    """Whether the values of `x` can be read now at low cost: not while tracing, and not from a GPU."""
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
    """Returns the minimum of `x`, or `None` if `x` is empty or cannot be read at low cost."""
    if not is_concrete(x) or 0 in x.shape:
        return None
    return float(ops.convert_to_numpy(ops.min(x)))


def _has_values(x):
    """Whether a PyTorch tensor can be read. Transforms such as `torch.func.grad` wrap tensors without values."""
    try:
        x.detach().data_ptr()
    except RuntimeError:
        return False
    return True


def number_of(x):
    """Returns a scalar as a float, or `None` while tracing.

    It also returns `None` on a GPU under PyTorch, where reading the value would make each step wait for the device.
    """
    if BACKEND == "torch" and not is_concrete(x):
        return None
    if BACKEND == "jax" and isinstance(x, sys.modules["jax"].core.Tracer):
        return None
    if BACKEND == "tensorflow" and isinstance(x, sys.modules["tensorflow"].Tensor) and not hasattr(x, "numpy"):
        return None
    return float(ops.convert_to_numpy(x))
