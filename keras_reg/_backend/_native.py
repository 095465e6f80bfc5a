"""The place of Keras' backend, and the choice of a place for given arrays."""

import numpy as np

from keras_reg._backend._current import BACKEND, is_compiling, is_foreign
from keras_reg._backend._jax import JaxPlace
from keras_reg._backend._numpy import NumpyPlace
from keras_reg._backend._tensorflow import TensorFlowGraph, TensorFlowPlace, is_in_graph
from keras_reg._backend._torch import ForeignTorch, TorchPlace
from keras_reg._backend._workers import is_worker

PLACES = {"jax": JaxPlace, "tensorflow": TensorFlowPlace, "torch": TorchPlace, "numpy": NumpyPlace}
if BACKEND not in PLACES:
    raise ImportError(f"keras_reg supports the backends {', '.join(PLACES)}. Received: backend={BACKEND!r}")
NATIVE = PLACES[BACKEND]()


def place_of(arrays):
    """Returns the place where these arrays (tensors, NumPy arrays or nested lists) are processed."""
    if is_compiling():
        return NATIVE
    if any(is_foreign(array, "tensorflow") for array in arrays):
        return TensorFlowGraph()
    if any(is_foreign(array, "torch") for array in arrays):
        return ForeignTorch()
    if is_worker() and not is_in_graph() and all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
        return NumpyPlace()
    return NATIVE
