"""What the tests of callbacks share: a model without training, a model that trains in milliseconds, scripted logs."""

import keras
import numpy as np


class Stub:
    """What a callback sees of a model, without one: its weights are the number of the epoch that was seen last."""

    def __init__(self):
        self.stop_training = False
        self.optimizer = None
        self.metrics = []
        self.weights = [np.zeros(1)]

    def get_weights(self):
        return [weight.copy() for weight in self.weights]

    def set_weights(self, weights):
        self.weights = [np.array(weight) for weight in weights]

    def run(self, callback, values, monitor="val_loss", begin=True, first_epoch=0, **others):
        """Calls `callback` as `fit` would with these logs until it stops; returns the logs of each epoch."""
        callback.set_model(self)
        callback.set_params({"epochs": first_epoch + len(values), "steps": 1})
        seen = []
        if begin:
            self.stop_training = False
            callback.on_train_begin()
        for index, value in enumerate(values):
            epoch = first_epoch + index
            self.weights = [np.array([float(epoch)])]
            callback.on_epoch_begin(epoch)
            logs = {name: series[index] for name, series in others.items()}
            if value is not None:
                logs[monitor] = value
            callback.on_epoch_end(epoch, logs)
            seen.append(logs)
            if self.stop_training:
                break
        return seen


class Script(keras.callbacks.Callback):
    """Puts given values into the logs, one per epoch, as if validation had returned them."""

    def __init__(self, **values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs.update({name: series[epoch] for name, series in self.values.items()})


class Batches(keras.utils.PyDataset):
    """Three batches of four."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return self.x[part], self.y[part]


def make_model(optimizer="sgd", loss="mse", **arguments):
    """A linear model of two inputs, with the same weights every time."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones", name="dense")])
    model.compile(optimizer, loss, **arguments)
    return model


class RatesOfSteps(keras.callbacks.Callback):
    """Keeps the learning rate of each step in `rates`."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
