"""Counts and norms of the gradients of one training step, in variables on the device."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_reg import _backend
from keras_reg._validation import fail
from keras_reg.callbacks._gradients._arguments import matches
from keras_reg.callbacks._gradients._buckets import measure


def select(variables, include, model_name):
    """Returns {path: variable} of those whose path matches one of the globs; a repeated path gets a number."""
    if not variables:
        fail("The model must have trainable weights.", model=model_name)
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
    """Counts, numbers and status of the last watched step, in three variables on the device.

    The status is (waiting, applied, seen): whether a step is still to be watched, whether the optimizer applied the
    gradients of the step that was watched, and how many steps after `arm` that step came.
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
        """Makes the next step the watched one."""
        if self.rows is None:
            return
        for variable in self.variables:
            value = np.zeros(variable.shape, variable.dtype)  # new each time: JAX donates the buffers of a step
            value[0] = 1 if variable.shape == (3,) else 0
            variable.assign(value)

    @_backend.not_compiled
    def update(self, gradients, variables, scale, skips):
        """Measures gradients that are `scale` times too large; with `skips`, only finite ones will be applied."""
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
        # The host does not see the single steps of one execution, so the device decides which one to watch.
        return ops.cond(status[0] > 0, watch, lambda: (counts, numbers, status))

    def status(self):
        """Returns whether the gradients of the watched step were applied, and its number since `arm` (0: no step)."""
        if self.rows is None:
            return True, 0
        _, applied, seen = ops.convert_to_numpy(self.variables[2].value)
        return bool(applied), int(seen)

    def read(self):
        """Returns {path: (counts, numbers)} of the weights that had a gradient."""
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
    """Returns `new` in the given rows and `old` in the others, whose weights had no gradient."""
    if len(rows) == old.shape[0]:
        return new
    places = {row: new[index] for index, row in enumerate(rows)}
    return ops.stack([places.get(row, old[row]) for row in range(old.shape[0])])
