"""The folder of one training: the weights of the last two epochs, and the states that belong to each."""

import json
import os
import pathlib
import re
import shutil
import tempfile
from typing import NamedTuple

import keras

from keras_reg import _storage

WEIGHTS, WEIGHTS_BEFORE = "latest.weights.h5", "latest.weights.h5.bkp"
METADATA, METADATA_BEFORE = "training_metadata.json", "training_metadata.json.bkp"
STATE, STATE_NAME = "callbacks-{}.npz", re.compile(r"callbacks-(\d{1,18})\.npz")
GROWTH = "callbacks-growth.bin"


class Saved(NamedTuple):
    """What was saved at the end of an epoch.

    Attributes:
        epoch: The number of completed epochs.
        weights: The file of the weights.
        record: The nest that was passed to `EpochBackup.save`.
        growth: All nests that were passed as `grown` until then.
    """

    epoch: int
    weights: pathlib.Path
    record: dict
    growth: list


class EpochBackup:
    """Writes and reads the files. Those of weights and metadata have the names that `BackupAndRestore` gives them.

    A file of states contains the checksum of its weights, so matching files are recognized whenever the process was
    killed, and whatever was damaged afterwards.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.last = 0  # the last epoch whose files may be there
        self._end = 0  # the length of the growing file

    def save(self, epoch, model, record, grown):
        """Writes the files of an epoch; `grown` is appended to what had grown before."""
        self.last = max(self.last, epoch)
        self.directory.mkdir(parents=True, exist_ok=True)
        end = _storage.append_nest(self._path(GROWTH), self._end, grown) if grown else self._end
        with _storage.replacing(self._path(WEIGHTS)) as unfinished:
            # Not `model.save_weights`, which a model may override: this file must include the optimizer.
            keras.saving.save_weights(model, str(unfinished))
            checksum = _storage.checksum(unfinished)
            content = {"epoch": epoch, "weights": checksum, "growth": end, "record": record}
            _storage.write_nest(self._path(STATE.format(epoch)), content)
            for name, before in ((WEIGHTS, WEIGHTS_BEFORE), (METADATA, METADATA_BEFORE)):
                if self._path(name).exists():
                    os.replace(self._path(name), self._path(before))
        self._write_number(epoch)
        self._end = end
        _storage.remove(self.directory, [STATE.format(n) for n in self._epochs() if n < epoch - 1])

    def find(self):
        """Returns the last epoch whose weights and states are intact, or `None`, and whether a later one is damaged."""
        pairs = [(epoch, self._read(epoch)) for epoch in sorted(self._epochs(), reverse=True)]
        damaged = False
        for name in (WEIGHTS, WEIGHTS_BEFORE):
            path = self._path(name)
            if not path.is_file():
                continue
            checksum = _storage.checksum(path)
            for epoch, content in pairs:
                if content is not None and content["weights"] == checksum:
                    growth = _storage.read_nests(self._path(GROWTH), content["growth"])
                    if growth is not None:
                        return Saved(epoch, path, content["record"], growth), damaged
            damaged = True
        return None, damaged

    def resume_after(self, saved):
        """Continues after a saved epoch, whose weights become the latest ones."""
        self.last = saved.epoch
        self._end = self._read(saved.epoch)["growth"]
        if saved.weights.name != WEIGHTS:
            os.replace(saved.weights, self._path(WEIGHTS))
        self._write_number(saved.epoch)

    def load_weights(self, saved, model):
        """Loads the weights and the state of the optimizer."""
        with tempfile.TemporaryDirectory() as folder:  # Keras only reads files of a certain name
            keras.saving.load_weights(model, _with_name_of_weights(saved.weights, folder))

    def load_plain(self, model):
        """Loads weights without states, as `BackupAndRestore` saves them, and returns their epoch, or `None`."""
        for weights, metadata in ((WEIGHTS, METADATA), (WEIGHTS_BEFORE, METADATA_BEFORE)):
            epoch = self._epoch_in(metadata)
            if epoch is None or not self._path(weights).is_file() or self._read(epoch) is not None:
                continue  # intact states of this epoch mean that these weights are damaged
            try:
                with tempfile.TemporaryDirectory() as folder:
                    model.load_weights(_with_name_of_weights(self._path(weights), folder))
            except OSError:
                continue
            self.last = epoch
            return epoch
        return None

    def is_empty(self):
        """Returns whether the folder has no weights of a training."""
        return not any(self._path(name).exists() for name in (WEIGHTS, WEIGHTS_BEFORE))

    def remove(self):
        """Deletes the files by name, and the folder if it is then empty."""
        states = [STATE.format(epoch) for epoch in self._epochs() if epoch <= self.last]
        # A process that was killed while writing may have left the last one.
        names = [WEIGHTS, WEIGHTS_BEFORE, METADATA, METADATA_BEFORE, GROWTH, *states, STATE.format(self.last + 1)]
        _storage.remove(self.directory, names)

    def _path(self, name):
        return self.directory / name

    def _write_number(self, epoch):
        _storage.write_bytes(self._path(METADATA), json.dumps({"epoch": epoch, "batch": 0}).encode())

    def _epochs(self):
        """Returns the epochs that have a file of states."""
        return _storage.numbers_in(self.directory, STATE_NAME)

    def _read(self, epoch):
        """Returns the content of a file of states, or `None`."""
        content = _storage.read_nest(self._path(STATE.format(epoch)))
        whole = isinstance(content, dict) and set(content) == {"epoch", "weights", "growth", "record"}
        return content if whole and content["epoch"] == epoch else None

    def _epoch_in(self, name):
        path = self._path(name)
        try:
            epoch = json.loads(path.read_bytes())["epoch"] if path.is_file() else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return epoch if type(epoch) is int and epoch >= 0 else None


def _with_name_of_weights(path, folder):
    """Returns `path`, or a copy in `folder` if Keras would not accept its name."""
    return str(path) if path.name == WEIGHTS else shutil.copyfile(path, os.path.join(folder, WEIGHTS))
