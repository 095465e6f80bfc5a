"""Running the phases of a transfer one after the other."""

import functools

import keras

from keras_reg._messages import say
from keras_reg._validation import fail
from keras_reg.callbacks import persist
from keras_reg.transfer._batches import Batches, EpochOf
from keras_reg.transfer._feature_cache import FeatureCache
from keras_reg.transfer._freeze import check_layers, freeze, open_layers
from keras_reg.transfer._history import AlignedHistory, make_history
from keras_reg.transfer._labels import check_batch, check_every_batch
from keras_reg.transfer._optimizer import PhaseOptimizer
from keras_reg.transfer._phase_backup import PhaseStart
from keras_reg.transfer._rates import rate_groups
from keras_reg.transfer._report import phase_line
from keras_reg.transfer._slots import rate_at
from keras_reg.transfer._stream import Stream
from keras_reg.transfer._trainable import TrainableMap


class Run:
    """Runs a plan on the parts of a transfer.

    Args:
        parts: The `Assembly`.
        objective: The `Objective`, which compiles the models.
        plan: The `Plan`.
        backup: A `PhaseBackup`, or `None`.
        history: Dict that is filled with {name of a phase: its `History`}.
        cache_memory: Bytes of features that are kept in memory.
    """

    def __init__(self, parts, objective, plan, backup, history, cache_memory):
        self.parts, self.objective, self.plan = parts, objective, plan
        self.backup, self.history, self.seed = backup, history, plan.seed
        self.before = TrainableMap(parts.trainer)
        self.kept_frozen = self.before.frozen_beside_others(parts.backbone)
        self.memories, self.loss_scale = {}, None
        self.features = FeatureCache(parts, plan, objective.targets, cache_memory)
        for name, data in plan.data.items():
            if isinstance(data, Stream):
                data.checked(functools.partial(check_batch, name, targets=objective.targets))

    def go(self):
        """Runs all phases, and afterwards restores what is trainable, also after an error."""
        try:
            for phase in self.plan.phases:  # the error of a later phase comes before training starts
                self._set_trainable(phase)
            first = self._resume()
            for number in range(first, len(self.plan.phases)):
                self._run(number, self.plan.phases[number], is_first=number == first)
                self._save(number + 1)
            self.features.forget()
        finally:
            self.before.restore()

    def _resume(self):
        """Returns the number of the phase to start with: the first one, or where an earlier process stopped."""
        start = self.backup and self.backup.load()
        if not start:
            self._save(0)
            return 0
        for phase, (epoch, logs) in zip(self.plan.phases, start.histories, strict=False):
            self.history[phase.name] = make_history(epoch, logs)
        self.memories, self.loss_scale, self.seed = start.memories, start.loss_scale, start.seed
        if self.plan.verbose and start.phase < len(self.plan.phases):
            say(f"Resuming at phase {start.phase + 1}, {self.plan.phases[start.phase].name!r}.")
        elif self.plan.verbose:
            say(f"This training is complete: its model and history are loaded from {self.backup.directory}.")
        return start.phase

    def _save(self, number):
        if self.backup:
            histories = [(history.epoch, history.history) for history in self.history.values()]
            self.backup.save(PhaseStart(number, self.seed, histories, self.memories, self.loss_scale))

    def _run(self, number, phase, is_first):
        self._set_trainable(phase)
        features, reason = self.features.get(phase)
        if is_first and features is None:  # else all labels were checked while features were computed
            self._check_all_labels()
        trainer = self.parts.trainer if reason else self.parts.head_model
        if not trainer.trainable_variables:
            fail("Each phase must train weights, but the backbone is frozen and the head has none.", phase=phase)
        groups = rate_groups(self.parts.backbone, trainer.trainable_variables, phase.layer_decay)
        phase_optimizer = PhaseOptimizer(phase.make_optimizer(), groups, self.memories)
        self._compile(trainer, phase_optimizer)
        if self.plan.verbose:
            say(phase_line(number, len(self.plan.phases), phase, self.parts, phase_optimizer, reason, self.kept_frozen))
        self._fit(
            number, phase, trainer, phase_optimizer.last_rates, *(features or (self.plan.train, self.plan.validation))
        )
        memories, self.loss_scale = phase_optimizer.remember(trainer)
        self.memories |= memories

    def _compile(self, trainer, phase_optimizer):
        if trainer is self.parts.trainer is not self.parts.model:
            # A callback may save the whole model in this phase: its optimizer must fit the weights that train now.
            self.objective.compile(self.parts.model, keras.optimizers.SGD(rate_at(phase_optimizer.template, 0)))
        self.objective.compile(trainer, phase_optimizer.optimizer)
        phase_optimizer.recall(trainer, self.loss_scale)

    def _set_trainable(self, phase):
        self.before.restore()
        freeze(self.parts.backbone)
        if phase.unfreeze is not None:
            layers = check_layers("unfreeze", phase.unfreeze)
            open_layers(self.parts.backbone, layers, phase.batch_norm, self.kept_frozen)

    def _fit(self, number, phase, trainer, last_rates, train, validation):
        start = sum(len(history.epoch) for history in self.history.values())
        history = AlignedHistory()
        callbacks = [last_rates, *phase.callbacks, *self.plan.callbacks, history]
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
                verbose=self.plan.verbose,
                **self.plan.fit_arguments,
            )
        except Exception:
            self._raise_error_of_streams()
            raise
        finally:
            _bring_state_back(history)
            self.history[phase.name] = history
            _count_from(0, callbacks)
        self._raise_error_of_streams()

    def _raise_error_of_streams(self):
        """Raises what was wrong with a batch of a generator: some backends wrap it in an error of their own."""
        for data in self.plan.data.values():
            if isinstance(data, Stream) and data.error:
                raise data.error from None

    def _check_all_labels(self):
        steps = {"train": "steps_per_epoch", "validation_data": "validation_steps"}
        for name, data in self.plan.data.items():
            check_every_batch(name, data, self.objective.targets, self.plan.fit_arguments.get(steps[name]))


def _bring_state_back(callback):
    """Reads the model of a callback: on JAX this copies the state of the compiled step back, also after an error."""
    return callback.model


def _count_from(epoch, callbacks):
    """Makes this package's callbacks count epochs from the start of the phase."""
    for callback in callbacks:
        if hasattr(callback, "first_epoch"):
            callback.first_epoch = epoch


def _as_keras_takes(data):
    return data.generator() if isinstance(data, Stream) else data
