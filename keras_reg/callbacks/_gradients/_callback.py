"""The callback behind `GradientHistograms`: which training steps are watched, and when they are read."""

import warnings
from types import MappingProxyType
from typing import Any

import keras

from keras_reg._typing import Logs
from keras_reg._validation import fail
from keras_reg.callbacks._gradients._history import gradients_record
from keras_reg.callbacks._gradients._statistics import GradientStatistics
from keras_reg.callbacks._gradients._train_step import steps_taken, watch_batch, watch_next_step
from keras_reg.callbacks._stateful_callback import StatefulCallback
from keras_reg.callbacks._train_function import innermost


class GradientWatcher(StatefulCallback):
    """Decides which training steps are watched, and reads their statistics.

    A subclass sets `every`, `bins` and `include`, and stores the records in `_keep_gradients` and `_keep_state`.
    """

    STATE = ("history", "next_due", "skipped_steps", "steps")
    GROWING = ("history",)
    # These hold what is compiled, or on the device, for one model.
    OF_FIT = MappingProxyType({"_known": None, "_functions": None, "_statistics": None, "_step": None})

    def __init__(self) -> None:
        super().__init__()
        self._known: Any = None

    def reset(self) -> None:
        self.next_due = self.skipped_steps = self.steps = 0

    def _keep_gradients(self, record):
        """Stores the record of a training step."""
        raise NotImplementedError

    def _keep_state(self, **place):
        """Stores whatever else is to be recorded at the end of an epoch, or after a watched step."""
        raise NotImplementedError

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        if not isinstance(self.model.optimizer, keras.optimizers.Optimizer):
            name = type(self).__name__
            fail(f"{name} needs a model that is compiled with a Keras optimizer.", optimizer=self.model.optimizer)
        self._prepare(self.model)
        self._first_epoch, self._due = True, False
        self._skipped = self._step = None

    def _prepare(self, model):
        """Creates the statistics for this model; they are used until the model is compiled again."""
        model.make_train_function()
        known = (model, model.optimizer, innermost(model.train_function))
        if self._known is None or any(a is not b for a, b in zip(self._known, known, strict=True)):
            self._known, self._functions = known, {}
            self._statistics = GradientStatistics(self.bins, self.include, model.name, model.steps_per_execution > 1)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._first_epoch:
            # Not in `on_train_begin`, where another callback may still restore the state of an interrupted run.
            taken = steps_taken(self.model.optimizer)
            if not self._loaded:
                self.steps, self.next_due = taken, self._due_after(taken - 1)
            self._never_taken = self.steps - taken - self.skipped_steps
            self._first_epoch = False
        super().on_epoch_begin(epoch, logs)
        self._epoch = epoch
        self._due = self._due or self.every == "epoch"

    def on_train_batch_begin(self, batch: Any, logs: Logs = None) -> None:
        self._begin = batch
        if self.every != "epoch" and self.steps >= self.next_due:
            self._due, self.next_due = True, self._due_after(self.steps)
        if self._due:
            self._step = watch_next_step(self, self._known[0], self._statistics, self._functions)

    def _due_after(self, step):
        return 0 if self.every == "epoch" else (step // self.every + 1) * self.every

    def on_train_batch_end(self, batch: Any, logs: Logs = None) -> None:
        first = self.steps
        self.steps += self._executed()
        step, self._step = self._step, None
        if step is not None:
            step.cancel()
            if step.done:
                self._see(first)

    def _executed(self):
        """Returns the number of steps of the last execution. Keras does not say where the data ended within it."""
        several, total = self._known[0].steps_per_execution, (self.params or {}).get("steps")
        return several if total is None else min(several, total - self._begin)

    def _see(self, first):
        applied, seen = self._statistics.status()
        self._due = not applied
        if not seen:
            self._due = False
            name = type(self).__name__
            warnings.warn(f"{name} saw no gradient: the training step does not use `model.optimizer`.")
            return
        place = {"epoch": self._epoch, "batch": self._begin + seen - 1, "step": first + seen - 1}
        record = gradients_record(self._statistics, **place, applied=applied)
        if applied:
            self._keep(record)
        else:
            self._skipped = record  # stored only if no other step is applied before the end of the epoch

    def _keep(self, record):
        self._skipped = None
        self._count_skipped()
        self._keep_gradients({**record, "skipped_steps": self.skipped_steps})
        if self.every != "epoch":
            self._keep_state(epoch=self._epoch, step=self.steps - 1)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._skipped is not None:
            self._due = False
            self._keep(self._skipped)
        self._count_skipped()
        if self.every == "epoch":
            self._keep_state(epoch=self._epoch, step=self.steps - 1)

    def _count_skipped(self):
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            self.skipped_steps = self.steps - steps_taken(optimizer) - self._never_taken

    def _watch_batch(self, model, data, **place):
        """Returns the record of what a training step on this batch would give the optimizer."""
        self._prepare(model)
        watch_batch(model, self._statistics, self._functions, data)
        return gradients_record(self._statistics, **place)
