"""Running phases one after the other."""

import functools
import pathlib
import tempfile

from keras_reg._validation import fail
from keras_reg.callbacks import persist
from keras_reg.transfer._backup import Border
from keras_reg.transfer._data import Batches, EpochOf
from keras_reg.transfer._features import Store, extract, refusal_by_data, refusal_by_settings
from keras_reg.transfer._freeze import freeze, unfreeze
from keras_reg.transfer._history import AlignedHistory, make_history
from keras_reg.transfer._labels import check_batch, check_every_batch
from keras_reg.transfer._layers import TrainableMap
from keras_reg.transfer._optimizer import PhaseOptimizer
from keras_reg.transfer._rates import rate_groups
from keras_reg.transfer._report import phase_line


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
        self.memories, self.loss_scale = {}, None
        self.labels_are_checked = False
        self.features = None  # (train, validation) as `Batches`, as long as the backbone stays as it is
        self.folder = None

    def go(self):
        """Runs all phases; puts back what trains, whatever happens."""
        try:
            for phase in self.phases:  # an error in the last one would come late
                self._set_trainable(phase)
            with tempfile.TemporaryDirectory(prefix="keras_reg_features_") as folder:
                self.folder = pathlib.Path(folder)
                for number in range(self._take_up(), len(self.phases)):
                    self._run(number, self.phases[number])
                    self._save(number + 1)
                self.features = None
            if self.backup:
                self.backup.remove()
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
            print(f"Going on in phase {border.phase + 1}, {self.phases[border.phase].name!r}.")
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
        learner.compile(trainer, made.optimizer)
        made.recall(trainer, self.loss_scale)
        if self.verbose:
            print(phase_line(number, len(self.phases), phase, learner, made, refusal))
        self._fit(number, phase, trainer, *((self.train, self.validation) if refusal else self.features))
        memories, self.loss_scale = made.remember(trainer)
        self.memories |= memories

    def _set_trainable(self, phase):
        self.before.restore()
        freeze(self.learner.backbone)
        if phase.unfreeze is not None:
            unfreeze(self.learner.backbone, phase.unfreeze, phase.batch_norm)

    def _fit(self, number, phase, trainer, train, validation):
        history = AlignedHistory()
        callbacks = [*phase.callbacks, *self.callbacks, history]
        arguments = dict(self.fit_arguments)
        if isinstance(train, Batches):
            train = train.with_seed(self.seed, number)
            callbacks.insert(0, EpochOf(train))
        if self.backup:
            callbacks = persist(callbacks, self.backup.folder(number), delete_checkpoint=False)
        try:
            trainer.fit(
                train,
                validation_data=validation,
                epochs=phase.epochs,
                callbacks=callbacks,
                shuffle=False,
                verbose=self.verbose,
                **arguments,
            )
        finally:
            # On JAX this brings the state of the compiled step back, also after an interruption.
            _ = history.model
            self.learner.history[phase.name] = history

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
        folder, limit = self.folder, self.learner.cache_memory
        if not isinstance(phase.cache_features, bool) and phase.cache_features != "auto":
            folder, limit = pathlib.Path(phase.cache_features), 0
        found = []
        for name, data in (("train", self.train), ("validation", self.validation)):
            if data is None:
                found.append(None)
                continue
            if self.verbose:
                print(f"Computing the features of the {name} data:")
            store = Store(folder / f"{name}_features.npy", limit)
            check = functools.partial(self._check_labels, name)
            shuffle = shuffled and name == "train"
            found.append(extract(self.learner.parts.extractor, data, store, shuffle, self.verbose, check))
        self.features = tuple(found)

    def _check_labels(self, name, labels):
        name = "train" if name == "train" else "validation_data"
        check_batch(name, labels, self.learner.model, self.learner.loss)

    def _check_all_labels(self):
        """Before the first phase; where features were computed, all labels have been looked at."""
        if self.features is None and not self.labels_are_checked:
            fitted, steps = (self.learner.model, self.learner.loss), self.fit_arguments
            check_every_batch("train", self.train, *fitted, steps.get("steps_per_epoch"))
            check_every_batch("validation_data", self.validation, *fitted, steps.get("validation_steps"))
        self.labels_are_checked = True
