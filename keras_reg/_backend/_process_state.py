"""The random state of the process, which no layer owns."""

import contextlib
import random
import sys

import numpy as np

from keras_reg._backend._current import BACKEND


def process_random_state():
    """Returns the states of the global random generators of Python, NumPy and PyTorch, as a nest of arrays.

    Keras shuffles arrays with NumPy's generator under JAX and with PyTorch's under PyTorch. PyTorch's unseeded dropout
    uses the latter too.
    """
    version, words, gauss = random.getstate()
    state = {"python": [version, np.array(words, "uint32"), gauss], "numpy": np.random.get_state(legacy=False)}
    if BACKEND == "torch":
        torch = sys.modules["torch"]
        state["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            state["cuda"] = [found.numpy() for found in torch.cuda.get_rng_state_all()]
    return state


def set_process_random_state(state):
    """Restores the state that `process_random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(map(int, words)), gauss))
    np.random.set_state(state["numpy"])
    if BACKEND == "torch" and "torch" in state:
        torch = sys.modules["torch"]
        torch.set_rng_state(torch.from_numpy(state["torch"]))
        if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([torch.from_numpy(found) for found in state["cuda"]])


def framework_random_state():
    """Returns the states of PyTorch's global generators, which its unseeded dropout uses. `None` on other backends."""
    if BACKEND != "torch":
        return None
    torch = sys.modules["torch"]
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _set_framework_random_state(state):
    torch = sys.modules["torch"]
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


@contextlib.contextmanager
def same_random_numbers(state):
    """Repeats the random numbers since `framework_random_state` returned `state`. Then the generators continue."""
    if state is None:
        yield
        return
    now = framework_random_state()
    _set_framework_random_state(state)
    try:
        yield
    finally:
        _set_framework_random_state(now)


@contextlib.contextmanager
def framework_seeded(key):
    """Seeds PyTorch's global generators by a key. Then they continue as if nothing had been drawn.

    On other backends, nothing draws from a global generator.
    """
    if BACKEND != "torch":
        yield
        return
    before = framework_random_state()
    sys.modules["torch"].manual_seed(int(key.generate_state(1, np.uint64)[0]) >> 1)
    try:
        yield
    finally:
        _set_framework_random_state(before)
