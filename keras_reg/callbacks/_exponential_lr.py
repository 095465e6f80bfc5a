from typing import Literal

import keras

from keras_reg._typing import Config
from keras_reg._validation import check_number, fail
from keras_reg.callbacks._scheduled_rates import ScheduledRates


@keras.saving.register_keras_serializable(package="keras_reg")
class ExponentialLR(ScheduledRates):
    """Sets the learning rate to `lr0 * gamma^epoch`, and logs it.

    The rate depends on the number of the epoch, not on the optimizer's step counter. So it is
    right after `fit(initial_epoch=5)`, and with `steps_per_execution` and gradient accumulation. The optimizers of a
    `MultiOptimizer` share one factor, so the ratios of their rates are kept, also at the floor.

    With w = `warmup_epochs`, epoch t has the rate `lr0 * (t + 1) / (w + 1)` while t < w, and
    `max(min_learning_rate, lr0 * gamma^(t - w))` afterwards. With `per="step"` the same holds for fractions of epochs:
    `lr0 * (s + 1) / (S + 1)` in step s of the S steps of the warm-up, then `gamma^(t + step / steps - w)`. With
    `steps_per_execution`, the rate is set once per execution. If `fit` does not know the number of steps, as for a
    generator, the first epoch behaves as with `per="epoch"`. Steps that a loss-scaled optimizer skips are counted too.

    `History` gets `learning_rate`, the rate of the epoch's last step, or `learning_rate_<name>` for each of several
    optimizers.

    lr0 is the optimizer's rate at the start of training, unless this callback has set that rate: then the previous lr0
    is kept. If another callback, such as `ReduceLROnPlateau`, reduces the rate during training, lr0 is reduced by the
    same factor. If a model was saved in the middle of a schedule and training continues with a new callback, pass
    `initial_learning_rate`, or the state of the old callback (`load_state_dict`, `persist`).

    Args:
        gamma: Factor per epoch, positive.
        initial_learning_rate: lr0, or `None` for the optimizer's rate. With several optimizers, it is the highest of
            their rates; the others keep their ratio to it.
        warmup_epochs: Length of a linear warm-up in epochs, with `per="step"` also a fraction.
        min_learning_rate: Floor of the decay. With several optimizers, the floor of the highest rate.
        per: "epoch" or "step".
        verbose: 1 prints the rate at the start of every epoch.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the optimizer already has a `LearningRateSchedule`, or
            if lr0 is below `min_learning_rate`.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.5), "mse")
    >>> decay = keras_reg.callbacks.ExponentialLR(gamma=0.5)
    >>> history = model.fit(keras.ops.ones((4, 1)), keras.ops.ones((4, 1)), epochs=3, callbacks=[decay], verbose=0)
    >>> history.history["learning_rate"]
    [0.5, 0.25, 0.125]

    References:
        - `torch.optim.lr_scheduler.ExponentialLR`, which multiplies the current rate. It has neither a warm-up nor a
          floor.
    """

    def __init__(
        self,
        gamma: float = 0.96,
        initial_learning_rate: float | None = None,
        warmup_epochs: float = 0,
        min_learning_rate: float = 0.0,
        per: Literal["epoch", "step"] = "epoch",
        verbose: int = 0,
    ) -> None:
        super().__init__(initial_learning_rate, per, verbose)
        self.gamma = check_number("gamma", gamma, low=0, open_low=True)
        self.warmup_epochs = check_number("warmup_epochs", warmup_epochs, low=0)
        self.min_learning_rate = check_number("min_learning_rate", min_learning_rate, low=0)

    def _check_initial_rates(self):
        highest = max(self.initial_learning_rates)
        if self.min_learning_rate > highest:
            fail(f"`min_learning_rate` must be at most lr0, {highest:.6g}.", min_learning_rate=self.min_learning_rate)

    def _factor(self, time):
        unit = 1 / self.steps_per_epoch if self.per == "step" and self.steps_per_epoch else 1
        if time < self.warmup_epochs:
            return (time + unit) / (self.warmup_epochs + unit)
        floor = self.min_learning_rate / (max(self.initial_learning_rates) or 1)
        return max(floor, self.gamma ** (time - self.warmup_epochs))

    def get_config(self) -> Config:
        return self._arguments_of(ExponentialLR)
