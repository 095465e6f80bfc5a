"""The places of PyTorch's tensors. PyTorch handles them, or NumPy does so in their memory."""

import sys

import numpy as np

from keras_reg._backend._current import is_compiling, not_compiled
from keras_reg._backend._numpy import NumpyPlace
from keras_reg._backend._place import Place, at_least_four_bytes
from keras_reg._backend._recomputing import refuse_recomputing
from keras_reg._backend._sending import sent
from keras_reg._backend._torch_memory import from_numpy, to_numpy
from keras_reg._backend._torch_ops import TorchOperations, device, entries, frequencies
from keras_reg._backend._torch_routes import Routes
from keras_reg._backend._torch_sampling import Sampler


class TorchPlace(Place):
    """PyTorch's tensors, eager or traced by `torch.compile`. Each draw of random numbers breaks the graph."""

    name = "torch"
    ops = TorchOperations()
    is_native = True
    may_overwrite = True
    starts_slowly = True
    casts_once = False  # so that the results are those of `TorchHost`, which casts what it computes

    def is_in_reach(self, tensors):
        """Whether NumPy can handle the tensors. A small operation in PyTorch takes ten times as long as in NumPy."""
        return all(map(_is_in_reach, tensors))

    def on_host(self, tensors):
        arrays = list(map(to_numpy, tensors))
        return arrays, TorchHost(arrays, tensors)

    def numbers(self, key, shape):
        """Draws the numbers on the host, for NumPy: PyTorch needs ten times as long to start a small operation."""
        if is_compiling() or device().type == "meta":  # Keras infers shapes on this device
            return self.uniform(key, shape)
        return self._numbers_on_host(key, shape)

    @not_compiled
    def _numbers_on_host(self, key, shape):
        drawn = draw("rand", key, shape, "cpu")
        return drawn.numpy() if _has_memory(drawn) else self.uniform(key, shape)

    def computes_apart(self, numbers):
        return isinstance(numbers, np.ndarray)

    def of_parameters(self):
        return TorchParameters()

    def sent(self, structure):
        return sent(structure)

    def either(self, condition, true, false, array):
        if is_compiling() or condition.device.type != "cpu":
            return super().either(condition, true, false, array)
        return (true if condition else false)(array)

    def switch(self, routes, branches, images, costly=()):
        return routes.run(branches, images) if isinstance(routes, Routes) else super().switch(routes, branches, images)

    def entries(self, array, indices, axis=0):
        return entries(array, indices, axis)

    def frequencies(self, numbers, count):
        return frequencies(numbers, count)

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
        return draw("rand", key, shape, device())

    @not_compiled
    def normal(self, key, shape):
        return draw("randn", key, shape, device())

    def dtype_of_arithmetic(self, dtype):
        wide = at_least_four_bytes(dtype)
        return wide if wide != dtype and device().type == "cpu" else dtype

    def held_dtype(self, dtype):
        return np.dtype({"uint16": "int32", "uint32": "int64", "uint64": "int64"}.get(np.dtype(dtype).name, dtype))

    def laid_out(self, array):
        """Returns the array in a layout that PyTorch supports: it has no negative strides."""
        return np.ascontiguousarray(array) if any(stride < 0 for stride in array.strides) else array


class TorchParameters(NumpyPlace):
    """NumPy arrays of parameters, a few numbers per image, for images that PyTorch handles."""

    starts_slowly = True

    def routes(self, which, *parameters):
        return Routes.of(which, parameters)


class TorchHost(NumpyPlace):
    """NumPy arrays in the memory of PyTorch's tensors, for one call under PyTorch. PyTorch draws the random numbers.

    Arrays that are not changed are returned as the original tensors.
    """

    sampler = Sampler

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
        sys.modules["torch"].lerp(other, own, kept.to(own.dtype), out=out)


class ForeignTorch(NumpyPlace):
    """PyTorch's tensors under another backend. NumPy handles them, and they are returned as tensors on the CPU."""

    def tensor(self, array):
        is_tensor = isinstance(array, sys.modules["torch"].Tensor)
        return super().tensor(to_numpy(array.detach().cpu()) if is_tensor else array)

    def returned(self, array):
        return from_numpy(array)


def _is_in_reach(tensor):
    torch = sys.modules["torch"]
    if isinstance(tensor, np.ndarray):
        return True
    if is_compiling() or type(tensor) is not torch.Tensor or tensor.device.type != "cpu":
        return False
    if tensor.layout is not torch.strided or (tensor.requires_grad and torch.is_grad_enabled()):
        return False
    return _has_memory(tensor) and torch.autograd.forward_ad.unpack_dual(tensor).tangent is None


def _has_memory(tensor):
    """Whether a strided tensor has memory of its own. Inside transforms of `torch.func`, it does not."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


def draw(function, key, shape, device):
    """Draws numbers with `torch.rand` or `torch.randn` from a new generator, seeded by `key`."""
    torch = sys.modules["torch"]
    device, generator = torch.device(device), None
    if device.type != "meta":  # Keras infers shapes on this device
        generator = torch.Generator(device=device)
        generator.manual_seed(int(key.generate_state(1, np.uint64)[0]))
    shape = tuple(int(size) for size in shape)
    return getattr(torch, function)(shape, generator=generator, device=device, dtype=torch.float32)
