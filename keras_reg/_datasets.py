"""Datasets of batches, whatever their framework."""

import itertools
from typing import Any

import keras


def is_dataset(data: Any) -> bool:
    """Whether an object gives batches: a `PyDataset`, or an iterable that is no array, dict or text."""
    if isinstance(data, keras.utils.PyDataset):
        return True
    return hasattr(data, "__iter__") and not hasattr(data, "shape") and not isinstance(data, (dict, str, bytes))


def is_repeatable(data: Any) -> bool:
    """Whether a dataset can be iterated repeatedly."""
    return isinstance(data, keras.utils.PyDataset) or iter(data) is not data


def is_finite(data: Any) -> bool:
    """Returns whether a pass through a dataset ends, as far as the dataset itself says."""
    cardinality = getattr(data, "cardinality", None)
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is not None
    return not (callable(cardinality) and int(cardinality()) == -1)


def one_pass(data: Any) -> Any:
    """Returns an iterator of the batches of a dataset."""
    if isinstance(data, keras.utils.PyDataset):
        numbers = itertools.count() if data.num_batches is None else range(data.num_batches)
        return (data[number] for number in numbers)
    return iter(data)
