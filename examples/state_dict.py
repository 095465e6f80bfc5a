"""Reads the weights of a PyTorch model into NumPy arrays, without PyTorch.

A file of `torch.save` is a pickle, and loading a pickle may run any code. Here it can only build dicts, lists, numbers
and arrays: everything else raises a `ValueError`, before anything is run.
"""

import collections
import io
import pathlib
import pickle
import struct
import zipfile

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of a file of before PyTorch 1.6
DTYPES = {
    "BoolStorage": "?", "ByteStorage": "u1", "CharStorage": "i1", "ShortStorage": "<i2", "IntStorage": "<i4",
    "LongStorage": "<i8", "HalfStorage": "<f2", "FloatStorage": "<f4", "DoubleStorage": "<f8",
}  # fmt: skip

Storage = collections.namedtuple("Storage", "key dtype size")
# The arguments of `torch._utils._rebuild_tensor_v2`, in elements. The values come later, or from another file.
Tensor = collections.namedtuple("Tensor", "storage offset shape strides requires_grad hooks")


class TensorUnpickler(pickle.Unpickler):
    """Builds `Tensor` where PyTorch would build its own, and refuses every other name in a pickle."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return Tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise ValueError(f"A file of weights may contain nothing but tensors. Received: {module}.{name}")

    def persistent_load(self, reference):
        kind, dtype, key, _, size, *view = reference
        if kind != "storage" or dtype not in DTYPES.values() or any(part is not None for part in view):
            raise ValueError(f"A file of weights may refer to nothing but storages. Received: {reference!r}")
        return Storage(key, dtype, size)


def read_state_dict(path):
    """Returns {name: array} of a file that `torch.save(model.state_dict(), path)` has written."""
    path = pathlib.Path(path)
    try:
        read = _read_zip if zipfile.is_zipfile(path) else _read_legacy
        tensors, storages = read(path)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"Expected a file of `torch.save`. Received: path={str(path)!r}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"Expected the state dict of a model. Received: {type(tensors).__name__}")
    return {name: _array(name, tensor, storages) for name, tensor in tensors.items()}


def _read_zip(path):
    """Reads the format of PyTorch 1.6 and later: one file for the pickle, and one per storage."""
    with zipfile.ZipFile(path) as file:
        (pickled,) = (name for name in file.namelist() if name.endswith("data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        order = folder + "byteorder"
        if order in file.namelist() and file.read(order) != b"little":
            raise ValueError(f"Expected weights in little-endian byte order. Received: {file.read(order)!r}")
        data = {name.removeprefix(folder + "data/"): file.read(name) for name in file.namelist() if "/data/" in name}
        return TensorUnpickler(io.BytesIO(file.read(pickled))).load(), data


def _read_legacy(path):
    """Reads the older format: pickles of two numbers, the system, the tensors and the keys, then all storages."""
    with path.open("rb") as file:
        magic, protocol, system, tensors, keys = (TensorUnpickler(file).load() for _ in range(5))
        if magic != MAGIC or protocol != PROTOCOL or not system["little_endian"]:
            raise ValueError(f"Expected a file of `torch.save`, little-endian. Received: path={str(path)!r}")
        itemsizes = {t.storage.key: np.dtype(t.storage.dtype).itemsize for t in tensors.values()}
        data = {}
        for key in keys:
            (size,) = struct.unpack("<q", file.read(8))
            data[key] = file.read(size * itemsizes[key])
    return tensors, data


def _array(name, tensor, storages):
    values = np.frombuffer(storages[tensor.storage.key], tensor.storage.dtype)
    shape, strides = tuple(tensor.shape), tuple(tensor.strides)
    steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    # NumPy does not check strides, which may point to memory outside of the array.
    if min((tensor.offset, *shape, *strides)) < 0 or (0 not in shape and tensor.offset + sum(steps) >= len(values)):
        raise ValueError(f"Expected a tensor inside of its storage. Received: {name}={tensor}")
    view = np.lib.stride_tricks.as_strided(
        values[tensor.offset :], shape, [stride * values.itemsize for stride in strides]
    )
    return view.copy()
