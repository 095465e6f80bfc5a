import copy
import warnings
from types import MappingProxyType
from typing import Any, Literal

import keras

from keras_reg._moving_statistics import check_data, check_form, refresh_statistics
from keras_reg._optimizers import updates_of
from keras_reg._renamed import renamed
from keras_reg._storage import without_bfloat16
from keras_reg._typing import Config, Logs
from keras_reg._validation import check_choice, check_flag, check_integer, check_number, fail
from keras_reg.callbacks._averages._checked_model import check_model
from keras_reg.callbacks._averages._exchange import Exchange
from keras_reg.callbacks._averages._running_average import RunningAverage, averaged_weights, to_arrays
from keras_reg.callbacks._averages._saved import attach, attached, detach
from keras_reg.callbacks._stateful_callback import StatefulCallback
from keras_reg.callbacks._train_function import FollowedStep, innermost, remove_left_behind


@keras.saving.register_keras_serializable(package="keras_reg")
class WeightAverage(StatefulCallback):
    """Averages the weights during training, on the device. At the end of `fit`, the model has the averaged weights.

    The average starts at the weights at the beginning of epoch `start`. With the weights w after an update of the
    optimizer, and t the number of updates of the average so far,

    - `"ema"` (exponential moving average): average = d * average + (1 - d) * w with d = `decay`, or with `warmup`,
      d = min(decay, (1 + t) / (10 + t));
    - `"swa"` (stochastic weight averaging): the mean of all weights since the start, including those at the start.

    It covers every weight of the model, but no counters, states of random generators or `keras_reg.Strength` values.
    The average is in float32, even for `bfloat16` weights. It is updated inside the compiled step, once per
    update of the optimizer: the micro-steps of gradient accumulation and the steps that a `LossScaleOptimizer` skips do
    not count.

    Batch normalization needs the statistics that belong to the averaged weights. With `data`, such as the training
    images, they are computed anew whenever the average is put into the model: the mean and the variance of the inputs
    over all of `data`. In this pass, each normalization uses the statistics of its batch, and all other layers are in
    inference mode. Without `data`, the moving statistics are averaged like weights, since a callback does not see the
    data of `fit`. That suits "ema", which is close to the last weights.

    With `swap="end"`, training and validation use the trained weights, and the average replaces them at the end of
    `fit`. With `swap="validation"`, the average is in the model from the beginning of each validation to the beginning
    of the next epoch, at least at the end of each epoch. So `ModelCheckpoint`, `EarlyStopping` and
    `SmoothedEarlyStopping` save and restore the weights that were scored. `BackupAndRestore` and `persist` save the
    trained weights and the average, and resume with both. `evaluate` and `predict` outside of `fit` use the weights
    that the model has. With `swap="end"`, do not use callbacks that restore the best weights: of these and the average,
    the model keeps those of the last callback in the list.

    If `fit` ends with an error or is interrupted, the model keeps the weights that it has at that time: with
    `swap="validation"`, the average between a validation and the next epoch, and otherwise the trained weights.
    `state_dict()` then contains both.

    Args:
        kind: "ema" or "swa".
        decay: The fraction of the average that each update keeps with "ema", in [0, 1).
        warmup: Whether "ema" starts with a smaller decay, so that the average soon forgets the first weights.
        start: The first epoch that is averaged, counted from 0.
        every: "step" or "epoch": whether each update of the optimizer updates the average, or each end of an epoch.
        update_batch_normalization: Whether the moving statistics of batch normalization are computed from `data`.
            "auto" does so if there is `data`. With `False`, they are averaged like weights.
        data: Arrays x, (x, y) or (x, y, sample_weight), which are read in batches of 32, or a dataset of batches that
            can be iterated repeatedly. Labels are not used. With `swap="validation"`, each epoch reads it once.
        swap: "end" or "validation": when the average replaces the trained weights.

    Attributes:
        updates: The number of updates of the average at the end of the last `fit`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the model is not built or not compiled with a Keras
            optimizer, if the optimizer averages weights itself (`use_ema`), if `every="step"` under
            `keras.distribution`, if `start` is not one of the epochs, or if `data` is empty.

    Example:

    >>> import keras, keras_reg
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> average = keras_reg.callbacks.WeightAverage(decay=0.99)
    >>> history = model.fit(keras.ops.ones((8, 1)), keras.ops.ones((8, 1)), 2, epochs=3, callbacks=[average], verbose=0)
    >>> average.updates
    12

    References:
        - [Polyak and Juditsky, 1992](https://doi.org/10.1137/0330046), who average all iterates.
        - [Stochastic weight averaging](https://arxiv.org/abs/1803.05407) (Izmailov et al., 2018), which averages once
          per epoch under a constant or cyclical learning rate.
    """

    STATE = ("average", "updates", "weights")
    OF_FIT = MappingProxyType({"_known": None, "_running": None, "_exchange": None, "_step": None, "_begun": False})

    @renamed(momentum="decay", beta="decay")
    def __init__(
        self,
        kind: Literal["ema", "swa"] = "ema",
        decay: float = 0.999,
        warmup: bool = True,
        start: int = 0,
        every: Literal["step", "epoch"] = "step",
        update_batch_normalization: Literal["auto"] | bool = "auto",
        data: Any = None,
        swap: Literal["end", "validation"] = "end",
    ) -> None:
        super().__init__()
        self.kind = check_choice("kind", kind, ("ema", "swa"))
        self.decay = check_number("decay", decay, 0, 1, open_high=True)
        self.warmup = check_flag("warmup", warmup)
        self.start = check_integer("start", start, low=0)
        self.every = check_choice("every", every, ("step", "epoch"))
        self.update_batch_normalization = check_choice(
            "update_batch_normalization", update_batch_normalization, ("auto", True, False)
        )
        self.data = data if data is None else check_form(data)
        if update_batch_normalization is True and data is None:
            fail(
                "`update_batch_normalization=True` needs `data`, since a callback does not see that of `fit`.",
                data=data,
            )
        self.swap = check_choice("swap", swap, ("end", "validation"))
        self._known: Any = None
        self._begun, self._is_outside, self._in_fit = False, False, False

    def __getstate__(self):
        self.state_dict()  # brings the average from the device
        return super().__getstate__()

    def __deepcopy__(self, memo):
        return copy.copy(self)  # with the same data

    def reset(self) -> None:
        self.average: list[Any] | None = None
        self.weights: list[Any] | None = None
        self.updates = 0

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._is_outside = True  # in an `evaluate` or `predict` of the user, unless training begins
        if model is not None:
            attach(model, self)  # here, since another callback may load a backup before this one is called again

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self._is_outside, self._begun, self._in_fit = False, False, True
        if attached(self.model) is not self:
            fail("Pass only one `WeightAverage` per model.", callbacks=type(self).__name__)
        check_model(self.model, self.every)
        if self._refreshes():
            check_data(self.data)
        epochs = (self.params or {}).get("epochs")
        if epochs is not None and self.first_epoch + self.start >= epochs:
            fail(
                f"`start` must be less than the number of epochs, {epochs - self.first_epoch}: otherwise the average "
                "never begins.",
                start=self.start,
            )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._loaded:
            self._resume()
        super().on_epoch_begin(epoch, logs)
        if self._begun:
            self._exchange.put_trained()
        elif epoch - self.first_epoch >= self.start:
            self._prepare()
            self._running.begin()
            self._begun = True
        self._is_due = self._begun and self.every == "epoch"
        if self._begun and self._step is not None:
            self._step.install()

    def _prepare(self):
        """Creates the average for this model; it is used until the model is compiled again."""
        model = self.model
        remove_left_behind(model)
        known = [model, model.optimizer, innermost(model.train_function), *averaged_weights(model)]
        if self._known is None or [*map(id, known)] != [*map(id, self._known)]:
            self._known = known
            self._running = RunningAverage(model, self.kind, self.decay, self.warmup)
            self._step = self._following_step() if self.every == "step" else None
        self._exchange = Exchange(self._running)

    def _following_step(self):
        optimizer, running = self.model.optimizer, self._running

        def before():
            return updates_of(optimizer)

        def after(counts):
            made = [new > old for old, new in zip(counts, updates_of(optimizer), strict=True)]
            running.update(keras.ops.any(keras.ops.stack(made)))

        return FollowedStep(self.model, before, after, running.variables)

    def _resume(self):
        """Continues from a loaded state."""
        if self.average is None:
            return
        self._prepare()
        shapes = [tuple(array.shape) for array in self.average]
        own = [tuple(weight.shape) for weight in self._running.weights]
        if shapes != own:
            fail(f"`state` must be that of the same model, whose weights have the shapes {own}.", shapes=shapes)
        self._running.load(self.average, self.updates)
        self._exchange.trained = self.weights
        self._begun = True

    def on_test_begin(self, logs: Logs = None) -> None:
        if not self._is_outside:
            self._end_steps()

    def on_test_end(self, logs: Logs = None) -> None:
        self._end_call()

    def on_predict_end(self, logs: Logs = None) -> None:
        self._end_call()

    def _end_call(self):
        self._is_outside = False
        if not self._in_fit:
            detach(self.model)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._end_steps()

    def _end_steps(self):
        """Does what follows the last step of an epoch, once."""
        if self._begun and self._is_due:
            self._running.update()
            self._is_due = False
        if self._begun and self.swap == "validation":
            self._put_average()

    def on_train_end(self, logs: Logs = None) -> None:
        if self._loaded:  # no epoch was left to train
            self._resume()
        super().on_train_end(logs)
        self._in_fit = False
        detach(self.model)
        if self._begun and self._step is not None:
            self._step.cancel()
        self.updates = self._running.updates if self._begun else 0
        if self.updates:
            self._put_average()
        else:
            warnings.warn(
                f"WeightAverage made no update, so the model keeps its trained weights: training ended before epoch "
                f"{self.start} or took no step of `model.optimizer`.",
                stacklevel=2,
            )

    def _refreshes(self):
        return self.data is not None if self.update_batch_normalization == "auto" else self.update_batch_normalization

    def _put_average(self):
        model = self.model  # on JAX, this copies the state of the compiled step back to the model
        if self._exchange.trained is not None or not self._running.updates:
            return
        self._exchange.put_average()
        try:
            if self._refreshes():
                refresh_statistics(model, self.data)
        except BaseException:
            self._exchange.put_trained()
            raise

    def state_dict(self) -> Config:
        if self._begun:
            trained = self._exchange.trained
            self.average, self.updates = to_arrays(self._running.averages), self._running.updates
            self.weights = None if trained is None else [without_bfloat16(array) for array in to_arrays(trained)]
        return super().state_dict()

    def get_config(self) -> Config:
        return self._arguments_of(WeightAverage)
