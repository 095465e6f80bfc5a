"""NumPy arrays and PyTorch's tensors in the same memory."""

import sys

import numpy as np


def to_numpy(tensor):
    """Returns a NumPy array that shares the memory of a tensor."""
    torch = sys.modules["torch"]
    if isinstance(tensor, np.ndarray):
        return tensor
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(np.dtype("bfloat16"))
    return tensor.detach().numpy()


def from_numpy(array):
    """Returns a tensor that shares the memory of a NumPy array."""
    torch = sys.modules["torch"]
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":  # NumPy composes each name anew, which is slow
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)
