import numpy as np
import pytest


@pytest.fixture
def data():
    """x (12, 2), y (12, 1)."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(12, 2)).astype("float32")
    return x, (x @ [[2.0], [-1.0]] + 0.5).astype("float32")
