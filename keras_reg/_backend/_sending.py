"""Copies parameters that NumPy has computed to tensors of PyTorch."""

import dataclasses

import numpy as np

from keras_reg._backend._torch_ops import copied_without_waiting


def sent(structure):
    """Returns a nest with its NumPy arrays as tensors on Keras' device. All arrays of one dtype are copied at once."""
    arrays = []
    _map(structure, arrays.append)
    kinds = dict.fromkeys(np.asarray(array).dtype for array in arrays)
    tensors = {kind: iter(_together([np.asarray(x) for x in arrays if np.asarray(x).dtype == kind])) for kind in kinds}
    return _map(structure, lambda array: next(tensors[np.asarray(array).dtype]))


def _together(arrays):
    """Returns arrays of one dtype as tensors, copied at once."""
    flat = copied_without_waiting(np.concatenate([array.reshape(-1) for array in arrays]))
    pieces = flat.split([array.size for array in arrays])
    return [piece.reshape(array.shape) for piece, array in zip(pieces, arrays, strict=True)]


def _map(structure, function):
    """Maps a function over the NumPy arrays in tuples, lists, dicts and dataclasses, and keeps everything else."""
    if isinstance(structure, (np.ndarray, np.generic)):
        return function(structure)
    if isinstance(structure, dict):
        return {name: _map(part, function) for name, part in structure.items()}
    if isinstance(structure, (tuple, list)):
        parts = [_map(part, function) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    if dataclasses.is_dataclass(structure):
        names = [field.name for field in dataclasses.fields(structure)]
        return dataclasses.replace(structure, **{name: _map(getattr(structure, name), function) for name in names})
    return structure
