"""PyTorch's tensors as NumPy's arrays on the same memory, and back."""

import sys

import numpy as np

from keras_reg._backend._current import is_compiling


def _in_reach(tensor):
    torch = sys.modules["torch"]
    if is_compiling() or type(tensor) is not torch.Tensor or tensor.device.type != "cpu":
        return False
    return tensor.layout is torch.strided and not (tensor.requires_grad and torch.is_grad_enabled())


def _torch_to_numpy(tensor):
    torch = sys.modules["torch"]
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(np.dtype("bfloat16"))
    return tensor.detach().numpy()


def _numpy_to_torch(array):
    torch = sys.modules["torch"]
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _torch_copy(array):
    copy = np.empty(array.shape, array.dtype)  # of NumPy, which asks for huge pages
    _numpy_to_torch(copy).copy_(_numpy_to_torch(array))
    return copy


def _torch_blend(own, other, kept, out):
    own, other, kept, out = map(_numpy_to_torch, (own, other, kept, out))
    sys.modules["torch"].lerp(other, own, kept, out=out)
