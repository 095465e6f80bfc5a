import math

import keras

from keras_reg._storage import without_bfloat16
from keras_reg._typing import Config, Logs
from keras_reg._validation import check_integer, fail
from keras_reg.callbacks._averaged_weights import final_weights
from keras_reg.callbacks._scheduled_rates import ScheduledRates
from keras_reg.training._copies import check_copied, compile_config_of, copied, network_of, put_weights


@keras.saving.register_keras_serializable(package="keras_reg")
class SnapshotEnsemble(ScheduledRates):
    """Trains in cycles of the learning rate, and keeps the weights at the end of each cycle as a member of an ensemble.

    The epochs of `fit`, from `initial_epoch` on, are divided into `cycles`. In each cycle, the learning rate falls from
    lr0 to almost 0:

        lr(t) = lr0 / 2 * (cos(pi * t / T) + 1) in step t = 0, 1, ... of the T steps of a cycle.

    A cycle ends with an epoch, so the validation of that epoch is the validation of the member. If the number of epochs
    is not a multiple of `cycles`, some cycles are longer by one epoch. `models()` returns the members, which
    `keras_reg.inference.ensemble` combines.

    lr0 is the optimizer's rate at the start of training. The optimizers of a `MultiOptimizer` share one factor, so the
    ratios of their rates are kept. At the end of `fit`, the optimizer has the rate lr0 again, as at the start of a
    cycle. If `fit` ends with an error, it keeps its last rate, and the next `fit` with this callback starts from lr0.

    With `steps_per_execution`, the rate is set once per execution. If `fit` does not know the number of steps, as for a
    generator, it is constant in the first epoch. `History` gets `learning_rate`, the rate of the epoch's last step, or
    `learning_rate_<name>` for each of several optimizers.

    Each `fit` starts anew. After an interruption, `persist` resumes with the members that are complete.

    Args:
        cycles: Number of cycles, at least 1 and at most the number of epochs.
        initial_learning_rate: lr0, or `None` for the optimizer's rate. With several optimizers, it is the highest of
            their rates; the others keep their ratio to it.
        verbose: 1 prints the rate at the start of every epoch.

    Attributes:
        epochs: The epochs, counted from 0, at whose end the weights were kept.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if there are fewer epochs than cycles, or if the optimizer
            already has a `LearningRateSchedule`.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.5), "mse")
    >>> snapshots = keras_reg.callbacks.SnapshotEnsemble(cycles=2)
    >>> history = model.fit(keras.ops.ones((4, 1)), keras.ops.ones((4, 1)), 2, 6, callbacks=[snapshots], verbose=0)
    >>> combined = keras_reg.inference.ensemble(snapshots.models())
    >>> snapshots.epochs
    [2, 5]

    References:
        - [Snapshot Ensembles: Train 1, Get M for Free](https://arxiv.org/abs/1704.00109) (Huang et al., 2017), whose
          cycles have equal numbers of steps.
        - `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`, which has the same rates if the cycles are equal.
    """

    STATE = (*ScheduledRates.STATE, "kept", "begun")
    GROWING = ("kept",)

    def __init__(self, cycles: int = 5, initial_learning_rate: float | None = None, verbose: int = 0) -> None:
        super().__init__(initial_learning_rate, "step", verbose)
        self.cycles = check_integer("cycles", cycles, low=1)

    def reset(self) -> None:
        super().reset()
        self.begun: int | None = None  # the first epoch
        self.kept: dict[str, list] = {"epochs": [], "weights": []}

    @property
    def epochs(self) -> list[int]:
        return list(self.kept["epochs"])

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self._divide(0)
        check_copied(network_of(self.model))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self.begun is None:  # not known before, as `fit` may have an `initial_epoch`
            self.begun = epoch - self.first_epoch
        self._divide(self.begun)
        super().on_epoch_begin(epoch, logs)

    def _find_initial_rates(self, epoch):
        super()._find_initial_rates(epoch - self.begun)  # the cycles begin with the first epoch

    def _divide(self, begun):
        """Divides the epochs from the first one on into cycles."""
        count = (self.params or {}).get("epochs", begun + self.cycles) - self.first_epoch - begun
        if count < self.cycles:
            fail(f"`cycles` must be at most the number of epochs, {count}.", cycles=self.cycles)
        self._starts = [begun + count * number // self.cycles for number in range(self.cycles + 1)]

    def _factor(self, time):
        end = next(end for end in self._starts if end > self._epoch)
        start = max(other for other in self._starts if other < end)
        return (math.cos(math.pi * (time - start) / (end - start)) + 1) / 2

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        super().on_epoch_end(epoch, logs)
        if epoch - self.first_epoch + 1 in self._starts[1:]:
            model = self.model
            values = {id(weight): value for weight, value in zip(model.weights, final_weights(model), strict=True)}
            weights = [without_bfloat16(values[id(weight)]) for weight in network_of(model).weights]
            self.kept["epochs"].append(epoch)
            self.kept["weights"].append(weights)

    def on_train_end(self, logs: Logs = None) -> None:
        super().on_train_end(logs)
        if self.initial_learning_rates:
            self._set_rates(1.0)

    def models(self) -> list[keras.Model]:
        """Returns a new model with the weights at the end of each cycle, in the order of the cycles.

        If the trained model is compiled, the models are compiled with the same loss and metrics. If it is a
        `RegularizedModel`, they are copies of the network in it.

        Raises:
            ValueError: If no cycle is complete yet, or if Keras cannot create the trained model again from its config.
        """
        if self.model is None or not self.kept["weights"]:
            fail("`models` needs a `fit` with this callback in which at least one cycle is complete.",
                 epochs=self.epochs)  # fmt: skip
        return [self._with(weights) for weights in self.kept["weights"]]

    def _with(self, weights):
        model = copied(network_of(self.model))
        put_weights(model, weights)
        config = compile_config_of(self.model)
        if config:
            model.compile(**config)
        return model

    def get_config(self) -> Config:
        return self._arguments_of(SnapshotEnsemble)
