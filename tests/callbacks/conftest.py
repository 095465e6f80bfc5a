import numpy as np
import pytest
from callbacks.helpers import Batches


@pytest.fixture
def data():
    """x (12, 2), y (12, 1)."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(12, 2)).astype("float32")
    return x, (x @ [[2.0], [-1.0]] + 0.5).astype("float32")


def _generator(x, y):
    while True:
        yield from Batches(x, y)


@pytest.fixture(params=["generator", "tf.data", "PyDataset", "DataLoader"])
def source(request, data):
    """Arguments of `fit` that give three batches of four an epoch, and validation data of the same kind."""
    return {"shuffle": False, **_arguments(request.param, *data)}


def _arguments(kind, x, y):
    if kind == "generator":
        return {
            "x": _generator(x, y),
            "steps_per_epoch": 3,
            "validation_data": _generator(x, y),
            "validation_steps": 3,
        }
    if kind == "tf.data":
        tf = pytest.importorskip("tensorflow")
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    elif kind == "DataLoader":
        torch = pytest.importorskip("torch")
        tensors = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        dataset = torch.utils.data.DataLoader(tensors, batch_size=4)
    else:
        dataset = Batches(x, y)
    return {"x": dataset, "validation_data": dataset}
