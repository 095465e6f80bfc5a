import json
import os
import pathlib
import tempfile
import warnings
import zlib

import keras
import numpy as np

from keras_reg._validation import fail

# What Keras' own callbacks forget over a restart; they have no `state_dict`.
KERAS_STATE = {
    keras.callbacks.History: ("epoch", "history"),
    keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "stopped_epoch", "wait"),
    keras.callbacks.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
    keras.callbacks.ModelCheckpoint: ("best",),
}


def persist(callbacks, directory, delete_checkpoint=True):
    """Makes training that was killed go on as if nothing had happened: weights, callbacks and history.

    Give the returned list to `fit`, and start the same program again after a crash: it continues at the start of the
    epoch that was interrupted. This is `keras.callbacks.BackupAndRestore`, which keeps the weights, the optimizer and
    the epoch in `directory`, with the state of the callbacks kept beside it:

    - of every callback with `state_dict` and `load_state_dict`, as those in this package;
    - of `History`, so that `fit` returns the logs of all epochs;
    - of Keras' `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` (its best value);
    - of the model's `SeedGenerator`s, which no file of Keras holds: dropout goes on with the masks it would have had.

    Others start anew. The state of an epoch is written before its weights, and the one before is kept until then, so
    that a kill at any moment leaves weights and states that belong together; a damaged file is recognised and the
    epoch before taken.

    Put all callbacks through this function: one that is appended to the list runs after the state has been saved.
    Training repeats exactly where the data does: the order of shuffled data is not part of any state, and neither is
    what random layers count outside of the model's variables.

    Args:
        callbacks: A callback or a list of them, without `BackupAndRestore`.
        directory: Local folder for this training run alone. It is removed when training ends.
        delete_checkpoint: `False` keeps it: then the same program run again returns at once with the final model.

    Returns:
        A new list of callbacks for `fit`. The model must be built before `fit`, as `BackupAndRestore` asks.

    Raises:
        ValueError: If there is a `BackupAndRestore` among the callbacks, or, in `fit`, if the directory holds the state
            of other callbacks.

    Example:

    >>> import tempfile
    >>> stop = keras_reg.callbacks.SmoothedEarlyStopping("loss")
    >>> callbacks = keras_reg.callbacks.persist([stop], tempfile.mkdtemp())
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(keras.ops.ones((4, 1)), keras.ops.ones((4, 1)), callbacks=callbacks, verbose=0)
    """
    callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
        fail("`callbacks` must be without `BackupAndRestore`: `persist` adds one.", callbacks=callbacks)
    if not any(isinstance(callback, keras.callbacks.History) for callback in callbacks):
        callbacks.append(keras.callbacks.History())
    return [*callbacks, _Persist(callbacks, directory, delete_checkpoint)]


class _Persist(keras.callbacks.BackupAndRestore):
    """`BackupAndRestore` with one file of callback states for each of the last two epochs."""

    def __init__(self, callbacks, directory, delete_checkpoint):
        super().__init__(os.fspath(directory), double_checkpoint=True, delete_checkpoint=delete_checkpoint)
        self.directory = pathlib.Path(directory)
        self.metadata = self.directory / "training_metadata.json"
        stateful = [c for c in callbacks if hasattr(c, "state_dict") or _keras_names(c)]
        self.stateful = {f"{index}_{type(callback).__name__}": callback for index, callback in enumerate(stateful)}

    def on_train_begin(self, logs=None):
        self._mend_metadata()
        super().on_train_begin(logs)
        epoch = self._epoch()
        if self._holds(epoch + 1) and not self._holds(epoch):
            # Killed after the weights were written and before the number of their epoch was.
            epoch += 1
            self._write_epoch(epoch)
            super().on_train_begin(logs)
        if epoch:
            self._load(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self._save(epoch + 1)
        super().on_epoch_end(epoch, logs)
        for path in self.directory.glob("callbacks-*.npz"):
            if path not in (self._path(epoch), self._path(epoch + 1)):
                path.unlink()

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        # Keras would start the model's next `fit`, too, at the epoch where this one was taken up again.
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, self.metadata.name).write_text(json.dumps({"epoch": 0, "batch": 0}))
            start = keras.callbacks.BackupAndRestore(folder)
            start.set_model(self.model)
            start.on_train_begin()

    def _path(self, epoch):
        return self.directory / f"callbacks-{epoch}.npz"

    def _epoch(self):
        """The number of epochs that are done, as `BackupAndRestore` wrote it, or 0."""
        return json.loads(self.metadata.read_text())["epoch"] if self.metadata.exists() else 0

    def _write_epoch(self, epoch):
        self.metadata.write_text(json.dumps({"epoch": epoch, "batch": 0}))

    def _mend_metadata(self):
        """Writes the number of the epoch again where a kill has cut it off: all else was written before it."""
        try:
            self._epoch()
        except ValueError:
            paths = self.directory.glob("callbacks-*.npz")
            self._write_epoch(max((int(path.stem.removeprefix("callbacks-")) for path in paths), default=0))

    def _holds(self, epoch):
        """Whether the model's weights are those of this epoch."""
        return self._path(epoch).exists() and _read(self._path(epoch))[0]["weights"] == _fingerprint(self.model)

    def _save(self, epoch):
        arrays = {}
        record = {
            "states": {name: _split(_take(callback), arrays) for name, callback in self.stateful.items()},
            "stopped": bool(self.model.stop_training),
            "weights": _fingerprint(self.model),
            "seeds": _split([keras.ops.convert_to_numpy(seed.value) for seed in _seeds(self.model)], arrays),
        }
        text = json.dumps(record, default=lambda number: number.item()).encode()
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.directory / "unfinished.npz"
        np.savez(unfinished, record=np.frombuffer(text, "uint8"), **arrays)
        os.replace(unfinished, self._path(epoch))

    def _load(self, epoch, logs):
        if not self._path(epoch).exists():
            warnings.warn(f"{self.directory} holds no state of the callbacks: they start anew.", stacklevel=2)
            return
        record, arrays = _read(self._path(epoch))
        saved, own = list(record["states"]), list(self.stateful)
        if saved != own:
            fail(f"`callbacks` must be those whose states are in {self.directory}: {saved}.", callbacks=own)
        for name, callback in self.stateful.items():
            _put(callback, _join(record["states"][name], arrays))
        for variable, value in zip(_seeds(self.model), _join(record["seeds"], arrays), strict=True):
            variable.assign(value)
        if record["stopped"]:
            # Killed between the decision to stop and the end of `fit`: no epoch is left to train.
            self._write_epoch(self.params["epochs"])
            super().on_train_begin(logs)
            self._write_epoch(epoch)


def _fingerprint(model):
    checksum = 0
    for weight in model.get_weights():
        checksum = zlib.crc32(np.ascontiguousarray(weight).view("uint8"), checksum)
    return checksum


def _seeds(model):
    """The state of the model's random numbers: the variables that are no weights."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _keras_names(callback):
    return [name for kind, names in KERAS_STATE.items() if isinstance(callback, kind) for name in names]


def _take(callback):
    if hasattr(callback, "state_dict"):
        return callback.state_dict()
    return {name: getattr(callback, name) for name in _keras_names(callback)}


def _put(callback, state):
    if hasattr(callback, "state_dict"):
        callback.load_state_dict(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


def _split(state, arrays):
    """`state` with every array moved to `arrays` and its name there left in its place."""
    if isinstance(state, dict):
        return {key: _split(value, arrays) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [_split(value, arrays) for value in state]
    if not isinstance(state, np.ndarray):
        return state
    name = f"array_{len(arrays)}"
    # NumPy's files know no bfloat16; float32 holds it exactly.
    arrays[name] = state.astype("float32") if state.dtype.kind == "V" else state
    return {"array": name}


def _join(state, arrays):
    """The inverse of `_split`."""
    if isinstance(state, dict):
        is_array = set(state) == {"array"} and state["array"] in arrays
        return arrays[state["array"]] if is_array else {key: _join(value, arrays) for key, value in state.items()}
    return [_join(value, arrays) for value in state] if isinstance(state, list) else state


def _read(path):
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(arrays.pop("record").tobytes()), arrays
