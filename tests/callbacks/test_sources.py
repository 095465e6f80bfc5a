import keras
import numpy as np
import pytest
from callbacks.helpers import Batches, make_model

from keras_reg.callbacks import DivergenceStop, ExponentialLR, SmoothedEarlyStopping


def _generator(x, y):
    while True:
        yield from Batches(x, y)


def _arguments(kind, x, y):
    """Arguments of `fit` that give three batches of four an epoch, and validation data of the same kind."""
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


@pytest.mark.parametrize("kind", ["generator", "tf.data", "PyDataset", "DataLoader"])
def test_every_callback_works_with_every_kind_of_data(kind, data):
    stop, decay = SmoothedEarlyStopping(patience=1, min_delta=10.0), ExponentialLR(0.5, per="step")
    batches, epochs = DivergenceStop(per="batch"), DivergenceStop(monitor="val_loss")
    model = make_model(keras.optimizers.SGD(0.1))
    callbacks = [stop, decay, batches, epochs]
    history = model.fit(**_arguments(kind, *data), shuffle=False, epochs=4, callbacks=callbacks, verbose=0).history
    assert stop.stopped_epoch == 1 and len(history["smoothed_val_loss"]) == 2
    np.testing.assert_allclose(history["learning_rate"], [0.1 * 0.5 ** (2 / 3), 0.1 * 0.5 ** (5 / 3)], rtol=1e-6)
    assert not batches.diverged and not epochs.diverged and batches.first > 0
    model.optimizer.learning_rate = 30.0
    again = model.fit(**_arguments(kind, *data), shuffle=False, epochs=4, callbacks=[batches, epochs], verbose=0)
    assert batches.diverged and batches.stopped_batch > 0 and len(again.epoch) == 1
