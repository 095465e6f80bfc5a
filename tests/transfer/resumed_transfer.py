"""A transfer that can be killed and started again: `python resumed_transfer.py folder [pause-file phase]`.

It writes what came out to `folder/result.json`. With a pause file, it makes that file in the middle of the second epoch
of a phase and waits there to be killed.
"""

import json
import pathlib
import sys
import time

import keras
from transfer.networks import flat_backbone, images

import keras_reg
from keras_reg.transfer import Phase, TransferLearner

NAMES = ("warm up", "top", "all")


class At(keras.callbacks.Callback):
    """Calls `action` in the second of three epochs of phases with the given name, after its first batch."""

    def __init__(self, name, action):
        super().__init__()
        self.name, self.action = name, action

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch % 3 == 1 and batch == 1:
            self.action(self.name)


def train(backup_dir, action=lambda name: None, build_seed=7, **arguments):
    """Trains in three phases and returns what came out. The seed of a run makes order and weights."""
    keras.utils.set_random_seed(build_seed)
    x, y = images(18)
    head = [keras.layers.Dropout(0.3, seed=1), keras.layers.Dense(3)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    learner = TransferLearner(flat_backbone(), head, keras.layers.Rescaling(1 / 255), loss=loss)
    rates = {"warm up": 0.05, "top": 0.02, "all": 0.01}
    unfreeze = {"warm up": None, "top": "block3_*", "all": "all"}
    phases = [
        Phase(
            name,
            3,
            unfreeze=unfreeze[name],
            optimizer=keras.optimizers.SGD(rates[name], momentum=0.9),
            callbacks=[keras_reg.callbacks.ExponentialLR(0.8), At(name, action)],
        )
        for name in NAMES
    ]
    history = learner.fit(
        (x, y), validation_data=(x, y), phases=phases, batch_size=6, seed=5, backup_dir=backup_dir, **arguments
    )
    return {
        "epoch": history.epoch,
        "history": history.history,
        "weights": [weight.tolist() for weight in learner.model.get_weights()],
        "names": list(learner.history),
    }


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])

    def wait_to_be_killed(name):
        if sys.argv[2:] and name == sys.argv[3]:
            pathlib.Path(sys.argv[2]).touch()
            time.sleep(3600)

    # Another program start has other random weights: what was saved must replace them all.
    result = train(folder / "backup", wait_to_be_killed, build_seed=7 if sys.argv[2:] else 8, verbose=2)
    (folder / "result.json").write_text(json.dumps(result))
