"""What the history says of weights and their gradients, on the host."""

import math

import numpy as np
from keras import ops

from keras_reg.callbacks._gradient_recorder import select


def describe(counts, numbers):
    """One row of what `_gradient_bins.measure` found, as a dict."""
    *histogram, zeros, broken = (int(count) for count in counts)
    low, high, total, norm = (float(number) for number in numbers)
    size = sum(histogram) + zeros + broken
    seen = size - broken
    histogram[len(histogram) // 2] += zeros  # as in NumPy: 0 is the left edge of that bucket
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
    """The same of a NumPy array, with `bins` buckets of one width, whose edges are in the dict too."""
    finite = array[np.isfinite(array)].astype("float64")
    counts, edges = np.histogram(finite, bins=bins)
    return {
        "counts": counts,
        "edges": edges,
        "min": float(finite.min()) if finite.size else math.nan,
        "max": float(finite.max()) if finite.size else math.nan,
        "mean": float(finite.mean()) if finite.size else math.nan,
        "norm": math.sqrt(np.sum(np.square(finite))),  # without the threads that BLAS would wake
        "zero_fraction": float(np.mean(array == 0)),
        "non_finite": int(array.size - finite.size),
        "size": array.size,
    }


def gradients_record(statistics, **place):
    """What the step that was watched last showed."""
    variables = {path: describe(*found) for path, found in statistics.read().items()}
    return {**place, "global_norm": _global_norm(variables), "variables": variables}


def weights_record(model, include, bins, **place):
    """The weights as they are, moving statistics among them."""
    chosen = select([weight for weight in model.weights if "float" in weight.dtype], include, model.name)
    arrays = {path: ops.convert_to_numpy(ops.cast(weight.value, "float32")) for path, weight in chosen.items()}
    variables = {path: describe_array(array, bins) for path, array in arrays.items()}
    return {**place, "global_norm": _global_norm(variables), "variables": variables}


def _global_norm(variables):
    return math.hypot(*(found["norm"] for found in variables.values()))
