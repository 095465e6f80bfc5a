import json
import os
import pathlib
import tempfile
import warnings

import keras

from keras_reg._random_state import random_state, set_random_state
from keras_reg._renamed import renamed
from keras_reg._typing import Callbacks, Path
from keras_reg._validation import check_callbacks, check_flag, check_folder, fail
from keras_reg.callbacks._callback_states import CallbackStates
from keras_reg.callbacks._epoch_backup import METADATA, EpochBackup


@renamed(directory="backup_dir")
def persist(callbacks: Callbacks, backup_dir: Path, delete_checkpoint: bool = True) -> list[keras.callbacks.Callback]:
    """Resumes interrupted training with its weights, callbacks, history and random numbers.

    Pass the returned list to `fit`, and start the same program again after a crash. Training continues at the start of
    the interrupted epoch and ends with the results of an uninterrupted run. `backup_dir` holds the weights, the
    optimizer and the epoch, as with `keras.callbacks.BackupAndRestore`, and also

    - the state of every callback with `state_dict` and `load_state_dict`, such as those of this package;
    - `History`, so that `fit` returns the logs of all epochs;
    - the state of Keras' `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` (its best value);
    - the random state of the model, of Keras' layers and of this package's, seeded or not, so that dropout and
      augmentation in the model continue with the next draw;
    - the random state of Python, NumPy and PyTorch, which Keras uses to shuffle arrays under JAX and PyTorch, and for
      unseeded dropout under PyTorch.

    Other callbacks start over. So does everything outside of the model: a `tf.data` pipeline or a data loader starts
    again with its first random numbers and order. (With `index=`, the random numbers of this package's layers depend
    only on the index of the batch.) TensorFlow's order of shuffled arrays cannot be read: pass `shuffle=False` to
    `fit`, or shuffle the data yourself. Unseeded `keras.random` calls without a `SeedGenerator` are not
    restored.

    The states of an epoch are written before its weights replace the old ones, and the previous epoch is kept, so a
    kill at any moment leaves weights and states that belong together. If a file is damaged, training resumes from the
    previous epoch, with a warning; if no file is intact, training starts over.

    Pass all callbacks through this function: a callback appended to the list runs after the state has been saved.

    Args:
        callbacks: A callback or a list of them, without `BackupAndRestore`.
        backup_dir: Local folder for this training run only, or a link to one. When training ends, the files written
            there are removed by name, and so is the folder if it is empty.
        delete_checkpoint: `False` keeps the files, so that the same program, run again, gets the final model at once.

    Returns:
        A new list of callbacks for `fit`. The model must be built before `fit`.

    Raises:
        ValueError: If an argument has the wrong type, or a `BackupAndRestore` is among the callbacks; in `fit`, if the
            folder holds the state of other callbacks or of another model, if a state cannot be written, or if the
            model is not built.

    Example:

    >>> import tempfile
    >>> stop = keras_reg.callbacks.SmoothedEarlyStopping("loss")
    >>> callbacks = keras_reg.callbacks.persist([stop], tempfile.mkdtemp())
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(keras.ops.ones((4, 1)), keras.ops.ones((4, 1)), callbacks=callbacks, verbose=0)
    """
    callbacks = check_callbacks(callbacks, "`persist` adds one")
    backup_dir = check_folder("backup_dir", backup_dir)
    delete_checkpoint = check_flag("delete_checkpoint", delete_checkpoint)
    if not any(isinstance(callback, keras.callbacks.History) for callback in callbacks):
        callbacks.append(History())
    return [*callbacks, _Persist(callbacks, backup_dir, delete_checkpoint)]


class History(keras.callbacks.History):
    """A `History` of one `fit`. Keras' own adds the logs of the next `fit` to those of the last one."""

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.history = {}


class _Persist(keras.callbacks.BackupAndRestore):
    """`BackupAndRestore` with states beside the weights; all files are written and read by `EpochBackup`."""

    def __init__(self, callbacks, backup_dir, delete_checkpoint):
        super().__init__(os.fspath(backup_dir), double_checkpoint=True, delete_checkpoint=delete_checkpoint)
        self.states = CallbackStates(callbacks)
        self._told = False  # whether Keras has been told to start at a later epoch
        self.backup = EpochBackup(backup_dir)

    def on_train_begin(self, logs=None):
        if not self.model.built:
            fail("`persist` needs a model that is built before `fit`.", model=self.model.name)
        self.states.start_anew()
        self.states.check()
        saved, damaged = self.backup.find()
        if saved is not None:
            self._resume(saved)
            if damaged:
                self._warn(f"a damaged or unknown file: training resumes after the earlier epoch {saved.epoch}")
        elif not self.backup.is_empty():
            self._resume_without_states()

    def on_train_batch_end(self, batch, logs=None):
        pass  # nothing is saved within an epoch

    def on_epoch_begin(self, epoch, logs=None):
        # Keras would also start the model's next `fit` at this epoch, if this one ends in an error.
        if self._told:
            self._start_at(0)

    def on_epoch_end(self, epoch, logs=None):
        states, grown = self.states.take()
        record = {
            "states": states,
            "stopped": bool(self.model.stop_training),
            "shapes": self._shapes(),
            "random": random_state(self.model),
        }
        self.backup.save(epoch + 1, self.model, record, grown)

    def on_train_end(self, logs=None):
        if self.delete_checkpoint:
            self.backup.remove()
        if self._told:
            self._start_at(0)

    def _resume(self, saved):
        record = saved.record
        kept, own = list(record["states"]), self.states.names
        if kept != own:
            fail(f"`callbacks` must be those whose states are in {self.backup_dir}: {kept}.", callbacks=own)
        if record["shapes"] != self._shapes():
            fail(
                f"`backup_dir` must be the backup of the same model. Its weights have the shapes {record['shapes']}. "
                "Use another folder for another model.",
                shapes=self._shapes(),
            )
        set_random_state(self.model, record["random"])
        self._build_optimizer()
        self.backup.load_weights(saved, self.model)
        self.states.put(record["states"], saved.growth)
        self.backup.resume_after(saved)
        # If the process was killed between the decision to stop and the end of `fit`, no epoch is left to train.
        self._start_at(self.params["epochs"] if record["stopped"] else saved.epoch)

    def _resume_without_states(self):
        self._build_optimizer()
        try:
            epoch = self.backup.load_plain(self.model)
        except ValueError as error:
            fail(f"`backup_dir` must be the backup of the same model: {error}", backup_dir=self.backup_dir)
        if epoch is None:
            self._warn("damaged files only: training starts over")
        else:
            self._warn("no states of the callbacks, so they start over")
            self._start_at(epoch)

    def _build_optimizer(self):
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)

    def _warn(self, found):
        warnings.warn(f"{self.backup_dir} contains {found}.", stacklevel=2)

    def _shapes(self):
        return [list(weight.shape) for weight in self.model.weights]

    def _start_at(self, epoch):
        """Tells Keras the epoch at which `fit` starts, which only its own callback can do."""
        self._told = epoch > 0
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, METADATA).write_text(json.dumps({"epoch": epoch, "batch": 0}))
            start = keras.callbacks.BackupAndRestore(folder)
            start.set_model(self.model)
            start.on_train_begin()
