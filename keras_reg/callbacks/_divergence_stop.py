import math
from typing import Literal

import keras

from keras_reg._messages import say
from keras_reg._typing import Config, Logs
from keras_reg._validation import check_choice, check_flag, check_number, check_verbose, fail
from keras_reg.callbacks import _monitor
from keras_reg.callbacks._stateful_callback import StatefulCallback


@keras.saving.register_keras_serializable(package="keras_reg")
class DivergenceStop(StatefulCallback):
    """Stops training when the monitored value exceeds `factor` times its first value, or is NaN or infinite.

    A learning rate that is far too high shows in the first epoch, so a hyperparameter search saves the rest of the
    trial. In an Optuna trial, `raise optuna.TrialPruned()` after `fit` if `stop.diverged`.

    After a first value of v, training stops above v + (factor - 1) * |v|. This is `factor * v` for a positive v, and
    larger than v for a negative one. After a first value of 0, only a value that is not finite stops training.

    Args:
        factor: Multiple of its first value that the monitored value may reach, a number above 1.
        monitor: Name of a logged value that training should lower.
        per: "epoch" checks at the end of every epoch, "step" after every step, when Keras logs the mean over the
            steps of the epoch so far. With "step", the first value is that of the first step, and the logs are
            read from the device after every step.
        verbose: 1 prints where and why training was stopped.
        raise_error: Whether to raise a `RuntimeError` instead of stopping. Then no callback's `on_train_end` runs, so
            backups are kept, and the program exits with an error.

    Attributes:
        diverged: Whether this callback stopped training.
        first: The first value, or `None`.
        stopped_epoch: The epoch in which training was stopped, or `None`.
        stopped_step: The step in which training was stopped with `per="step"`, or `None`.
        stop_reason: The reason as a string, or `None`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, after the first epoch or step, if the logs have no value
            named `monitor`.
        RuntimeError: In `fit`, if training diverges and `raise_error` is set.

    Example:

    >>> stop = keras_reg.callbacks.DivergenceStop(verbose=0)
    >>> stop.set_model(keras.Sequential()); stop.on_train_begin()
    >>> for epoch, loss in enumerate([2.0, 5.0, 6.5]): stop.on_epoch_end(epoch, {"loss": loss})
    >>> stop.diverged, stop.stop_reason
    (True, 'loss is 6.5, above 3 times its first value 2')
    """

    STATE = ("first", "stop_reason", "stopped_step", "stopped_epoch")

    def __init__(
        self,
        factor: float = 3.0,
        monitor: str = "loss",
        per: Literal["epoch", "step"] = "epoch",
        verbose: int = 1,
        raise_error: bool = False,
    ) -> None:
        super().__init__()
        factor = check_number("factor", factor, low=1, open_low=True)
        monitor = _monitor.check_monitor(monitor)
        per = check_choice("per", per, ("epoch", "step"))
        if per == "step" and monitor.startswith("val_"):
            fail(
                '`monitor` must not be a validation value with `per="step"`: it comes once per epoch.', monitor=monitor
            )
        self.factor = factor
        self.monitor = monitor
        self.per = per
        self.verbose = check_verbose(verbose)
        self.raise_error = check_flag("raise_error", raise_error)
        if per == "step":
            # Set here and not defined in the class: if a callback has this method, Keras reads the logs from the device
            # after every batch.
            self.on_train_batch_end = self._after_step

    @property
    def diverged(self) -> bool:
        return self.stop_reason is not None

    def reset(self) -> None:
        self.first = self.stop_reason = self.stopped_step = self.stopped_epoch = None

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self._seen_logs = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.per == "epoch":
            self._judge(logs, epoch)

    def _after_step(self, step, logs=None):
        self._judge(logs, self._epoch, step)

    def _judge(self, logs, epoch, step=None):
        value = _monitor.read(self, logs, first=not self._seen_logs)
        self._seen_logs = True
        if value is None or self.diverged:
            return
        self.first = value if self.first is None else self.first
        reason = self._reason(value)
        if reason:
            self.stop_reason, self.stopped_epoch, self.stopped_step = reason, epoch, step
            where = f"Epoch {epoch + 1}" + ("" if step is None else f", step {step + 1}")
            if self.raise_error:
                raise RuntimeError(f"{where}: training diverged, {reason}.")
            self.model.stop_training = True
            if self.verbose:
                say(f"{where}: training diverged, {reason}.")

    def _reason(self, value):
        if not math.isfinite(value):
            return f"{self.monitor} is {value}"
        if self.first != 0 and value > self.first + (self.factor - 1) * abs(self.first):
            return f"{self.monitor} is {value:.6g}, above {self.factor:g} times its first value {self.first:.6g}"
        return None

    def get_config(self) -> Config:
        return self._arguments_of(DivergenceStop)
