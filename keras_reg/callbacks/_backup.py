"""The folder of one training: the weights of the last two epochs, and beside them what belongs to each."""

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
        epoch: The number of epochs that were done.
        weights: The file of the weights.
        record: The nest that was given to `Backup.save`.
        growth: All nests that were given as `grown` until then.
    """

    epoch: int
    weights: pathlib.Path
    record: dict
    growth: list


class Backup:
    """Writes and reads the files; the names of weights and metadata are those of `BackupAndRestore`.

    A file of states has the checksum of the weights that it belongs to, so a pair is recognised whenever a kill came,
    and whatever was damaged afterwards.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.last = 0  # the last epoch whose files may be there
        self._end = 0  # of the file that grows

    def save(self, epoch, model, record, grown):
        """Writes what belongs to the end of an epoch, `grown` behind what had grown before."""
        self.last = max(self.last, epoch)
        self.directory.mkdir(parents=True, exist_ok=True)
        end = _storage.append_nest(self._path(GROWTH), self._end, grown) if grown else self._end
        with _storage.replacing(self._path(WEIGHTS)) as unfinished:
            # Not `model.save_weights`, which a model may make its own: here the optimizer must be in the file.
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
        """The last epoch whose weights and states are whole, and whether a later one is damaged: (`Saved`, bool)."""
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

    def take_up(self, saved):
        """Goes on writing behind an epoch that was saved, whose weights become the newest ones."""
        self.last = saved.epoch
        self._end = self._read(saved.epoch)["growth"]
        if saved.weights.name != WEIGHTS:
            os.replace(saved.weights, self._path(WEIGHTS))
        self._write_number(saved.epoch)

    def load_weights(self, saved, model):
        """Puts the weights back, and the state of the optimizer."""
        with tempfile.TemporaryDirectory() as folder:  # Keras reads no file of another name
            keras.saving.load_weights(model, _with_name_of_weights(saved.weights, folder))

    def load_plain(self, model):
        """Loads what has no states beside it, as of plain `BackupAndRestore`: the number of its epochs, or `None`."""
        for weights, metadata in ((WEIGHTS, METADATA), (WEIGHTS_BEFORE, METADATA_BEFORE)):
            epoch = self._epoch_in(metadata)
            if epoch is None or not self._path(weights).is_file() or self._read(epoch) is not None:
                continue  # a state that is whole says that the weights are not
            try:
                with tempfile.TemporaryDirectory() as folder:
                    model.load_weights(_with_name_of_weights(self._path(weights), folder))
            except OSError:
                continue
            self.last = epoch
            return epoch
        return None

    def is_empty(self):
        """Whether there is nothing that a training might have left."""
        return not any(self._path(name).exists() for name in (WEIGHTS, WEIGHTS_BEFORE))

    def remove(self):
        """Takes away what was written, by name, and the folder if nothing else is in it."""
        states = [STATE.format(epoch) for epoch in self._epochs() if epoch <= self.last]
        # An earlier version, or a kill while writing, may have left the last one.
        names = [WEIGHTS, WEIGHTS_BEFORE, METADATA, METADATA_BEFORE, GROWTH, *states, STATE.format(self.last + 1)]
        _storage.remove(self.directory, names)

    def _path(self, name):
        return self.directory / name

    def _write_number(self, epoch):
        _storage.write_bytes(self._path(METADATA), json.dumps({"epoch": epoch, "batch": 0}).encode())

    def _epochs(self):
        """The epochs by whose number a file of states is called."""
        names = os.listdir(self.directory) if self.directory.is_dir() else ()
        return [int(match[1]) for match in map(STATE_NAME.fullmatch, names) if match]

    def _read(self, epoch):
        """The content of a file of states, or `None`."""
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
    """`path` itself, or a copy in `folder` where its name is not that of weights."""
    return str(path) if path.name == WEIGHTS else shutil.copyfile(path, os.path.join(folder, WEIGHTS))
