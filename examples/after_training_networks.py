"""The data of `after_training.py`, and the networks that it trains."""

import dataclasses
import time
from typing import NamedTuple

import effects
import keras
import numpy as np
from after_training_rows import HELD_OUT, SETTINGS_OF
from effects_settings import data_of

from keras_reg import metrics

APART = 1000  # between the seeds of the members of an ensemble


class Split(NamedTuple):
    """Images and labels for training, for the temperature, and for the test."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def split(kind, seed, source):
    """The data of `effects.py`, of whose test images the first ones are for the temperature."""
    data, count = data_of(SETTINGS_OF[kind], seed, source), HELD_OUT[kind]
    x, y = data.x_test, data.y_test
    return Split(data.x_train, data.y_train, x[:count], y[:count], x[count:], y[count:])


class Clock(keras.callbacks.Callback):
    """Measures the processor time of all epochs but the first one, in which the step is compiled."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == 1:
            self.start = time.process_time()

    def on_train_end(self, logs=None):
        self.seconds = (time.process_time() - self.start) * (self.epoch + 1) / self.epoch


class Trainer:
    """Trains the networks of one split. Networks that several rows share are trained once."""

    def __init__(self, kind, seed, source=None, rate=None, epochs=None):
        self.kind, self.setting, self.seed, self.rate = kind, SETTINGS_OF[kind], seed, rate
        self.epochs = epochs or self.setting.epochs
        self.split, self.trained = split(kind, seed, source), {}

    def networks(self, row):
        """The networks of all members of a row, and the processor time of their training in seconds."""
        rate = row.training.rate or self.rate
        keys = [(row.training.name, rate, member) for member in range(row.members)]
        for key in keys:
            if key not in self.trained:
                self.trained[key] = self._train(row.training, rate, key[-1])
        found = [self.trained[key] for key in keys]
        return [network for networks, _ in found for network in networks], sum(seconds for _, seconds in found)

    def _train(self, training, rate, member):
        seed, data = self.seed + APART * member, training.split(self.split, member)
        setting = dataclasses.replace(self.setting, cosine=training.cosine, epochs=self.epochs)
        keras.utils.set_random_seed(seed)
        network, model = effects.compiled(setting, training.recipe, rate, data, seed)
        used, clock = training.recipe.callbacks(self.epochs), Clock()
        model.fit(
            data.x_train, data.y_train, setting.batch, self.epochs, verbose=0, callbacks=[*used, clock],
            validation_data=(data.x_val, data.y_val) if training.validated else None,
        )  # fmt: skip
        return [to_judge(kept) for kept in training.kept(network, used)], clock.seconds


def to_judge(model):
    """Compiles a model that returns logits, or logarithms of probabilities."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy", metrics.ExpectedCalibrationError(from_logits=True)])
    return model
