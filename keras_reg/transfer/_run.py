"""Running phases one after the other."""

import functools
import pathlib

import keras

from keras_reg._messages import say
from keras_reg._validation import fail
from keras_reg.callbacks import persist
from keras_reg.transfer._backup import Border
from keras_reg.transfer._data import Batches, EpochOf, Stream
from keras_reg.transfer._features import Store, extract, refusal_by_data, refusal_by_settings
from keras_reg.transfer._freeze import check_layers, freeze, open_layers
from keras_reg.transfer._history import AlignedHistory, make_history
from keras_reg.transfer._labels import check_batch, check_every_batch
from keras_reg.transfer._optimizer import PhaseOptimizer
from keras_reg.transfer._rates import rate_groups
from keras_reg.transfer._report import phase_line
from keras_reg.transfer._slots import rate_at
from keras_reg.transfer._trainable import TrainableMap


class Run:
    """One `fit` of a `TransferLearner`.

    Args:
        learner: The `TransferLearner`; its `history` is filled.
        phases: What is to be done.
        train, validation: `Batches` or datasets; `None` for no validation.
        seed: What the order of the data comes from; `None` keeps it.
        callbacks: Those of all phases.
        backup: A `Backup`, or `None`.
        verbose: As in `fit` of Keras.
        fit_arguments: For `fit` of Keras.
    """

    def __init__(self, learner, phases, train, validation, seed, callbacks, backup, verbose, fit_arguments):
        self.learner, self.phases = learner, phases
        self.train, self.validation, self.seed = train, validation, seed
        self.callbacks, self.backup = list(callbacks), backup
        self.verbose, self.fit_arguments = verbose, fit_arguments
        self.before = TrainableMap(learner.trainer)
        self.closed = self.before.frozen_beside_others(learner.backbone)
        self.memories, self.loss_scale = {}, None
        self.labels_are_checked = False
        for name, data in (("train", train), ("validation", validation)):
            if isinstance(data, Stream):
                data.checked(functools.partial(self._check_labels, name))
        self.features = None  # (train, validation) as `Batches`, as long as the backbone stays as it is

    def go(self):
        """Runs all phases; puts back what trains, whatever happens."""
        try:
            for phase in self.phases:  # an error in the last one would come late
                self._set_trainable(phase)
            for number in range(self._take_up(), len(self.phases)):
                self._run(number, self.phases[number])
                self._save(number + 1)
            self.features = None
        finally:
            self.before.restore()

    def _take_up(self):
        """The number of the phase to begin with: the first, or where a killed training stood."""
        border = self.backup and self.backup.load()
        if not border:
            self._save(0)
            return 0
        for phase, (epoch, logs) in zip(self.phases, border.histories, strict=False):
            self.learner.history[phase.name] = make_history(epoch, logs)
        self.memories, self.loss_scale, self.seed = border.memories, border.loss_scale, border.seed
        if self.verbose and border.phase < len(self.phases):
            say(f"Going on in phase {border.phase + 1}, {self.phases[border.phase].name!r}.")
        elif self.verbose:
            say(f"This training has ended: its model and history come from {self.backup.directory}.")
        return border.phase

    def _save(self, number):
        if self.backup:
            histories = [(history.epoch, history.history) for history in self.learner.history.values()]
            self.backup.save(Border(number, self.seed, histories, self.memories, self.loss_scale))

    def _run(self, number, phase):
        learner = self.learner
        self._set_trainable(phase)
        if phase.unfreeze is not None:
            self.features = None
        refusal = self._find_features(phase)
        self._check_all_labels()
        trainer = learner.trainer if refusal else learner.parts.head_model
        if not trainer.trainable_variables:
            fail("A phase must train something: nothing is unfrozen and the head has no weights to train.", phase=phase)
        groups = rate_groups(learner.backbone, trainer.trainable_variables, phase.layer_decay)
        made = PhaseOptimizer(phase.make_optimizer(), groups, self.memories)
        if refusal and learner.trainer is not learner.model:
            # What holds it may be saved in this phase: the optimizer inside must fit what trains now.
            learner.compile(learner.model, keras.optimizers.SGD(rate_at(made.template, 0)))
        learner.compile(trainer, made.optimizer)
        made.recall(trainer, self.loss_scale)
        if self.verbose:
            say(phase_line(number, len(self.phases), phase, learner, made, refusal, self.closed))
        self._fit(number, phase, trainer, *((self.train, self.validation) if refusal else self.features))
        memories, self.loss_scale = made.remember(trainer)
        self.memories |= memories

    def _set_trainable(self, phase):
        self.before.restore()
        freeze(self.learner.backbone)
        if phase.unfreeze is not None:
            layers = check_layers("unfreeze", phase.unfreeze)
            open_layers(self.learner.backbone, layers, phase.batch_norm, self.closed)

    def _fit(self, number, phase, trainer, train, validation):
        start = sum(len(history.epoch) for history in self.learner.history.values())
        history = AlignedHistory()
        callbacks = [*phase.callbacks, *self.callbacks, history]
        _count_from(start, callbacks)
        if isinstance(train, Batches):
            train = train.with_seed(self.seed, number)
            callbacks.insert(0, EpochOf(train, start))
        if self.backup:
            callbacks = persist(callbacks, self.backup.folder(number), delete_checkpoint=False)
        try:
            trainer.fit(
                _as_keras_takes(train),
                validation_data=_as_keras_takes(validation),
                initial_epoch=start,
                epochs=start + phase.epochs,
                callbacks=callbacks,
                shuffle=False,
                verbose=self.verbose,
                **self.fit_arguments,
            )
        except Exception:
            self._raise_error_of_streams()
            raise
        finally:
            # On JAX this brings the state of the compiled step back, also after an interruption.
            _ = history.model
            self.learner.history[phase.name] = history
            _count_from(0, callbacks)
        self._raise_error_of_streams()

    def _raise_error_of_streams(self):
        """What was wrong with a batch, where the backend would tell it in its own words."""
        for data in (self.train, self.validation):
            if isinstance(data, Stream) and data.error:
                raise data.error from None

    def _find_features(self, phase):
        """Why the features are not computed once, or `None`; then `self.features` holds them."""
        parts = self.learner.parts
        callbacks = [*phase.callbacks, *self.callbacks]
        refusal = refusal_by_settings(phase, parts.extractor, self.learner.augmentation, self.fit_arguments, callbacks)
        if refusal is None or (refusal.soft and phase.insists_on_cache):
            refusal = None
            if self.features is None:
                refusal, shuffled = refusal_by_data(parts.extractor, self.train, self.validation)
        if refusal is None or (refusal.soft and phase.insists_on_cache):
            if self.features is None:
                self._compute_features(phase, shuffled)
            return None
        if phase.insists_on_cache:
            fail(f"The features cannot be computed once: {refusal.reason}.", cache_features=phase.cache_features)
        return refusal

    def _compute_features(self, phase, shuffled):
        folder = None if phase.cache_features in (True, "auto") else pathlib.Path(phase.cache_features)
        found = []
        for name, data in (("train", self.train), ("validation", self.validation)):
            if data is None:
                found.append(None)
                continue
            if self.verbose:
                say(f"Computing the features of the {name} data:")
            store = Store(self.learner.cache_memory, folder and folder / f"{name}_features.npy")
            check = functools.partial(self._check_labels, name)
            shuffle = shuffled and name == "train"
            found.append(extract(self.learner.parts.extractor, data, store, shuffle, self.verbose, check))
        self.features = tuple(found)

    def _check_labels(self, name, labels):
        check_batch("train" if name == "train" else "validation_data", labels, self.learner.target)

    def _check_all_labels(self):
        """Before the first phase; where features were computed, all labels have been looked at."""
        if self.features is None and not self.labels_are_checked:
            target, steps = self.learner.target, self.fit_arguments
            check_every_batch("train", self.train, target, steps.get("steps_per_epoch"))
            check_every_batch("validation_data", self.validation, target, steps.get("validation_steps"))
        self.labels_are_checked = True


def _count_from(epoch, callbacks):
    """What our callbacks do by the number of an epoch, they do by its number in the phase."""
    for callback in callbacks:
        if hasattr(callback, "first_epoch"):
            callback.first_epoch = epoch


def _as_keras_takes(data):
    return data.generator() if isinstance(data, Stream) else data
