"""What is kept of the gradients on the device, and an optimizer around the user's that keeps it."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_reg import _backend
from keras_reg._validation import fail
from keras_reg.callbacks._gradient_arguments import matches
from keras_reg.callbacks._gradient_bins import measure


def select(variables, include, model_name):
    """The variables whose path in the model matches one of the globs; a second one of the same path gets a number."""
    chosen, paths = {}, [variable.path.removeprefix(f"{model_name}/") for variable in variables]
    for path, variable in zip(paths, variables, strict=True):
        if matches(path, include):
            names = itertools.chain([path], (f"{path}_{number}" for number in itertools.count(1)))
            chosen[next(name for name in names if name not in chosen)] = variable
    if not chosen:
        offer = ", ".join(map(repr, dict.fromkeys(paths)))
        fail(f"`include` must match the path of a weight, one of {offer}.", include=include)
    return chosen


class GradientStatistics:
    """What the last watched step showed, in three variables on the device.

    `status` is (waiting, applied, seen): whether a step is still to be watched, whether the optimizer used the
    gradients of the one that was, and the number of steps since `arm` up to that one.
    """

    def __init__(self, bins, include, model_name, several_steps):
        self.bins = bins
        self.include = include
        self.model_name = model_name
        self.several_steps = several_steps
        self.rows = None

    def build(self, variables):
        watched = select(variables, self.include, self.model_name)
        self.paths = list(watched)
        self.rows = {id(variable): row for row, variable in enumerate(watched.values())}
        self.variables = [
            _variable(np.zeros((len(watched), self.bins + 2), "int32")),
            _variable(np.zeros((len(watched), 4), "float32")),
            _variable(np.array([1, 0, 0], "int32")),
        ]

    def arm(self):
        """Makes the next step the one to be watched. Fresh values each time: JAX gives away those that go in."""
        if self.rows is None:
            return
        for variable in self.variables:
            value = np.zeros(variable.shape, variable.dtype)
            value[0] = 1 if variable.shape == (3,) else 0
            variable.assign(value)

    @_backend.not_compiled
    def update(self, gradients, variables, scale, skips):
        """Watches a step whose gradients are `scale` times too large; with `skips`, only finite ones are applied."""
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        found = {self.rows[id(v)]: ops.convert_to_tensor(g) for g, v in pairs if id(v) in self.rows}
        if not found:
            return
        applied = ops.convert_to_tensor(1, "int32")
        if skips:
            applied = ops.cast(ops.all(ops.stack([ops.all(ops.isfinite(g)) for g, _ in pairs])), "int32")
        rows = sorted(found)
        tensors = _backend.sum_over_replicas([found[row] for row in rows])
        tensors = [ops.divide(ops.cast(tensor, "float32"), scale) for tensor in tensors]
        for variable, value in zip(self.variables, self._watched(tensors, rows, applied), strict=True):
            variable.assign(value)

    def _watched(self, tensors, rows, applied):
        counts, numbers, status = (ops.convert_to_tensor(variable) for variable in self.variables)

        def watch():
            new_counts, new_numbers = measure(tensors, self.bins)
            new_status = ops.stack([1 - applied, applied, status[2] + 1])
            return _merge(counts, new_counts, rows), _merge(numbers, new_numbers, rows), new_status

        if not self.several_steps:
            return watch()
        # Among the steps of one execution, which the host does not see, the device knows which one to watch.
        return ops.cond(status[0] > 0, watch, lambda: (counts, numbers, status))

    def status(self):
        """Whether the optimizer used the gradients of the step that was watched, and its number since `arm`, or 0."""
        if self.rows is None:
            return True, 0
        _, applied, seen = ops.convert_to_numpy(self.variables[2].value)
        return bool(applied), int(seen)

    def read(self):
        """(counts, numbers) of each weight that had a gradient, by its path."""
        counts, numbers = (ops.convert_to_numpy(variable.value) for variable in self.variables[:2])
        found = zip(self.paths, counts, numbers, strict=True)
        return {path: (count, number) for path, count, number in found if count.any()}


def _variable(value):
    return keras.Variable(
        lambda shape, dtype: ops.convert_to_tensor(value),
        shape=value.shape,
        dtype=value.dtype.name,
        trainable=False,
        autocast=False,
        aggregation="none",  # every replica computes the same
        name="gradient_statistics",
    )


def _merge(old, new, rows):
    """`new` in the given rows and `old` in the others, of weights without a gradient."""
    if len(rows) == old.shape[0]:
        return new
    places = {row: new[index] for index, row in enumerate(rows)}
    return ops.stack([places.get(row, old[row]) for row in range(old.shape[0])])


class RecordingOptimizer(keras.optimizers.Optimizer):
    """Shows the gradients to `statistics`, then hands them to `inner_optimizer`, for which it passes in all else.

    With `updates=False` it only looks, and nothing is updated.
    """

    def __init__(self, inner_optimizer, statistics, updates=True):
        super().__init__(learning_rate=0.0, name="gradient_recorder")
        self.inner_optimizer = inner_optimizer
        self.statistics = statistics
        self.updates = updates

    def build(self, variables):
        if self.updates and not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        for statistics in self.statistics:
            if statistics.rows is None:
                statistics.build(variables)
        super().build(variables)

    @property
    def own_variables(self):
        return [variable for statistics in self.statistics for variable in statistics.variables]

    @property
    def variables(self):
        return [*self.inner_optimizer.variables, *self.own_variables]

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not self.built:
            self.build(variables)
        self._show(grads, variables)
        if self.updates:
            self.inner_optimizer.apply(grads, trainable_variables)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        with keras.StatelessScope(list(zip(self.variables, optimizer_variables, strict=True))) as scope:
            self._show(grads, self._trainable_variables)
        own = [scope.get_current_value(variable) for variable in self.own_variables]
        inner = list(optimizer_variables[: len(self.inner_optimizer.variables)])
        if self.updates:
            trainable_variables, inner = self.inner_optimizer.stateless_apply(inner, grads, trainable_variables)
        return trainable_variables, [*inner, *own]

    def _show(self, grads, variables):
        optimizer = self.inner_optimizer
        skips = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if skips:
            scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        else:
            scale = optimizer.loss_scale_factor or 1.0
        for statistics in self.statistics:
            statistics.update(grads, variables, ops.convert_to_tensor(scale, "float32"), skips)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def __getattr__(self, name):
        if name.startswith("_") or name == "inner_optimizer":
            raise AttributeError(name)
        return getattr(self.inner_optimizer, name)
