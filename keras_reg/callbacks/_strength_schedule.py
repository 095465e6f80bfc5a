import copy
from collections.abc import Callable, Sequence

import keras

from keras_reg._typing import Logs
from keras_reg._validation import fail, is_number
from keras_reg.callbacks._stateful_callback import Detachable


class StrengthSchedule(Detachable):
    """Sets every `keras_reg.Strength` at the start of each epoch to its value times `schedule(epoch)`.

    A rate or stddev that was given to a layer as a `Strength` is a weight of that layer, so the compiled step reads the
    new value and nothing is compiled again.

    Args:
        schedule: Function from the epoch, counted from 0, to a factor in [0, 1].
        layers: A layer or model, or a list of them, whose strengths are changed, such as the layers of an input
            pipeline or a part of the model. `None` changes those of all layers of the trained model.

    Raises:
        ValueError: If `schedule` is not callable or returns anything else, or if there is no `Strength` to change.

    Example:

    >>> import keras_reg
    >>> ramp = keras_reg.callbacks.StrengthSchedule(lambda epoch: min(epoch / 5, 1.0))
    >>> off_at_the_end = keras_reg.callbacks.StrengthSchedule(lambda epoch: float(epoch < 45))
    """

    def __init__(
        self, schedule: Callable[[int], float], layers: keras.layers.Layer | Sequence[keras.layers.Layer] | None = None
    ) -> None:
        super().__init__()
        if not callable(schedule):
            fail("`schedule` must be a function from an epoch to a factor in [0, 1].", schedule=schedule)
        layers = [layers] if isinstance(layers, keras.layers.Layer) else layers
        is_list = isinstance(layers, (list, tuple)) and all(isinstance(x, keras.layers.Layer) for x in layers)
        if layers is not None and not is_list:
            fail("`layers` must be a Keras layer, a list of them, or None.", layers=layers)
        self.schedule = schedule
        self.layers = layers

    def __deepcopy__(self, memo):
        return copy.copy(self)  # with the same layers: copies of them would not be in the model

    def on_train_begin(self, logs: Logs = None) -> None:
        if not self._weights():
            fail("`layers` or the model must have a `keras_reg.Strength` in place of a number.", layers=self.layers)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        epoch -= self.first_epoch
        factor = self.schedule(epoch)
        if not is_number(factor) or not 0 <= factor <= 1:
            fail(f"`schedule` must return a factor in [0, 1], also for epoch {epoch}.", factor=factor)
        for weight in self._weights():
            weight.assign(weight.strength.value * factor)

    def _weights(self):
        owners = [self.model] if self.layers is None else self.layers
        found = {id(v): v for owner in owners for v in owner.variables if hasattr(v, "strength")}
        return list(found.values())
