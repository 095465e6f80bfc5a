import warnings
from typing import Literal

import keras

from keras_reg._messages import say
from keras_reg._typing import Config, Logs
from keras_reg._validation import check_choice, check_flag, check_integer, check_number, check_verbose
from keras_reg.callbacks import _averaged_weights, _monitor, _smoothing
from keras_reg.callbacks._averages._saved import warn_of_average_at_the_end
from keras_reg.callbacks._smoothed_curve import SmoothedCurve
from keras_reg.callbacks._stopping import check_thresholds, improves, reason_by_criterion, reason_by_threshold


@keras.saving.register_keras_serializable(package="keras_reg")
class SmoothedEarlyStopping(SmoothedCurve):
    """Stops training when the smoothed validation curve no longer improves, and restores the best weights.

    A single lucky epoch of a noisy curve neither becomes the best nor resets the patience. The smoothed value is logged
    as `smoothed_<monitor>`, so it is in `History`, and a `ModelCheckpoint` or `ReduceLROnPlateau` after this callback
    can monitor it. (Set their `mode`: with "auto", Keras refuses names it does not know.)

    The best epoch is the one with the best *smoothed* value, or the best raw value with `smoothing=None`. With
    `smoothing=None`, `criterion="patience"` and finite values, every decision is that of
    `keras.callbacks.EarlyStopping`.

    With E(t) the smoothed validation error of epoch t and L(t) the training loss, the criteria are:

    - `"patience"`: `patience` epochs in a row did not improve on the best value by more than `min_delta`.
    - `"generalization_loss"` (GL): `100 * (E(t) / min_{u<=t} E(u) - 1) > threshold`.
    - `"progress_quotient"` (PQ), at the end of every `strip` of k epochs: `GL(t) / P_k(t) > threshold` with
      `P_k(t) = 1000 * (sum L / (k * min L) - 1)`, sum and minimum over the last k epochs.
    - `"successive_increases"` (UP): in `threshold` strips in a row, the error at the end of the strip exceeds that at
      the end of the previous strip.

    A NaN or infinite value never becomes the best. It is left out of the smoothing and logged as the worst possible
    value (inf, or -inf in mode "max"). It counts as an epoch without improvement, so `patience` of them in a row stop
    training under every criterion; `terminate_on_nan=True` stops at the first.

    Under every criterion, training also stops when the (smoothed) value reaches `stopping_threshold`, or becomes worse
    than `divergence_threshold`.

    With `use_ema=True` in the optimizer, the model ends with the averaged weights of the best epoch.
    `SwapEMAWeights(swap_on_epoch=True)` must then be placed after this callback.

    Two of these callbacks with different monitors stop training when either of them does. Only one of them should
    restore weights. Each `fit` starts anew. To continue instead, call `stop.load_state_dict(stop.state_dict())` before
    the next `fit`.

    Args:
        monitor: Name of the value in the logs.
        smoothing: "ema" (bias-corrected exponential moving average), "mean" or "median" (of the last `window` epochs),
            or `None`.
        beta: Decay of "ema", in [0, 1): the fraction of the previous average that each epoch keeps.
        window: Number of epochs in "mean" and "median".
        criterion: "patience", "generalization_loss", "progress_quotient" or "successive_increases". The last three
            need mode "min", and errors and losses that are not negative.
        min_delta: Least amount, at least 0, by which a value must be better than the best to count as an improvement.
        relative: Whether `min_delta` is a fraction of the best value's magnitude.
        patience: Number of epochs without improvement after which training stops.
        mode: "min", "max" or "auto": the direction of the Keras metric, and "min" for names that end in "loss".
        baseline: Value that an epoch must improve on, besides the best value, to reset the patience.
        restore_best_weights: Whether the model ends with the weights of the best epoch, whether stopped early or not.
        start_from_epoch: Number of epochs that are smoothed and logged but not judged.
        verbose: 1 prints the reason for stopping and which epoch is restored.
        strip: Number of epochs in a strip of "progress_quotient" and "successive_increases".
        threshold: Threshold of the last three criteria. `None` means 5 (GL), 1 (PQ) or 3 (UP).
        terminate_on_nan: Whether the first value that is not finite stops training.
        stopping_threshold: Value at which training stops because it is good enough, or `None`.
        divergence_threshold: Value beyond which training stops because it has failed, or `None`.

    Attributes:
        best: The best (smoothed) value, or `None`.
        best_epoch: The epoch of this value, counted from 0.
        stopped_epoch: The epoch after which training was stopped, or 0.
        stop_reason: The reason as a string, or `None`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, before the first epoch, if the direction of improvement
            cannot be inferred; after the first epoch, if the logs have no `monitor` or its value is not a single
            number.

    Example:

    >>> stop = keras_reg.callbacks.SmoothedEarlyStopping(smoothing="median", window=3, patience=2)
    >>> stop.set_model(keras.Sequential()); stop.on_train_begin()
    >>> for epoch, loss in enumerate([1.0, 0.9, 0.2, 0.8, 0.7]):  # 0.2 was luck: the curve still falls
    ...     stop.on_epoch_end(epoch, {"val_loss": loss})
    >>> stop.best, stop.best_epoch, stop.stop_reason
    (0.7, 4, None)

    References:
        - Prechelt, Early Stopping: But When?, in Neural Networks: Tricks of the Trade, LNCS 1524, 1998, where E is the
          raw error. Here it is smoothed first, unless `smoothing=None`.
    """

    STATE = (
        "best",
        "best_epoch",
        "best_weights",
        "nonfinite_epochs",
        "smoothed",
        "stop_reason",
        "stopped_epoch",
        "training_losses",
        "values",
        "wait",
    )

    def __init__(
        self,
        monitor: str = "val_loss",
        smoothing: Literal["ema", "mean", "median"] | None = "ema",
        beta: float = 0.6,
        window: int = 5,
        criterion: Literal["patience", "generalization_loss", "progress_quotient", "successive_increases"] = "patience",
        min_delta: float = 0.0,
        relative: bool = False,
        patience: int = 5,
        mode: Literal["auto", "min", "max"] = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
        verbose: int = 0,
        strip: int = 5,
        threshold: float | None = None,
        terminate_on_nan: bool = False,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
    ) -> None:
        super().__init__()
        self.monitor = _monitor.check_monitor(monitor)
        self.smoothing = check_choice("smoothing", smoothing, ("ema", "mean", "median", None))
        self.beta = check_number("beta", beta, 0, 1, open_high=True)
        self.window = check_integer("window", window, low=1)
        self.criterion = check_choice("criterion", criterion, ("patience", *_smoothing.THRESHOLDS))
        self.min_delta = check_number("min_delta", min_delta, low=0)
        self.relative = check_flag("relative", relative)
        self.patience = check_integer("patience", patience, low=0)
        self.mode = check_choice("mode", mode, ("auto", "min", "max"))
        self.baseline = check_number("baseline", baseline, optional=True)
        self.restore_best_weights = check_flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_integer("start_from_epoch", start_from_epoch, low=0)
        self.verbose = check_verbose(verbose)
        self.strip = check_integer("strip", strip, low=1)
        least = 1 if criterion == "successive_increases" else 0
        self.threshold = check_number("threshold", threshold, least, optional=True)
        self.terminate_on_nan = check_flag("terminate_on_nan", terminate_on_nan)
        self.stopping_threshold = check_number("stopping_threshold", stopping_threshold, optional=True)
        self.divergence_threshold = check_number("divergence_threshold", divergence_threshold, optional=True)
        if self.mode != "auto":
            self._check_direction(self.mode)

    def reset(self) -> None:
        self.best = self.best_weights = self.stop_reason = None
        self.best_epoch = self.stopped_epoch = self.wait = self.nonfinite_epochs = 0
        self.values, self.smoothed, self.training_losses = [], [], []

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self._warned = False
        if self.restore_best_weights:
            warn_of_average_at_the_end(self.model, type(self).__name__)

    def on_train_end(self, logs: Logs = None) -> None:
        super().on_train_end(logs)
        if self.stop_reason and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping, {self.stop_reason}.")
        if not self.restore_best_weights or self.best_weights is None:
            return
        if self.verbose:
            say(f"Restoring the weights of epoch {self.best_epoch + 1}, the one with the best {self._judged_name()}.")
        self.model.set_weights(self.best_weights)
        _averaged_weights.averages_from_weights(self.model)

    def _check_direction(self, direction):
        if self.criterion != "patience":
            check_choice("mode", direction, ("min",))
        check_thresholds(self.stopping_threshold, self.divergence_threshold, direction)

    def _judge(self, epoch, value, training_loss):
        self.nonfinite_epochs = 0
        self.smoothed.append(value)
        self.training_losses.append(training_loss)
        self.wait += 1
        improved = self._improves(value, self.best)
        if improved:
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = _averaged_weights.final_weights(self.model)
            if self.baseline is None or self._improves(value, self.baseline):
                self.wait = 0
        thresholds = self.stopping_threshold, self.divergence_threshold
        reason = reason_by_threshold(*thresholds, self._direction, value, self._judged_name())
        if not reason and not (improved and self.criterion == "patience"):
            reason = self._reason() if epoch > self.first_epoch else None
        if reason:
            self._stop(epoch, reason)

    def _judge_nonfinite(self, epoch):
        self.wait += 1
        self.nonfinite_epochs += 1
        if self.terminate_on_nan or self.nonfinite_epochs >= max(self.patience, 1):
            self._stop(epoch, f"{self.monitor} was not finite for {self.nonfinite_epochs} epoch(s)")
        elif self.criterion == "patience" and self.wait >= self.patience:
            self._stop(epoch, self._reason())

    def _improves(self, value, reference):
        return improves(value, reference, self._direction, self.min_delta, self.relative)

    def _reason(self):
        """Returns why the criterion stops training now, or `None`."""
        if self.criterion == "patience":
            patience_is_over = self.wait >= self.patience
            return f"no better {self._judged_name()} for {self.wait} epoch(s)" if patience_is_over else None
        value = _smoothing.reached(self.criterion, self.smoothed, self.training_losses, self.strip)
        if value is None:
            return self._warn_that_criterion_is_undefined()
        return reason_by_criterion(self.criterion, value, self.threshold, self._judged_name())

    def _warn_that_criterion_is_undefined(self):
        if not self._warned:
            warnings.warn(
                f"The criterion {self.criterion!r} cannot stop this training now: it needs errors and training losses "
                'that are neither negative nor NaN. `criterion="patience"` accepts all values.',
                stacklevel=2,
            )
        self._warned = True

    def _stop(self, epoch, reason):
        self.stopped_epoch, self.stop_reason = epoch, reason
        self.model.stop_training = True

    def get_config(self) -> Config:
        return self._arguments_of(SmoothedEarlyStopping)
