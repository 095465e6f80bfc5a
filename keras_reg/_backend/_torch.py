"""The places of PyTorch's tensors: handled by PyTorch, or by NumPy in their memory."""

import math
import sys

import numpy as np
from keras import ops

from keras_reg._backend._current import is_compiling, not_compiled
from keras_reg._backend._numpy import NumpyPlace
from keras_reg._backend._place import Place
from keras_reg._backend._recomputing import refuse_recomputing


class TorchPlace(Place):
    """PyTorch's tensors, eager or traced by `torch.compile`. Each draw of random numbers breaks the graph."""

    name = "torch"
    is_native = True
    may_overwrite = True

    def is_in_reach(self, tensors):
        """Whether NumPy can handle the tensors. A small operation in PyTorch takes ten times as long as in NumPy."""
        return all(map(_is_in_reach, tensors))

    def on_host(self, tensors):
        arrays = list(map(to_numpy, tensors))
        return arrays, TorchHost(arrays, tensors)

    @not_compiled
    def key(self, source, index=None):
        """Returns a key that is made on the host, so that no draw waits for the device."""
        if index is not None:
            return np.random.SeedSequence([source.entropy, 1, int(index)])
        torch = sys.modules["torch"]
        refuse_recomputing(torch._C._current_graph_task_id() != -1)  # -1 outside backward passes
        ranks = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if ranks else 0
        return np.random.SeedSequence([source.entropy, 0, rank, *source.call_words()])

    @not_compiled
    def fold(self, key, word):
        return np.random.SeedSequence([*key.entropy, 2, word])

    @not_compiled
    def uniform(self, key, shape):
        return draw("rand", key, shape, ops.zeros(()).device)  # Keras' current device

    @not_compiled
    def normal(self, key, shape):
        return draw("randn", key, shape, ops.zeros(()).device)

    def held_dtype(self, dtype):
        return np.dtype({"uint16": "int32", "uint32": "int64", "uint64": "int64"}.get(np.dtype(dtype).name, dtype))

    def laid_out(self, array):
        """Returns the array in a layout that PyTorch supports: it has no negative strides."""
        return np.ascontiguousarray(array) if any(stride < 0 for stride in array.strides) else array


class TorchHost(NumpyPlace):
    """NumPy arrays in the memory of PyTorch's tensors, for one call under PyTorch. PyTorch draws the random numbers.

    Arrays that are not changed are returned as the original tensors.
    """

    def __init__(self, arrays, tensors):
        self._known = {id(array): (array, tensor) for array, tensor in zip(arrays, tensors, strict=True)}

    def returned(self, array):
        return self._known[id(array)][1] if id(array) in self._known else from_numpy(array)

    def uniform(self, key, shape):
        return draw("rand", key, shape, "cpu").numpy()

    def normal(self, key, shape):
        return draw("randn", key, shape, "cpu").numpy()

    def copy(self, array):
        copy = np.empty(array.shape, array.dtype)  # NumPy requests huge pages
        from_numpy(copy).copy_(from_numpy(array))
        return copy

    def blend(self, own, other, kept, out):
        own, other, kept, out = map(from_numpy, (own, other, kept, out))
        sys.modules["torch"].lerp(other, own, kept, out=out)

    def room(self, shape, dtype):
        """Returns an empty array. It lies in longer memory, so that `_of_powers` can see a larger one there."""
        size, of_one = math.prod(shape), math.prod(shape[1:])
        return np.empty(size + 2 * of_one, dtype)[:size].reshape(shape)

    def interpolated(self, images, x, y, start):
        """PyTorch's kernel interpolates several images in parallel. It would multiply NaN by a weight of 0."""
        if images.size == 0:
            return super().interpolated(images, x, y, start)
        torch = sys.modules["torch"]
        whole = _of_powers(images)
        grid = np.empty((*x.shape, 2), images.dtype)
        for axis, (positions, size) in enumerate(zip((x, y), whole.shape[:1:-1], strict=True)):
            np.multiply(positions, 2 / size, out=grid[..., axis])
            grid[..., axis] += (2 * start + 1) / size - 1
        found = torch.nn.functional.grid_sample(
            whole, torch.from_numpy(grid), "bilinear", "border", align_corners=False
        ).numpy()
        with np.errstate(all="ignore"):  # the user's pixels may include NaN
            unusual = np.flatnonzero(~np.isfinite(images.sum(axis=(1, 2, 3))))
        for i in unusual:
            one = slice(i, i + 1)
            found[one] = super().interpolated(images[one], x[one], y[one], start)
        return found


def _of_powers(images):
    """Returns a tensor on the memory of images, seen as larger ones: height and width become powers of two.

    PyTorch wants positions as shares of the size. These are exact for powers of two.
    """
    sizes = [1 << (size - 1).bit_length() for size in images.shape[2:]]
    strides = [stride // images.itemsize for stride in images.strides]
    return sys.modules["torch"].from_numpy(images.base).as_strided((*images.shape[:2], *sizes), strides)


class ForeignTorch(NumpyPlace):
    """PyTorch's tensors under another backend. NumPy handles them, and they are returned as tensors on the CPU."""

    def tensor(self, array):
        is_tensor = isinstance(array, sys.modules["torch"].Tensor)
        return super().tensor(array.detach().cpu().numpy() if is_tensor else array)

    def returned(self, array):
        return sys.modules["torch"].from_numpy(array)


def _is_in_reach(tensor):
    torch = sys.modules["torch"]
    if is_compiling() or type(tensor) is not torch.Tensor or tensor.device.type != "cpu":
        return False
    return tensor.layout is torch.strided and not (tensor.requires_grad and torch.is_grad_enabled())


def draw(function, key, shape, device):
    """Draws numbers with `torch.rand` or `torch.randn` from a new generator, seeded by `key`."""
    torch = sys.modules["torch"]
    device, generator = torch.device(device), None
    if device.type != "meta":  # Keras infers shapes on this device
        generator = torch.Generator(device=device)
        generator.manual_seed(int(key.generate_state(1, np.uint64)[0]))
    shape = tuple(int(size) for size in shape)
    return getattr(torch, function)(shape, generator=generator, device=device, dtype=torch.float32)


def to_numpy(tensor):
    """Returns a NumPy array that shares the memory of a tensor."""
    torch = sys.modules["torch"]
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(np.dtype("bfloat16"))
    return tensor.detach().numpy()


def from_numpy(array):
    """Returns a tensor that shares the memory of a NumPy array."""
    torch = sys.modules["torch"]
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)
