import math
import warnings

import keras
import numpy as np

from keras_reg._messages import say
from keras_reg._validation import check_choice, check_flag, check_integer, check_number, check_verbose, fail
from keras_reg.callbacks import _direction, _monitor, _optimizers, _smoothing
from keras_reg.callbacks._stateful_callback import StatefulCallback


@keras.saving.register_keras_serializable(package="keras_reg")
class SmoothedEarlyStopping(StatefulCallback):
    """Stops training when the smoothed validation curve has stopped improving, and restores the best weights.

    One lucky epoch of a noisy curve neither becomes the best nor resets the patience. The smoothed value is put into
    the logs as `smoothed_<monitor>`, so it is in `History`, and `ModelCheckpoint` or `ReduceLROnPlateau` placed after
    this callback can monitor it (give them an explicit `mode`: with "auto" Keras refuses names it does not know).

    "Best" means the epoch with the best *smoothed* value (with `smoothing=None`: the best raw value). With
    `smoothing=None`, `criterion="patience"` and finite values, every decision is that of
    `keras.callbacks.EarlyStopping`.

    The validation error of epoch t, smoothed, is E(t), and L(t) the training loss. The criteria are:

    - `"patience"`: `patience` epochs in a row did not improve on the best by more than `min_delta`.
    - `"generalization_loss"` (GL): `100 * (E(t) / min_{u<=t} E(u) - 1) > threshold`.
    - `"progress_quotient"` (PQ), at the end of every `strip` of k epochs: `GL(t) / P_k(t) > threshold` with
      `P_k(t) = 1000 * (sum L / (k * min L) - 1)`, sum and minimum over the last k epochs.
    - `"successive_increases"` (UP): the error at the end of a strip is above that at the end of the strip before, in
      `threshold` strips in a row.

    A NaN or infinite value never becomes the best, is kept out of the smoothing, and is logged as the worst value
    there is (inf, or -inf in mode "max"). It counts as an epoch without improvement, so `patience` of them in a row
    stop training, whatever the criterion; `terminate_on_nan=True` stops at the first.

    Under every criterion, training also stops when the (smoothed) value reaches `stopping_threshold`, which is good
    enough, or becomes worse than `divergence_threshold`, from where it will not recover.

    With `use_ema=True` in the optimizer, the model ends with the averaged weights of the best epoch.
    `SwapEMAWeights(swap_on_epoch=True)` must then be placed after this callback.

    Two of these callbacks with different monitors stop training when either does (let one of them restore weights).
    Each `fit` starts anew; `stop.load_state_dict(stop.state_dict())` before the next one makes that go on.

    Args:
        monitor: Name of the value in the logs.
        smoothing: "ema" (bias-corrected exponential moving average), "mean" or "median" (of the last `window` epochs),
            or `None`.
        beta: Decay of "ema", in [0, 1): the share that the past keeps each epoch.
        window: Number of epochs in "mean" and "median".
        criterion: "patience", "generalization_loss", "progress_quotient" or "successive_increases". The last three
            need mode "min", and errors and losses that are not negative.
        min_delta: By how much a value must be better than the best to count as an improvement, at least 0.
        relative: Whether `min_delta` is a share of the best value's magnitude.
        patience: Number of epochs without improvement after which training stops.
        mode: "min", "max" or "auto": the direction that Keras gives its metric, and "min" for names that end in "loss".
        baseline: Value that must be improved on, as well as the best, for the patience to start anew.
        restore_best_weights: Whether the model ends with the weights of the best epoch, stopped early or not.
        start_from_epoch: Number of epochs that are smoothed and logged but not judged.
        verbose: 1 prints the reason for stopping and which epoch is restored.
        strip: Number of epochs in a strip of "progress_quotient" and "successive_increases".
        threshold: That of the last three criteria; `None` takes 5 (GL), 1 (PQ) or 3 (UP).
        terminate_on_nan: Whether the first value that is not finite stops training.
        stopping_threshold: Value at which training stops because it is good enough, or `None`.
        divergence_threshold: Value beyond which training stops because it has failed, or `None`.

    Attributes:
        best: The best (smoothed) value, or `None`.
        best_epoch: Its epoch, from 0.
        stopped_epoch: The epoch after which training was stopped, or 0.
        stop_reason: Why, in words, or `None`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, before the first epoch, if the direction of improvement
            cannot be inferred; after it, if the logs have no `monitor` or its value is not a single number.

    Example:

    >>> stop = keras_reg.callbacks.SmoothedEarlyStopping(smoothing="median", window=3, patience=2)
    >>> stop.set_model(keras.Sequential()); stop.on_train_begin()
    >>> for epoch, loss in enumerate([1.0, 0.9, 0.2, 0.8, 0.7]):  # 0.2 was luck: the curve still falls
    ...     stop.on_epoch_end(epoch, {"val_loss": loss})
    >>> stop.best, stop.best_epoch, stop.stop_reason
    (0.7, 4, None)

    References:
        - Prechelt, Early Stopping: But When?, in Neural Networks: Tricks of the Trade, LNCS 1524, 1998. There E is
          the raw error; here it is smoothed first unless `smoothing=None`.
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
        monitor="val_loss",
        smoothing="ema",
        beta=0.6,
        window=5,
        criterion="patience",
        min_delta=0.0,
        relative=False,
        patience=5,
        mode="auto",
        baseline=None,
        restore_best_weights=True,
        start_from_epoch=0,
        verbose=0,
        strip=5,
        threshold=None,
        terminate_on_nan=False,
        stopping_threshold=None,
        divergence_threshold=None,
    ):
        self.monitor = _monitor.check_monitor(monitor)
        self.smoothing = check_choice("smoothing", smoothing, ("ema", "mean", "median", None))
        self.beta = check_number("beta", beta, 0, 1, open_high=True)
        self.window = check_integer("window", window, low=1)
        self.criterion = check_choice("criterion", criterion, ("patience", *_smoothing.THRESHOLDS))
        self.min_delta = check_number("min_delta", min_delta, low=0)
        self.relative = check_flag("relative", relative)
        self.patience = check_integer("patience", patience, low=0)
        self.mode = check_choice("mode", mode, ("auto", "min", "max"))
        self.baseline = _number_or_none("baseline", baseline)
        self.restore_best_weights = check_flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_integer("start_from_epoch", start_from_epoch, low=0)
        self.verbose = check_verbose(verbose)
        self.strip = check_integer("strip", strip, low=1)
        self.threshold = _number_or_none("threshold", threshold, 1 if criterion == "successive_increases" else 0)
        self.terminate_on_nan = check_flag("terminate_on_nan", terminate_on_nan)
        self.stopping_threshold = _number_or_none("stopping_threshold", stopping_threshold)
        self.divergence_threshold = _number_or_none("divergence_threshold", divergence_threshold)
        if self.criterion != "patience":
            check_choice("mode", self.mode, ("auto", "min"))
        if self.mode != "auto":
            self._check_thresholds(self.mode)
        super().__init__()

    def reset(self):
        self.best = self.best_weights = self.stop_reason = None
        self.best_epoch = self.stopped_epoch = self.wait = self.nonfinite_epochs = 0
        self.values, self.smoothed, self.training_losses = [], [], []

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._warned = self._seen_logs = False
        self._direction = self._find_direction()

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        value = _monitor.read(self, logs, first=not self._seen_logs)
        self._seen_logs = True
        if self._direction is None:  # a metric that is made in the first step
            self._direction = self._find_direction() or _direction.refuse(self)
        if value is None:
            return
        finite = math.isfinite(value)
        if finite:
            self.values.append(value)
            value = _smoothing.smooth(self.values, self.smoothing, self.beta, self.window)
        else:
            value = math.inf if self._direction == "min" else -math.inf
        logs[f"smoothed_{self.monitor}"] = value
        if epoch - self.first_epoch >= self.start_from_epoch:
            self._judge(
                epoch, value, _monitor.number("loss", logs.get("loss", math.nan))
            ) if finite else self._judge_nonfinite(epoch)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self.stop_reason and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping, {self.stop_reason}.")
        if not self.restore_best_weights or self.best_weights is None:
            return
        if self.verbose:
            say(f"Restoring the weights of epoch {self.best_epoch + 1}, the one with the best {self._judged_name()}.")
        self.model.set_weights(self.best_weights)
        _optimizers.averages_from_weights(self.model)

    def _find_direction(self):
        direction = _direction.find(self, self.model)
        if direction is not None:
            if self.criterion != "patience":
                check_choice("mode", direction, ("min",))
            self._check_thresholds(direction)
        return direction

    def _check_thresholds(self, direction):
        good, bad = self.stopping_threshold, self.divergence_threshold
        if good is not None and bad is not None and not (good < bad if direction == "min" else good > bad):
            fail(
                "`stopping_threshold` must be better than `divergence_threshold`.",
                stopping_threshold=good,
                divergence_threshold=bad,
                mode=direction,
            )

    def _judge(self, epoch, value, training_loss):
        self.nonfinite_epochs = 0
        self.smoothed.append(value)
        self.training_losses.append(training_loss)
        self.wait += 1
        improved = self._improves(value, self.best)
        if improved:
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = _optimizers.final_weights(self.model)
            if self.baseline is None or self._improves(value, self.baseline):
                self.wait = 0
        reason = self._reason_by_threshold(value)
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
        """In float32, like Keras: a plateau is flat there, while in float64 an average of equal numbers still moves."""
        if reference is None:
            return True
        margin = self.min_delta * abs(reference) if self.relative else self.min_delta
        if self._direction == "min":
            return bool(np.float32(value + margin) < np.float32(reference))
        return bool(np.float32(value - margin) > np.float32(reference))

    def _reason_by_threshold(self, value):
        """Why a value ends training by itself, or `None`."""
        sign, value = (1 if self._direction == "min" else -1), np.float32(value)
        good, bad = self.stopping_threshold, self.divergence_threshold
        if good is not None and sign * value <= sign * np.float32(good):
            return f"{self._judged_name()} is {value:.6g} and has reached {good:g}"
        if bad is not None and sign * value > sign * np.float32(bad):
            return f"{self._judged_name()} is {value:.6g}, worse than {bad:g}"
        return None

    def _reason(self):
        """Why training is to stop now, or `None`."""
        if self.criterion == "patience":
            patience_is_over = self.wait >= self.patience
            return f"no better {self._judged_name()} for {self.wait} epoch(s)" if patience_is_over else None
        value = _smoothing.reached(self.criterion, self.smoothed, self.training_losses, self.strip)
        if value is None:
            return self._warn_that_criterion_is_undefined()
        threshold = _smoothing.THRESHOLDS[self.criterion] if self.threshold is None else self.threshold
        rises = self.criterion == "successive_increases"
        if value < threshold or (value == threshold and not rises):
            return None
        bound = "at least" if rises else "above"
        return f"{self.criterion} of {self._judged_name()} is {value:.4g}, {bound} {threshold:g}"

    def _warn_that_criterion_is_undefined(self):
        if not self._warned:
            warnings.warn(
                f"The criterion {self.criterion!r} needs errors (and training losses) that are neither negative nor "
                'NaN: it cannot stop this training now. criterion="patience" has no such need.',
                stacklevel=2,
            )
        self._warned = True

    def _stop(self, epoch, reason):
        self.stopped_epoch, self.stop_reason = epoch, reason
        self.model.stop_training = True

    def _judged_name(self):
        return self.monitor if self.smoothing is None else f"smoothed {self.monitor}"

    def get_config(self):
        names = (
            "monitor",
            "smoothing",
            "beta",
            "window",
            "criterion",
            "min_delta",
            "relative",
            "patience",
            "mode",
            "baseline",
            "restore_best_weights",
            "start_from_epoch",
            "verbose",
            "strip",
            "threshold",
            "terminate_on_nan",
            "stopping_threshold",
            "divergence_threshold",
        )
        return {name: getattr(self, name) for name in names}


def _number_or_none(name, value, low=-math.inf):
    return None if value is None else check_number(name, value, low)
