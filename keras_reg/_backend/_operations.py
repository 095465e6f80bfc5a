"""The operations of `keras.ops` on arrays that Keras' backend cannot hold, and their implementation in NumPy."""

import functools
import types

import numpy as np

# These operations have the same names and arguments in NumPy and Keras.
_OF_ONE_NAME = (
    "abs", "all", "any", "arange", "broadcast_to", "clip", "concatenate", "cos", "cumsum", "equal", "exp",
    "expand_dims", "flip", "floor", "isfinite", "log", "logical_and", "matmul", "max", "maximum", "mean", "min",
    "minimum", "mod", "ones_like", "prod", "repeat", "reshape", "round", "shape", "sign", "sin", "sqrt", "square",
    "squeeze", "stack", "sum", "take", "take_along_axis", "tile", "transpose", "where", "zeros_like",
)  # fmt: skip


class Operations(types.SimpleNamespace):
    """A part of `keras.ops`, implemented by another framework. Both tables have the same names."""

    def __getattr__(self, name):
        known = ", ".join(sorted(vars(self)))
        raise AttributeError(f"There is no `ops.{name}` for arrays outside Keras' backend. Available: {known}")


@functools.cache
def numpy_ops():
    """Returns the operations, implemented by NumPy."""
    return Operations(
        **{name: getattr(np, name) for name in _OF_ONE_NAME},
        cast=lambda x, dtype: np.asarray(x).astype(dtype, copy=False),
        convert_to_tensor=lambda x, dtype=None: np.asarray(x, dtype=dtype),
        zeros=lambda shape, dtype="float32": np.zeros(shape, dtype),
        segment_sum=_segment_sum,
        einsum=_einsum,
    )


def _einsum(subscripts, *operands):
    """Returns `numpy.einsum`. It does not accept dtypes that NumPy does not define, such as bfloat16."""
    dtype = np.result_type(*operands)
    if dtype.isbuiltin != 1:
        operands = (operand.astype("float32") for operand in operands)
    # By matrix products, which are up to 80 times as fast.
    return np.einsum(subscripts, *operands, optimize=True).astype(dtype, copy=False)


def _segment_sum(data, segment_ids, num_segments):
    """Returns the sums of integers by segment. Other sums would be rounded to float64."""
    return np.bincount(segment_ids, data, num_segments).astype(data.dtype)
