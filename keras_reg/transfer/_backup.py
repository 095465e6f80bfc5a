"""What a training that was killed goes on from: one file at the border before each phase."""

import dataclasses
import json
import os
import pathlib
import re
import sys
import warnings

import keras
import numpy as np
from keras import ops

from keras_reg._random_state import random_state, set_random_state
from keras_reg._storage import read_nest, remove, write_nest
from keras_reg._validation import fail
from keras_reg.callbacks import persist
from keras_reg.transfer._slots import Memory

# Within a phase `keras_reg.callbacks.persist` keeps what is needed, in a folder beside the file.
FILE, FOLDER = "before-phase-{}.npz", "phase-{}"
NAMES = re.compile(r"before-phase-(\d+)\.npz")


@dataclasses.dataclass
class Border:
    """Where a training stands between two phases.

    Attributes:
        phase: The number of the phase that comes.
        seed: What the order of the data comes from.
        histories: [(epochs, logs)] of the phases before.
        memories: {id of a weight: `Memory`}.
        loss_scale: That of mixed precision, or `None`.
    """

    phase: int
    seed: int
    histories: list
    memories: dict
    loss_scale: float | None = None


class Backup:
    """The folder of one training: the last two borders, each with the epochs of the phase behind it.

    Args:
        directory: The folder.
        model: What is trained; its weights and random numbers are kept.
        phases: The phases, which must be the same when the training is taken up; they may have more epochs.
    """

    def __init__(self, directory, model, phases):
        self.directory = pathlib.Path(os.path.abspath(directory))
        self.model = model
        metrics = {id(variable) for variable in model.metrics_variables}
        self.variables = [variable for variable in model.variables if id(variable) not in metrics]
        plan = [[phase.name, phase.unfreeze, phase.layer_decay, phase.batch_norm] for phase in phases]
        self.plan = json.loads(json.dumps(plan))
        self.epochs = [phase.epochs for phase in phases]

    def folder(self, phase):
        return self.directory / FOLDER.format(phase)

    def save(self, border):
        """Writes the border, and then removes what came before the one before it."""
        numbers = {id(variable): str(i) for i, variable in enumerate(self.variables)}
        record = {
            **vars(border),
            "memories": {numbers[key]: vars(memory) for key, memory in border.memories.items()},
            "plan": self.plan,
            "epochs": self.epochs,
            "weights": [_array(variable) for variable in self.variables],
            "random": random_state(self.model),
        }
        write_nest(self.directory / FILE.format(border.phase), record)
        self._remove([phase for phase in self._phases() if phase < border.phase - 1])

    def load(self):
        """Puts weights and random numbers back and returns the last border; `None` where there is none."""
        record, path = self._find()
        if record is None:
            for phase in range(len(self.plan)):
                self._remove_epochs(phase)
            return None
        self._check(record, path)
        set_random_state(self.model, record["random"])
        for variable, value in zip(self.variables, record["weights"], strict=True):
            # A copy: what is computed from the array later must not share its memory.
            variable.assign(ops.cast(np.array(value), variable.dtype))
        memories = {id(self.variables[int(key)]): Memory(**memory) for key, memory in record["memories"].items()}
        return Border(record["phase"], record["seed"], record["histories"], memories, record["loss_scale"])

    def _find(self):
        """(record, path) of the last border that can be read and from which something is left to do."""
        damaged = []
        for phase in sorted(self._phases(), reverse=True):
            path = self.directory / FILE.format(phase)
            record = read_nest(path)
            if not _is_record(record, phase):
                damaged.append(path.name)
            elif phase < len(self.epochs) or record["epochs"][-1] >= self.epochs[-1]:
                self._warn(damaged, f"the training goes on from {path.name}, before it")
                return record, path
        self._warn(damaged, "the training begins anew")
        return None, None

    def _warn(self, damaged, what):
        if damaged:
            names = ", ".join(damaged)
            warnings.warn(f"{self.directory} holds {names}, damaged or foreign: {what}.", stacklevel=2)

    def _phases(self):
        """The numbers of the borders of which there are files."""
        names = os.listdir(self.directory) if self.directory.is_dir() else []
        return [int(found[1]) for found in map(NAMES.fullmatch, names) if found]

    def _check(self, record, path):
        shapes = [tuple(array.shape) for array in record["weights"]]
        own = [tuple(variable.shape) for variable in self.variables]
        if shapes != own:
            other = next((i for i, pair in enumerate(zip(shapes, own, strict=False)) if pair[0] != pair[1]), None)
            where = (
                f"weight {other} is {shapes[other]} there" if other is not None else f"there are {len(shapes)} there"
            )
            came = own[other] if other is not None else f"{len(own)} weights"
            fail(
                f"`backup_dir` must be of the same model, but {where}: take another folder.", here=came, file=str(path)
            )
        if record["plan"] != self.plan:
            names = [phase[0] for phase in record["plan"]]
            fail(f"`phases` must be those of {path}: {names}.", phases=[phase[0] for phase in self.plan])

    def remove(self):
        """Takes away what was written, and the folder if nothing else is in it."""
        self._remove(self._phases())

    def _remove(self, phases):
        for phase in phases:
            self._remove_epochs(phase)
        remove(self.directory, [FILE.format(phase) for phase in phases])

    def _remove_epochs(self, phase):
        epochs = persist([], self.folder(phase))[-1].backup
        epochs.last = sys.maxsize
        epochs.remove()


def _is_record(record, phase):
    """Whether it is what `save` writes, as far as that can be seen."""
    kinds = {"phase": int, "seed": int, "histories": list, "memories": dict, "plan": list, "epochs": list}
    kinds |= {"weights": list, "random": dict}
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
        and "loss_scale" in record
        and record["phase"] == phase == len(record["histories"])
        and len(record["epochs"]) == len(record["plan"]) >= phase
        and all(isinstance(array, np.ndarray) for array in record["weights"])
    )


def _array(variable):
    value = ops.cast(variable, "float32") if keras.backend.standardize_dtype(variable.dtype) == "bfloat16" else variable
    return np.asarray(ops.convert_to_numpy(value))
