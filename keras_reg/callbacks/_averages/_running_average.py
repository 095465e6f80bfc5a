"""The running average of the weights of a model, in variables on the device."""

import keras
import numpy as np
from keras import ops

from keras_reg import _backend
from keras_reg.callbacks._train_function import strategy_scope


def averaged_weights(model):
    """Returns the variables that an average covers: all numbers that training changes.

    Counters, the states of random generators, metrics, and strengths, which a schedule sets, are not averaged.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    return [
        variable
        for variable in [*model.trainable_variables, *model.non_trainable_variables]
        if not (_backend.is_seed(variable) or hasattr(variable, "strength") or id(variable) in metrics)
    ]


class RunningAverage:
    """The average of each weight, and the number of updates.

    Args:
        model: The model.
        kind, decay, warmup: Arguments of `WeightAverage`.
    """

    def __init__(self, model, kind, decay, warmup):
        self.kind, self.decay, self.warmup = kind, decay, warmup
        self.weights = averaged_weights(model)
        with strategy_scope(model):
            self.count = _variable((), "int32")
            # Half precision would round small updates away.
            dtypes = [keras.backend.result_type(weight.dtype, "float32") for weight in self.weights]
            self.averages = [_variable(w.shape, dtype) for w, dtype in zip(self.weights, dtypes, strict=True)]

    @property
    def variables(self):
        return [self.count, *self.averages]

    @property
    def updates(self):
        return int(ops.convert_to_numpy(self.count))

    def begin(self):
        """Starts at the current weights."""
        self.load(self.weights, 0)

    def load(self, values, updates):
        """Continues from averages after a number of updates."""
        put(values, self.averages)
        self.count.assign(np.int32(updates))

    @_backend.not_compiled
    def update(self, due=True):
        """Updates the average if the scalar `due` holds."""
        made = ops.cast(self.count, "float32")
        share = ops.where(due, self._share(made), 0.0)
        _backend.move_towards(self.averages, self.weights, share)
        self.count.assign(self.count + ops.cast(due, "int32"))

    def _share(self, made):
        """Returns the weight of the new values after so many updates."""
        if self.kind == "swa":
            return 1 / (made + 2)  # the weights at the beginning count too
        share = ops.convert_to_tensor(1 - self.decay, "float32")
        # 1 - min(decay, (1 + t) / (10 + t)), without the rounding of a difference
        return ops.maximum(share, 9 / (made + 10)) if self.warmup else share


def put(values, variables):
    """Assigns copies, since a step on JAX donates the buffers of all variables."""
    for value, variable in zip(values, variables, strict=True):
        variable.assign(ops.copy(ops.cast(ops.convert_to_tensor(value), variable.dtype)))


def to_arrays(variables):
    """Returns copies in NumPy."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def _variable(shape, dtype):
    return keras.Variable(
        keras.initializers.Zeros(),
        shape=tuple(shape),
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation="none",  # every replica computes the same
        name="weight_average",
    )
