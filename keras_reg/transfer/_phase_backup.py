"""The files from which a killed training resumes: one for the start of each phase."""

import dataclasses
import json
import os
import pathlib
import re
import sys
import warnings

import numpy as np
from keras import ops

from keras_reg._random_state import random_state, set_random_state
from keras_reg._storage import numbers_in, read_nest, remove, write_nest
from keras_reg._validation import fail
from keras_reg.callbacks import persist
from keras_reg.transfer._slots import Memory, copied

# Within a phase, `keras_reg.callbacks.persist` saves every epoch in a folder beside the file.
FILE, FOLDER = "before-phase-{}.npz", "phase-{}"
NAMES = re.compile(r"before-phase-(\d+)\.npz")


@dataclasses.dataclass
class PhaseStart:
    """The state of a training between two phases.

    Attributes:
        phase: The number of the next phase.
        seed: Integer from which the order of the data comes.
        histories: [(epochs, logs)] of the phases before.
        memories: {id of a weight: `Memory`}.
        loss_scale: The loss scale of mixed precision, or `None`.
    """

    phase: int
    seed: int
    histories: list
    memories: dict
    loss_scale: float | None = None


class PhaseBackup:
    """The folder of one training: the starts of the last two phases, each with the epochs of its phase.

    Args:
        directory: The folder.
        model: The model in training, whose weights and random state are saved.
        phases: The phases, which must be the same when the training resumes, but may have more epochs.
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

    def save(self, start):
        """Writes the start of a phase, and then removes all but the one before it."""
        numbers = {id(variable): str(i) for i, variable in enumerate(self.variables)}
        record = {
            **vars(start),
            "memories": {numbers[key]: vars(memory) for key, memory in start.memories.items()},
            "plan": self.plan,
            "epochs": self.epochs,
            "weights": [copied(variable) for variable in self.variables],
            "random": random_state(self.model),
        }
        write_nest(self.directory / FILE.format(start.phase), record)
        self._remove_phases([phase for phase in self._phases() if phase < start.phase - 1])

    def load(self):
        """Restores weights and random state and returns the last `PhaseStart`, or `None` if there is none."""
        record, path = self._find()
        if record is None:
            for phase in range(len(self.plan)):
                self._remove_epochs(phase)
            return None
        self._check(record, path)
        set_random_state(self.model, record["random"])
        for variable, value in zip(self.variables, record["weights"], strict=True):
            # A copy, so that the variable does not share memory with the array.
            variable.assign(ops.cast(np.array(value), variable.dtype))
        memories = {id(self.variables[int(key)]): Memory(**memory) for key, memory in record["memories"].items()}
        return PhaseStart(record["phase"], record["seed"], record["histories"], memories, record["loss_scale"])

    def _find(self):
        """Returns (record, path) of the last file that is intact and does not lie beyond the phases."""
        damaged = []
        for phase in sorted(self._phases(), reverse=True):
            path = self.directory / FILE.format(phase)
            record = read_nest(path)
            if not _is_record(record, phase):
                damaged.append(path.name)
            elif phase < len(self.epochs) or record["epochs"][-1] >= self.epochs[-1]:
                self._warn(damaged, f"the training resumes from the earlier {path.name}")
                return record, path
        self._warn(damaged, "the training starts over")
        return None, None

    def _warn(self, damaged, consequence):
        if damaged:
            files = ", ".join(damaged)
            warnings.warn(
                f"{files} in {self.directory} cannot be read (damaged, or not a backup): {consequence}.", stacklevel=2
            )

    def _phases(self):
        """Returns the numbers of the phases for which there are files."""
        return numbers_in(self.directory, NAMES)

    def _check(self, record, path):
        shapes = [tuple(array.shape) for array in record["weights"]]
        own = [tuple(variable.shape) for variable in self.variables]
        if shapes != own:
            _refuse_shapes(shapes, own, path)
        if record["plan"] != self.plan:
            names = [phase[0] for phase in record["plan"]]
            fail(
                f"`phases` must be those of the backup {path}: {names}. Use another `backup_dir` for other phases.",
                phases=[phase[0] for phase in self.plan],
            )

    def remove(self):
        """Deletes the files of this training, and the folder if it is then empty."""
        self._remove_phases(self._phases())

    def _remove_phases(self, phases):
        for phase in phases:
            self._remove_epochs(phase)
        remove(self.directory, [FILE.format(phase) for phase in phases])

    def _remove_epochs(self, phase):
        epochs = persist([], self.folder(phase))[-1].backup
        epochs.last = sys.maxsize
        epochs.remove()


def _refuse_shapes(saved, own, path):
    """Raises the error for weights of other shapes, and names the first that differs."""
    place = next((i for i, pair in enumerate(zip(saved, own, strict=False)) if pair[0] != pair[1]), None)
    there, here = (f"{len(saved)} weights", f"{len(own)} weights")
    if place is not None:
        there, here = (f"a weight {place} of shape {shapes[place]}" for shapes in (saved, own))
    fail(
        f"`backup_dir` must be the backup of the same model. It contains {there}, but this model has {here}. Use "
        "another folder for another model.",
        backup_dir=str(path.parent),
    )


def _is_record(record, phase):
    """Whether this is a record as `save` writes it, as far as its structure tells."""
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
