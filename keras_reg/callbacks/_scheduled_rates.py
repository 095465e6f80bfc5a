import math
import warnings
import weakref
from types import MappingProxyType

import keras

from keras_reg._messages import say
from keras_reg._optimizers import members, rate_of
from keras_reg._typing import Logs
from keras_reg._validation import check_choice, check_number, check_verbose, fail
from keras_reg.callbacks._stateful_callback import StatefulCallback

# Half precision changes a learning rate by less than this fraction; a person changes it by more.
SAME = 0.005


class ScheduledRates(StatefulCallback):
    """Sets the learning rates of all optimizers to their initial rates times one factor, and logs them.

    A subclass implements `_factor`.

    Args:
        initial_learning_rate: The highest initial rate, or `None` for the rates of the optimizers.
        per: "epoch" or "step": how often the rates are set.
        verbose: 1 prints the rates at the start of every epoch.
    """

    OF_FIT = MappingProxyType({"_optimizers": (), "_runs": False})
    STATE: tuple[str, ...] = ("initial_learning_rates", "learning_rates", "steps_per_epoch")

    def __init__(self, initial_learning_rate, per, verbose):
        super().__init__()
        self.initial_learning_rate = check_number(
            "initial_learning_rate", initial_learning_rate, low=0, open_low=True, optional=True
        )
        self.per = check_choice("per", per, ("epoch", "step"))
        self.verbose = check_verbose(verbose)
        self.initial_learning_rates, self.learning_rates = [], []
        self._optimizers, self._runs = (), False  # whose rates it has set, and whether an epoch of this `fit` has begun
        if self.per == "step":
            # Set here and not defined in the class, and safe in a thread, so that Keras does not wait for the device
            # after every batch.
            self.on_train_batch_end, self.async_safe = self._count, True

    def _factor(self, time):
        """Returns the factor for a time that is counted in epochs."""
        raise NotImplementedError

    def _check_initial_rates(self):
        """Raises if the initial rates do not fit the other arguments."""

    def reset(self) -> None:
        # The rates are kept: they tell whether the optimizer still has the rate that this callback set.
        self.steps_per_epoch: int | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self._runs = False
        for optimizer in self._find_optimizers():
            if not isinstance(optimizer.learning_rate, keras.Variable):
                fail(
                    f"`{type(self).__name__}` needs an optimizer whose learning rate is a number, such as "
                    "`keras.optimizers.Adam(1e-3)`. Compile with a number, or leave this callback out.",
                    learning_rate=_schedule_name(optimizer),
                )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        number = epoch - self.first_epoch
        if not self._loaded:
            self._find_initial_rates(number)
        self._optimizers = tuple(weakref.ref(optimizer) for optimizer in members(self.model.optimizer))
        self._runs = True
        super().on_epoch_begin(epoch, logs)
        self.steps_per_epoch = (self.params or {}).get("steps") or self.steps_per_epoch
        self._epoch, self._ended = number, []
        self._set_rates(self._factor(number))
        if self.verbose:
            say(f"Epoch {epoch + 1}: learning rate {', '.join(f'{rate:.6g}' for rate in self.learning_rates)}.")

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        # With data of unknown length, Keras begins one batch more than there are, which is no step.
        if self.per == "step" and self.steps_per_epoch and 0 < batch < self.steps_per_epoch:
            self._set_rates(self._factor(self._epoch + batch / self.steps_per_epoch))

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

    def _find_initial_rates(self, number):
        """Takes the optimizer's rates as the initial ones, unless this callback has set them.

        A new optimizer may have the rates that this callback has set for another one. It counts as the same optimizer,
        loaded from a file, only if training does not start anew. If something else, such as `ReduceLROnPlateau`, has
        reduced a rate during this training, the initial rate is reduced by the same factor.
        """
        optimizers = members(self.model.optimizer)
        rates = [rate_of(optimizer) for optimizer in optimizers]
        known = [reference() for reference in self._optimizers]
        same = len(known) == len(optimizers) and all(a is b for a, b in zip(known, optimizers, strict=True))
        untouched = (same or number > 0) and len(rates) == len(self.learning_rates) and all(
            math.isclose(rate, own, rel_tol=SAME) for rate, own in zip(rates, self.learning_rates, strict=True)
        )  # fmt: skip
        if same and self._runs and untouched:
            return
        if same and self._runs and all(self.learning_rates):
            changes = [rate / own for rate, own in zip(rates, self.learning_rates, strict=True)]
            if max(changes) <= 1 + SAME:
                pairs = zip(self.initial_learning_rates, changes, strict=True)
                self.initial_learning_rates = [initial * change for initial, change in pairs]
                return
        if not untouched:
            self.initial_learning_rates = rates
        highest = max(self.initial_learning_rates)
        if self.initial_learning_rate is not None:
            ratios = [rate / highest if highest else 1.0 for rate in self.initial_learning_rates]
            self.initial_learning_rates = [self.initial_learning_rate * ratio for ratio in ratios]
        elif number > 0 and not untouched:
            warnings.warn(
                f"{type(self).__name__} starts in epoch {number} and assumes that the optimizer's learning rate, "
                f"{highest:.6g}, is that of epoch 0. If it has decayed before, pass `initial_learning_rate` or load "
                "the callback's state.",
                stacklevel=2,
            )
        self._check_initial_rates()

    def _set_rates(self, factor):
        self.learning_rates = [factor * rate for rate in self.initial_learning_rates]
        # On JAX, reading `self.model` copies the state of the compiled step back, so the next step takes this rate.
        for optimizer, rate in zip(members(self.model.optimizer), self.learning_rates, strict=True):
            optimizer.learning_rate = rate


def _schedule_name(optimizer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns when it serializes a lambda
        return optimizer.get_config()["learning_rate"]["class_name"]
