import math
import warnings
from typing import Literal

import keras

from keras_reg._messages import say
from keras_reg._optimizers import members, rate_of
from keras_reg._typing import Config, Logs
from keras_reg._validation import check_choice, check_number, check_verbose, fail
from keras_reg.callbacks._stateful_callback import StatefulCallback

# Half precision changes a learning rate by less than this fraction; a person changes it by more.
SAME = 0.005


@keras.saving.register_keras_serializable(package="keras_reg")
class ExponentialLR(StatefulCallback):
    """Sets the learning rate to `lr0 * gamma^epoch`, and logs it.

    The rate depends only on the number of the epoch, not on the previous rate or the optimizer's step counter. So it is
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
    is kept. If a model was saved in the middle of a schedule and training continues with a new callback, pass
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

    STATE = ("initial_learning_rates", "learning_rates", "steps_per_epoch")

    def __init__(
        self,
        gamma: float = 0.96,
        initial_learning_rate: float | None = None,
        warmup_epochs: float = 0,
        min_learning_rate: float = 0.0,
        per: Literal["epoch", "step"] = "epoch",
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.gamma = check_number("gamma", gamma, low=0, open_low=True)
        self.initial_learning_rate = check_number(
            "initial_learning_rate", initial_learning_rate, low=0, open_low=True, optional=True
        )
        self.warmup_epochs = check_number("warmup_epochs", warmup_epochs, low=0)
        self.min_learning_rate = check_number("min_learning_rate", min_learning_rate, low=0)
        self.per = check_choice("per", per, ("epoch", "step"))
        self.verbose = check_verbose(verbose)
        self.initial_learning_rates, self.learning_rates = [], []
        if self.per == "step":
            # Set here and not defined in the class, and safe in a thread, so that Keras does not wait for the device
            # after every batch.
            self.on_train_batch_end, self.async_safe = self._count, True

    def reset(self) -> None:
        # The rates are kept: they tell whether the optimizer still has the rate that this callback set.
        self.steps_per_epoch: int | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        for optimizer in self._find_optimizers():
            if not isinstance(optimizer.learning_rate, keras.Variable):
                fail(
                    "`ExponentialLR` needs an optimizer whose learning rate is a number, such as "
                    "`keras.optimizers.Adam(1e-3)`. Compile with a number, or leave this callback out.",
                    learning_rate=_schedule_name(optimizer),
                )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        number = epoch - self.first_epoch
        if not self._loaded:
            self._find_initial_rates(number)
        super().on_epoch_begin(epoch, logs)
        self.steps_per_epoch = (self.params or {}).get("steps") or self.steps_per_epoch
        self._epoch, self._ended = number, []
        self._set(number)
        if self.verbose:
            say(f"Epoch {epoch + 1}: learning rate {', '.join(f'{rate:.6g}' for rate in self.learning_rates)}.")

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if self.per == "step" and batch and self.steps_per_epoch:
            self._set(self._epoch + min(batch / self.steps_per_epoch, 1))

    def _count(self, batch, logs=None):
        if not self.steps_per_epoch:
            self._ended.append(batch)  # the threads of Keras may report two batches in either order

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.steps_per_epoch = self.steps_per_epoch or 1 + max(self._ended, default=-1)
        optimizers = members(self.model.optimizer)
        for optimizer in optimizers if logs is not None else ():
            name = "learning_rate" if len(optimizers) == 1 else f"learning_rate_{optimizer.name}"
            logs[name] = rate_of(optimizer)  # type: ignore[index]

    def _find_optimizers(self):
        optimizer = self.model.optimizer
        if not members(optimizer) and self.model.built:  # a `MultiOptimizer` may create its members when it is built
            optimizer.build(self.model.trainable_variables)
        if not members(optimizer):
            fail(
                "The model must be built and compiled with an optimizer that has a learning rate.", optimizer=optimizer
            )
        return members(optimizer)

    def _find_initial_rates(self, epoch):
        """Takes the optimizer's rates as lr0, unless this callback has set them."""
        rates = [rate_of(optimizer) for optimizer in members(self.model.optimizer)]
        untouched = len(rates) == len(self.learning_rates) and all(
            math.isclose(rate, own, rel_tol=SAME) for rate, own in zip(rates, self.learning_rates, strict=True)
        )
        if not untouched:
            self.initial_learning_rates = rates
        highest = max(self.initial_learning_rates)
        if self.initial_learning_rate is not None:
            ratios = [rate / highest if highest else 1.0 for rate in self.initial_learning_rates]
            self.initial_learning_rates = [self.initial_learning_rate * ratio for ratio in ratios]
        elif epoch > self.first_epoch and not untouched:
            warnings.warn(
                f"ExponentialLR starts in epoch {epoch} and assumes that the optimizer's learning rate, {highest:.6g}, "
                "is that of epoch 0. If it has decayed before, pass `initial_learning_rate` or load the callback's "
                "state.",
                stacklevel=2,
            )
        highest = max(self.initial_learning_rates)
        if self.min_learning_rate > highest:
            fail(f"`min_learning_rate` must be at most lr0, {highest:.6g}.", min_learning_rate=self.min_learning_rate)

    def _set(self, time):
        """Sets the rates for a time that is counted in epochs."""
        factor = self._factor(time)
        self.learning_rates = [factor * rate for rate in self.initial_learning_rates]
        # On JAX, reading `self.model` copies the state of the compiled step back, so the next step takes this rate.
        for optimizer, rate in zip(members(self.model.optimizer), self.learning_rates, strict=True):
            optimizer.learning_rate = rate

    def _factor(self, time):
        unit = 1 / self.steps_per_epoch if self.per == "step" and self.steps_per_epoch else 1
        if time < self.warmup_epochs:
            return (time + unit) / (self.warmup_epochs + unit)
        floor = self.min_learning_rate / (max(self.initial_learning_rates) or 1)
        return max(floor, self.gamma ** (time - self.warmup_epochs))

    def get_config(self) -> Config:
        return self._arguments_of(ExponentialLR)


def _schedule_name(optimizer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns when it serializes a lambda
        return optimizer.get_config()["learning_rate"]["class_name"]
