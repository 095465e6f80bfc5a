"""Training that can be killed and started again: `python persisted_training.py directory [pause-file]`.

It writes what it decided to `directory/../result.json`. With a pause file, it makes that file in the middle of epoch 5
and waits there to be killed.
"""

import json
import pathlib
import sys
import time

import keras
import numpy as np
from callbacks.helpers import Script, make_model

from keras_reg.callbacks import DivergenceStop, ExponentialLR, SmoothedEarlyStopping, persist

# The best smoothed epoch is before the pause and the stop after it.
LOSSES = [3.0, 2.0, 1.0, 1.2, 0.9, 1.4, 1.3, 1.5, 1.4, 1.6, 1.5, 1.7]


class At(keras.callbacks.Callback):
    """Calls `action` in the middle of `epoch`."""

    def __init__(self, epoch, action):
        super().__init__()
        self.epoch, self.action = epoch, action

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            self.action()


def train(directory, interrupt=lambda: None, epoch=5, **arguments):
    """Trains until it stops early; returns everything that was decided, seen and learnt."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 2)).astype("float32")
    model = make_model(keras.optimizers.Adam(0.1))
    stop = SmoothedEarlyStopping(patience=4)
    decay = ExponentialLR(0.8, warmup_epochs=2, per="step")
    diverged, plateau = DivergenceStop(factor=50), keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=99)
    best = keras.callbacks.EarlyStopping(patience=99, restore_best_weights=True)
    callbacks = [Script(val_loss=LOSSES), stop, decay, diverged, plateau, best, At(epoch, interrupt)]
    history = model.fit(
        x,
        x[:, :1] * 3,
        epochs=len(LOSSES),
        batch_size=4,
        shuffle=False,
        callbacks=persist(callbacks, directory, **arguments),
        verbose=0,
    )
    return {
        "epoch": history.epoch,
        "history": history.history,
        "stop": {**stop.state_dict(), "best_weights": [w.tolist() for w in stop.best_weights]},
        "decay": decay.state_dict(),
        "diverged": diverged.state_dict(),
        "keras": [plateau.best, plateau.wait, best.best, best.best_epoch, best.wait],
        "weights": [w.tolist() for w in model.get_weights()],
        "optimizer": int(model.optimizer.iterations),
    }


if __name__ == "__main__":
    directory = pathlib.Path(sys.argv[1])

    def wait_to_be_killed():
        if sys.argv[2:]:
            pathlib.Path(sys.argv[2]).touch()
            time.sleep(3600)

    result = train(directory, wait_to_be_killed)
    (directory.parent / "result.json").write_text(json.dumps(result))
