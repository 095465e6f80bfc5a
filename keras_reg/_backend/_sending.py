"""Copies parameters that NumPy has computed to tensors of PyTorch."""

import dataclasses
import sys

import numpy as np

from keras_reg._backend._torch_ops import copied_without_waiting


def sent(structure):
    """Returns a nest with its NumPy arrays as tensors on Keras' device. All arrays are copied at once."""
    arrays = []
    _map(structure, lambda array: arrays.append(np.asarray(array)))
    if not arrays:
        return structure
    kinds = {}
    for array in sorted(arrays, key=lambda array: -array.itemsize):  # each dtype starts at a multiple of its size
        kinds.setdefault(array.dtype, []).append(array.reshape(-1))
    rows = [np.concatenate(parts) for parts in kinds.values()]
    pieces = {
        kind: iter(row.split([part.size for part in parts]))
        for (kind, parts), row in zip(kinds.items(), _copied_together(rows), strict=True)
    }

    def tensor(array):
        found = next(pieces[np.asarray(array).dtype])
        return found if np.ndim(array) == 1 else found.reshape(np.shape(array))

    return _map(structure, tensor)


def _copied_together(rows):
    """Returns flat arrays, each of a dtype of its own, as tensors. All are copied at once, as bytes."""
    if len(rows) == 1:
        return [copied_without_waiting(rows[0])]
    everything, start, found = copied_without_waiting(np.concatenate([row.view("uint8") for row in rows])), 0, []
    for row in rows:
        part = everything[start : start + row.nbytes]
        found.append((part if row.size else part.new_empty(0)).view(getattr(sys.modules["torch"], row.dtype.name)))
        start += row.nbytes
    return found


def _map(structure, function):
    """Maps a function over the NumPy arrays in tuples, lists, dicts and dataclasses, and keeps everything else."""
    if structure is None or type(structure) in (bool, int, float):  # the most frequent cases
        return structure
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
