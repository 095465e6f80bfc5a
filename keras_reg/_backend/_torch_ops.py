"""The operations of `keras.ops` on PyTorch's tensors, without waiting for the device.

Keras copies each Python number to the device. This copy waits until a GPU has finished all earlier work, and it takes
longer than most operations on a few numbers per image. PyTorch's own functions accept plain numbers. They also skip
Keras' checks and conversions of each argument, which take longer than PyTorch needs to start an operation. The
functions here handle the arguments for which PyTorch returns the same values and dtypes as Keras. Keras handles all
others.
"""

import sys

import keras
import numpy as np
from keras import ops

_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
_OF_FLOATS = ("abs", "cos", "exp", "floor", "log", "round", "sign", "sin", "sqrt", "square")
_ALONG_AXES = {"max": "amax", "min": "amin", "mean": "mean", "sum": "sum"}  # and their names in PyTorch


class TorchOperations:
    """The operations of `keras.ops`. Those that are defined here do not copy plain numbers to the device."""

    def __init__(self):
        for name in _OF_FLOATS:
            setattr(self, name, _of_floats(name))
        for name in _ALONG_AXES:
            setattr(self, name, _along_axes(name))

    def __getattr__(self, name):
        return getattr(ops, name)

    def cast(self, x, dtype):
        torch = sys.modules["torch"]
        if dtype in _DTYPES and isinstance(x, torch.Tensor):
            wanted = getattr(torch, dtype)
            return x if x.dtype is wanted else x.to(wanted)
        if dtype in _DTYPES and type(x) in (bool, int, float):
            return torch.full((), x, dtype=getattr(torch, dtype), device=device())
        return ops.cast(x, dtype)

    def convert_to_tensor(self, x, dtype=None, **kwargs):
        if isinstance(x, (np.ndarray, list, tuple)) and device().type == "cuda":
            x = copied_without_waiting(np.asarray(x, dtype=None if isinstance(x, np.ndarray) else _dtype_of(x)))
        return ops.convert_to_tensor(x, dtype, **kwargs)

    def matmul(self, x1, x2):
        """Multiplies in the dtype of the arguments, also under `torch.autocast`."""
        if x1.device.type == "meta":  # Keras infers shapes on this device
            return ops.matmul(x1, x2)
        with sys.modules["torch"].autocast(x1.device.type, enabled=False):
            return ops.matmul(x1, x2)

    def maximum(self, x1, x2):
        return _bounded("maximum", "min", max, x1, x2)

    def minimum(self, x1, x2):
        return _bounded("minimum", "max", min, x1, x2)

    def mod(self, x1, x2):
        return (sys.modules["torch"].remainder if _takes(x1, x2) else ops.mod)(x1, x2)

    def clip(self, x, x_min, x_max):
        if _takes(x, x_min) and _takes(x, x_max):
            return sys.modules["torch"].clamp(x, x_min, x_max)
        if all(_takes(x, bound) or _are_alike(x, bound) for bound in (x_min, x_max)):
            return self.minimum(self.maximum(x, x_min), x_max)
        return ops.clip(x, x_min, x_max)

    def where(self, condition, x1=None, x2=None):
        torch = sys.modules["torch"]
        if not isinstance(condition, torch.Tensor) or condition.dtype is not torch.bool:
            return ops.where(condition, x1, x2)
        if type(x1) is type(x2) is float:
            x1 = self.cast(x1, keras.config.floatx())
        if _are_alike(x1, x2) or _takes(x1, x2) or _takes(x2, x1):
            return torch.where(condition, x1, x2)
        return ops.where(condition, x1, x2)

    def segment_sum(self, data, segment_ids, num_segments=None, **kwargs):
        """Returns the sum of each segment. Ids out of range belong to no segment."""
        torch = sys.modules["torch"]
        if num_segments is None or not all(isinstance(x, torch.Tensor) and x.ndim == 1 for x in (data, segment_ids)):
            return ops.segment_sum(data, segment_ids, num_segments, **kwargs)
        ids = torch.where((segment_ids >= 0) & (segment_ids < num_segments), segment_ids, num_segments)
        found = torch.zeros(num_segments + 1, dtype=data.dtype, device=data.device)
        return found.index_add_(0, ids, data)[:num_segments]

    # Shapes and positions.

    def shape(self, x):
        return tuple(x.shape) if isinstance(x, sys.modules["torch"].Tensor) else ops.shape(x)

    def reshape(self, x, newshape):
        is_plain = isinstance(x, sys.modules["torch"].Tensor) and isinstance(newshape, (list, tuple))
        return x.reshape(newshape) if is_plain else ops.reshape(x, newshape)

    def expand_dims(self, x, axis):
        is_plain = isinstance(x, sys.modules["torch"].Tensor) and type(axis) is int
        return x.unsqueeze(axis) if is_plain else ops.expand_dims(x, axis)

    def pad(self, x, pad_width, mode="constant", constant_values=None):
        torch = sys.modules["torch"]
        if not isinstance(x, torch.Tensor) or mode != "constant":
            return ops.pad(x, pad_width, mode, constant_values)
        widths = [width for pair in reversed(pad_width) for width in pair]
        return torch.nn.functional.pad(x, widths, value=0 if constant_values is None else constant_values)

    def transpose(self, x, axes=None):
        is_plain = isinstance(x, sys.modules["torch"].Tensor) and axes is not None
        return x.permute(axes) if is_plain else ops.transpose(x, axes)

    def flip(self, x, axis=None):
        is_plain = isinstance(x, sys.modules["torch"].Tensor) and type(axis) is int
        return x.flip(axis) if is_plain else ops.flip(x, axis)

    def concatenate(self, xs, axis=0):
        is_plain = all(_are_alike(x, xs[0]) for x in xs)
        return sys.modules["torch"].cat(tuple(xs), axis) if is_plain else ops.concatenate(xs, axis)

    def take(self, x, indices, axis=None):
        """Returns the entries at these indices. Negative ones are counted from the end."""
        torch = sys.modules["torch"]
        if type(axis) is not int or not all(isinstance(array, torch.Tensor) for array in (x, indices)):
            return ops.take(x, indices, axis)
        return entries(x, torch.where(indices < 0, indices + x.shape[axis], indices), axis)


def entries(x, indices, axis=0):
    """Returns the entries of a tensor at these indices, none of which is negative."""
    axis = axis % x.ndim
    indices = indices if indices.dtype in (sys.modules["torch"].int32, sys.modules["torch"].int64) else indices.long()
    found = x.index_select(axis, indices.reshape(-1))
    return found if indices.ndim == 1 else found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def frequencies(numbers, count):
    """Returns how often each integer below `count` is among these `numbers`, all of which are in range."""
    found = sys.modules["torch"].zeros(count, dtype=numbers.dtype, device=numbers.device)
    return found.index_add_(0, numbers, found.new_ones(1).expand(len(numbers)))


def _of_floats(name):
    """Returns a function that PyTorch and Keras define alike for one tensor of floats."""

    def function(x, *args, **kwargs):
        torch = sys.modules["torch"]
        is_alike = isinstance(x, torch.Tensor) and x.is_floating_point() and not (args or kwargs)
        return getattr(torch if is_alike else ops, name)(x, *args, **kwargs)

    return function


def _along_axes(name):
    """Returns a function that reduces along axes. PyTorch and Keras define it alike for a tensor that is not empty.

    Keras computes means in float32, and sums of integers in other dtypes.
    """

    def function(x, axis=None, keepdims=False, **kwargs):
        torch = sys.modules["torch"]
        is_alike = isinstance(x, torch.Tensor) and axis not in (None, (), []) and not kwargs and 0 not in x.shape
        if is_alike and (name in ("max", "min") or x.dtype is torch.float32):
            return getattr(torch, _ALONG_AXES[name])(x, axis, keepdims)
        return getattr(ops, name)(x, axis=axis, keepdims=keepdims, **kwargs)

    return function


def _bounded(name, bound, of_numbers, x1, x2):
    torch = sys.modules["torch"]
    if _are_alike(x1, x2):
        return getattr(torch, name)(x1, x2)
    if _takes(x1, x2):
        return torch.clamp(x1, **{bound: x2})
    if _takes(x2, x1):
        return torch.clamp(x2, **{bound: x1})
    if type(x1) is type(x2) is int:
        return torch.full((), of_numbers(x1, x2), dtype=torch.int32, device=device())
    return getattr(ops, name)(x1, x2)


def _are_alike(x1, x2):
    tensor = sys.modules["torch"].Tensor
    return isinstance(x1, tensor) and isinstance(x2, tensor) and x1.dtype == x2.dtype


def _takes(x, number):
    """Whether `x` is a tensor whose dtype can hold this number and is the dtype that Keras gives to the result."""
    torch = sys.modules["torch"]
    if not isinstance(x, torch.Tensor):
        return False
    if x.is_floating_point():
        return type(number) in (int, float)
    if x.dtype is torch.bool:
        return type(number) is bool
    bits = 8 * x.dtype.itemsize
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if x.dtype.is_signed else (0, 2**bits - 1)
    return type(number) is int and least <= number <= most


def copied_without_waiting(array):
    """Copies an array to Keras' device. Only a copy from pinned memory does not wait for a GPU."""
    tensor, target = sys.modules["torch"].from_numpy(np.ascontiguousarray(array)), device()
    return tensor.pin_memory().to(target, non_blocking=True) if target.type == "cuda" else tensor.to(target)


def _dtype_of(numbers):
    """Returns the dtype that Keras gives to a list of numbers."""
    return {"f": keras.config.floatx(), "i": "int32"}.get(np.asarray(numbers).dtype.kind)


def device():
    """Returns Keras' current device."""
    return ops.empty((0,)).device
