import math

from keras_reg import _direction
from keras_reg._typing import Logs
from keras_reg.callbacks import _monitor, _smoothing
from keras_reg.callbacks._stateful_callback import StatefulCallback


class SmoothedCurve(StatefulCallback):
    """Smooths a monitored value, logs it as `smoothed_<monitor>`, and passes the value of each epoch on.

    A subclass stores the arguments `monitor`, `mode`, `smoothing`, `beta`, `window` and `start_from_epoch`, has the
    list `values` in its state, and implements the methods that raise here.
    """

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self._seen_logs = False
        self._direction = self._find_direction()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs = {} if logs is None else logs
        value = _monitor.read(self, logs, first=not self._seen_logs)
        self._seen_logs = True
        if self._direction is None:  # the metric is created in the first step
            self._direction = self._find_direction() or _direction.refuse(self.mode, monitor=self.monitor)
        if value is None:
            return
        finite = math.isfinite(value)
        if finite:
            self.values.append(value)
            value = _smoothing.smooth(self.values, self.smoothing, self.beta, self.window)
        else:
            value = math.inf if self._direction == "min" else -math.inf
        logs[f"smoothed_{self.monitor}"] = value
        if epoch - self.first_epoch < self.start_from_epoch:
            return
        if finite:
            self._judge(epoch, value, _monitor.number("loss", logs.get("loss", math.nan)))
        else:
            self._judge_nonfinite(epoch)

    def _find_direction(self):
        direction = _direction.find(self.monitor, self.mode, self.model)
        if direction is not None:
            self._check_direction(direction)
        return direction

    def _check_direction(self, direction):
        """Raises if the arguments do not fit the direction, "min" or "max"."""
        raise NotImplementedError

    def _judge(self, epoch, value, training_loss):
        """Takes the smoothed value of an epoch."""
        raise NotImplementedError

    def _judge_nonfinite(self, epoch):
        """Takes note of an epoch whose value is not finite."""
        raise NotImplementedError

    def _judged_name(self):
        return self.monitor if self.smoothing is None else f"smoothed {self.monitor}"
