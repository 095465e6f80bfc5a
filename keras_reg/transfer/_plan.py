"""What one `fit` of a `TransferLearner` does: its arguments, checked, and its data in the forms that phases take."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_reg._class_weight import check_class_weight
from keras_reg._validation import check_callbacks, check_choice, check_flag, check_integer, check_number, fail
from keras_reg.transfer._arguments import check_fit_arguments, check_phases
from keras_reg.transfer._data import check_inputs, first_batch, split, to_data
from keras_reg.transfer._labels import check_batch, check_structure
from keras_reg.transfer._phase import USE_BACKUP_DIR
from keras_reg.transfer._stream import Stream
from keras_reg.transfer._suggest_phases import default_phases


@dataclasses.dataclass(frozen=True)
class Plan:
    """The phases of one `fit`, and everything that all of them share.

    Attributes:
        phases: List of `Phase`.
        train, validation: `Batches`, a `Stream` or a dataset; `validation` may be `None`.
        seed: Integer from which the order of arrays comes.
        callbacks: List of callbacks for all phases.
        verbose: As in Keras' `fit`.
        fit_arguments: Dict of further arguments of Keras' `fit`.
    """

    phases: list
    train: Any
    validation: Any
    seed: int
    callbacks: list
    verbose: str | int
    fit_arguments: dict

    @property
    def data(self):
        """The data by the names that messages use."""
        found = {"train": self.train, "validation_data": self.validation}
        return {name: data for name, data in found.items() if data is not None}

    def check_data(self, objective):
        """Checks the first batches, and has the loss chosen by the form of the labels."""
        objective.choose_loss(first_batch(self.train)[1])
        for name, data in self.data.items():
            x, y, _ = first_batch(data)
            check_inputs(name, x, objective.model)
            check_structure(name, y, objective.model)
            check_batch(name, y, objective.targets)
        self._check_streams()
        self._check_class_weight(objective)

    def _check_class_weight(self, objective):
        class_weight = self.fit_arguments.get("class_weight")
        if class_weight is None:
            return
        _, labels, sample_weight = first_batch(self.train)
        check_class_weight(class_weight, labels, objective.model, objective.loss, sample_weight)
        # Keras takes it only with these. Otherwise training would fail in the first phase without cached features.
        if not isinstance(self.train, keras.utils.PyDataset) and not hasattr(self.train, "element_spec"):
            fail(
                "`class_weight` needs arrays, a `PyDataset` or a `tf.data.Dataset`. Other datasets must yield sample "
                "weights themselves.",
                train=type(self.train).__name__,
            )

    def _check_streams(self):
        """A generator cannot be started again, so a phase or an epoch must not take all of it."""
        epochs = sum(phase.epochs for phase in self.phases)
        steps_and_passes = {
            "train": ("steps_per_epoch", len(self.phases)),
            "validation_data": ("validation_steps", epochs),
        }
        for name, data in self.data.items():
            steps, passes = steps_and_passes[name]
            if isinstance(data, Stream) and passes > 1 and not self.fit_arguments.get(steps):
                fail(f"`{name}` can be iterated only once, so `{steps}` must be given.", **{steps: None})


def make_plan(
    train,
    validation_data,
    validation_split,
    phases,
    batch_size,
    shuffle,
    seed,
    callbacks,
    verbose,
    fit_arguments,
    several_inputs,
):
    """Returns the `Plan` for the arguments of `fit`; `several_inputs` says whether the model has more than one."""
    fit_arguments = check_fit_arguments(fit_arguments)
    phases = check_phases(default_phases() if phases is None else phases)
    batch_size, shuffle = check_integer("batch_size", batch_size, low=1), check_flag("shuffle", shuffle)
    seed = check_integer("seed", seed, low=0, optional=True)
    verbose = check_choice("verbose", int(verbose) if isinstance(verbose, bool) else verbose, ("auto", 0, 1, 2))
    callbacks = check_callbacks([] if callbacks is None else callbacks, USE_BACKUP_DIR)
    validation_size = fit_arguments.pop("validation_batch_size", None) or batch_size
    train, validation = to_data("train", train, batch_size, shuffle, several_inputs), None
    if validation_split := check_number("validation_split", validation_split, 0, 1, open_high=True):
        if validation_data is not None:
            fail("`validation_split` must be 0 if `validation_data` is given.", validation_split=validation_split)
        train, validation = split(train, validation_split, validation_size)
    elif validation_data is not None:
        validation = to_data("validation_data", validation_data, validation_size, several_inputs=several_inputs)
    seed = int(np.random.randint(2**31)) if seed is None else seed
    return Plan(phases, train, validation, seed, callbacks, verbose, fit_arguments)
