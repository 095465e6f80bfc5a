"""What a training that was killed goes on from: one file at the border before each phase."""

import dataclasses
import json
import os
import pathlib
import shutil

import keras
import numpy as np
from keras import ops

from keras_reg._validation import fail
from keras_reg.transfer._slots import Memory

# Within a phase `keras_reg.callbacks.persist` keeps what is needed, in a folder beside the file.
FILE, FOLDER = "before-phase-{}.npz", "phase-{}"


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
    """The folder of one training.

    Args:
        directory: The folder.
        model: What is trained; its weights and seeds are kept.
        phases: The phases, which must be the same when the training is taken up.
    """

    def __init__(self, directory, model, phases):
        self.directory = pathlib.Path(directory)
        metrics = {id(variable) for variable in model.metrics_variables}
        self.variables = [variable for variable in model.variables if id(variable) not in metrics]
        self.plan = [[phase.name, phase.unfreeze, phase.layer_decay, phase.batch_norm] for phase in phases]

    def folder(self, phase):
        return self.directory / FOLDER.format(phase)

    def save(self, border):
        """Writes the border, and then removes what came before it."""
        arrays = {f"weight-{i}": _array(variable) for i, variable in enumerate(self.variables)}
        numbers = {id(variable): i for i, variable in enumerate(self.variables)}
        memories = {}
        for key, memory in border.memories.items():
            number = numbers[key]
            memories[number] = {**dataclasses.asdict(memory), "slots": list(memory.slots)}
            arrays |= {f"slot-{number}-{name}": array for name, array in memory.slots.items()}
        record = {**vars(border), "memories": memories, "plan": self.plan}
        text = json.dumps(record, default=lambda number: number.item()).encode()
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.directory / "unfinished.npz"
        np.savez(unfinished, record=np.frombuffer(text, "uint8"), **arrays)
        os.replace(unfinished, self.directory / FILE.format(border.phase))
        for phase in range(border.phase):
            (self.directory / FILE.format(phase)).unlink(missing_ok=True)
            shutil.rmtree(self.folder(phase), ignore_errors=True)

    def load(self):
        """Puts the weights back and returns the last border; `None` where there is none."""
        files = [self.directory / FILE.format(phase) for phase in range(len(self.plan), -1, -1)]
        path = next((file for file in files if file.exists()), None)
        if path is None:
            return None
        with np.load(path) as file:
            arrays = dict(file)
        record = json.loads(arrays.pop("record").tobytes())
        self._check(record, arrays, path)
        for i, variable in enumerate(self.variables):
            variable.assign(ops.cast(arrays[f"weight-{i}"], variable.dtype))
        memories = {
            id(self.variables[int(number)]): Memory(
                **{**memory, "slots": {name: arrays[f"slot-{number}-{name}"] for name in memory["slots"]}}
            )
            for number, memory in record["memories"].items()
        }
        return Border(record["phase"], record["seed"], record["histories"], memories, record["loss_scale"])

    def _check(self, record, arrays, path):
        shapes = [arrays[f"weight-{i}"].shape for i in range(sum(name.startswith("weight-") for name in arrays))]
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
        if record["plan"] != json.loads(json.dumps(self.plan)):
            names = [phase[0] for phase in record["plan"]]
            fail(f"`phases` must be those of {path}: {names}.", phases=[phase[0] for phase in self.plan])

    def remove(self):
        """Takes away what was written, and the folder if nothing else is in it."""
        for phase in range(len(self.plan) + 1):
            (self.directory / FILE.format(phase)).unlink(missing_ok=True)
            shutil.rmtree(self.folder(phase), ignore_errors=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()


def _array(variable):
    value = ops.cast(variable, "float32") if keras.backend.standardize_dtype(variable.dtype) == "bfloat16" else variable
    return np.asarray(ops.convert_to_numpy(value))
