"""The records of the history: dicts of NumPy arrays and numbers that describe weights and their gradients."""

import math

import numpy as np
from keras import ops

from keras_reg.callbacks._gradients._statistics import select


def describe(counts, numbers):
    """Returns one row of what `_buckets.measure` found, as a dict."""
    *histogram, zeros, broken = (int(count) for count in counts)
    low, high, total, norm = (float(number) for number in numbers)
    size = sum(histogram) + zeros + broken
    seen = size - broken
    histogram[len(histogram) // 2] += zeros  # as in `numpy.histogram`: 0 is the left edge of that bucket
    return {
        "counts": np.array(histogram),
        "min": low if seen else math.nan,
        "max": high if seen else math.nan,
        "mean": total / seen if seen else math.nan,
        "norm": norm,
        "zero_fraction": zeros / size,
        "non_finite": broken,
        "size": size,
    }


def describe_array(array, bins):
    """Describes a NumPy array in the same way, with `bins` buckets of equal width, whose edges are in the dict too."""
    finite = array[np.isfinite(array)].astype("float64")
    counts, edges = np.histogram(finite, bins=bins)
    return {
        "counts": counts,
        "edges": edges,
        "min": float(finite.min()) if finite.size else math.nan,
        "max": float(finite.max()) if finite.size else math.nan,
        "mean": float(finite.mean()) if finite.size else math.nan,
        "norm": math.sqrt(np.sum(np.square(finite))),  # `np.linalg.norm` would start the threads of BLAS
        "zero_fraction": float(np.mean(array == 0)),
        "non_finite": int(array.size - finite.size),
        "size": array.size,
    }


def gradients_record(statistics, **place):
    """Returns the record of the last watched step."""
    variables = {path: describe(*found) for path, found in statistics.read().items()}
    return {**place, "global_norm": _global_norm(variables), "variables": variables}


def weights_record(model, include, bins, **place):
    """Returns the record of the current weights, moving statistics included."""
    chosen = select([weight for weight in model.weights if "float" in weight.dtype], include, model.name)
    arrays = {path: ops.convert_to_numpy(ops.cast(weight.value, "float32")) for path, weight in chosen.items()}
    variables = {path: describe_array(array, bins) for path, array in arrays.items()}
    return {**place, "global_norm": _global_norm(variables), "variables": variables}


def _global_norm(variables):
    return math.hypot(*(found["norm"] for found in variables.values()))
