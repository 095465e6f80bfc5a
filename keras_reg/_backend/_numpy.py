"""The operations of `keras.ops` that the pure functions use, by NumPy."""

import functools
import types

import numpy as np


@functools.cache
def _numpy_ops():
    same = {
        name: getattr(np, name)
        for name in [
            "abs",
            "arange",
            "broadcast_to",
            "clip",
            "concatenate",
            "cos",
            "equal",
            "exp",
            "expand_dims",
            "floor",
            "isfinite",
            "log",
            "logical_and",
            "matmul",
            "max",
            "maximum",
            "mean",
            "min",
            "minimum",
            "mod",
            "ones_like",
            "prod",
            "repeat",
            "reshape",
            "round",
            "shape",
            "sin",
            "sqrt",
            "square",
            "squeeze",
            "stack",
            "sum",
            "take",
            "take_along_axis",
            "tile",
            "transpose",
            "where",
            "zeros",
            "zeros_like",
            "all",
            "any",
        ]
    }
    return types.SimpleNamespace(
        **same,
        cast=lambda x, dtype: np.asarray(x).astype(dtype, copy=False),
        convert_to_tensor=lambda x, dtype=None: np.asarray(x, dtype=dtype),
        einsum=functools.partial(np.einsum, optimize=True),  # by products of matrices: up to 80 times as fast
        stop_gradient=lambda x: x,
        switch=lambda index, branches, *operands: branches[int(index)](*operands),
    )
