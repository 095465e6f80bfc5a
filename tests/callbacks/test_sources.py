import keras
import numpy as np
import pytest
from callbacks.helpers import Batches, make_model

from keras_reg.callbacks import DivergenceStop, ExponentialLR, GradientHistograms, SmoothedEarlyStopping


def _generator(x, y):
    batches = Batches(x, y)
    while True:
        yield from (batches[index] for index in range(len(batches)))


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


KINDS = pytest.mark.parametrize("kind", ["generator", "tf.data", "PyDataset", "DataLoader"])


@KINDS
def test_every_callback_works_with_every_kind_of_data(kind, data):
    stop, decay = SmoothedEarlyStopping(patience=1, min_delta=10.0), ExponentialLR(0.5, per="step")
    batches, epochs = DivergenceStop(per="step"), DivergenceStop(monitor="val_loss")
    model = make_model(keras.optimizers.SGD(0.1))
    callbacks = [stop, decay, batches, epochs]
    history = model.fit(**_arguments(kind, *data), shuffle=False, epochs=4, callbacks=callbacks, verbose=0).history
    assert stop.stopped_epoch == 1 and len(history["smoothed_val_loss"]) == 2
    np.testing.assert_allclose(history["learning_rate"], [0.1 * 0.5 ** (2 / 3), 0.1 * 0.5 ** (5 / 3)], rtol=1e-6)
    assert not batches.diverged and not epochs.diverged and batches.first > 0
    model.optimizer.learning_rate = 30.0
    again = model.fit(**_arguments(kind, *data), shuffle=False, epochs=4, callbacks=[batches, epochs], verbose=0)
    assert batches.diverged and batches.stopped_step > 0 and len(again.epoch) == 1


@KINDS
def test_gradients_are_seen_with_every_kind_of_data(kind, data):
    callback, expected = GradientHistograms(every=2), GradientHistograms(every=2)
    make_model().fit(**_arguments(kind, *data), epochs=2, shuffle=False, callbacks=[callback], verbose=0)
    make_model().fit(*data, batch_size=4, epochs=2, shuffle=False, callbacks=[expected], verbose=0)
    found, expected = callback.history["gradients"], expected.history["gradients"]
    assert [(record["epoch"], record["batch"]) for record in found] == [(0, 0), (0, 2), (1, 1)]
    norms = [[record["global_norm"] for record in records] for records in (found, expected)]
    np.testing.assert_allclose(*norms, rtol=1e-5)
