"""Giving a single training step a `WatchingOptimizer`, and the model its own again afterwards."""

import contextlib

from keras import ops

from keras_reg import _backend
from keras_reg._optimizers import iteration_of
from keras_reg._random_state import random_state, set_random_state
from keras_reg.callbacks._gradients._optimizer import WatchingOptimizer
from keras_reg.callbacks._train_function import (
    ReplacedTrainFunction,
    followed_by,
    remove_left_behind,
    replaced,
    strategy_scope,
)


class WatchedStep(ReplacedTrainFunction):
    """Replaces a model's train function for one call, which runs the same step and watches it.

    All other steps are those of the model without this callback, compiled as they were.
    """

    def __init__(self, model, functions):
        super().__init__(model)
        self.functions = functions
        self.statistics = ()
        self.done = False

    def add(self, statistics, callback):
        """Adds `statistics` to those that watch this step, since several callbacks may want the same one."""
        self.statistics += (statistics,)
        key = (id(self.plain), *map(id, self.statistics))
        if key not in self.functions:
            # On JAX, reading `callback.model` copies the state of the step back to the model, which takes time. The
            # function is kept with `plain`, whose id is part of the key.
            self.functions[key] = *_make(callback.model, self.statistics, self.plain), self.plain
        self.optimizer, self.function, _ = self.functions[key]
        if self.optimizer.built:
            _backend.admit_optimizer_variables(self.model, self.optimizer.own_variables)

    def run(self, *args):
        self.cancel()
        for statistics in self.statistics:
            statistics.arm()
        followed, variables = followed_by(self.plain)
        with followed, replaced(self.model, optimizer=self.optimizer):
            own = [*(self.optimizer.own_variables if self.optimizer.built else []), *variables]
            result = _backend.call_train_function(self.function, own, *args)
        self.done = True
        return result


def watch_next_step(callback, model, statistics, functions):
    """Makes `statistics` watch the model's next training step; `functions` caches the compiled steps."""
    remove_left_behind(model)
    if not isinstance(model.train_function, WatchedStep):
        model.train_function = WatchedStep(model, functions)
    model.train_function.add(statistics, callback)
    return model.train_function


def _make(model, statistics, plain=None, updates=True):
    """Returns a `WatchingOptimizer` and a train function that uses it in place of `plain`."""
    with strategy_scope(model):
        optimizer = WatchingOptimizer(model.optimizer, statistics, updates)
        if model.built:  # on TensorFlow a model may be built in its first step
            optimizer.build(model.trainable_variables)
    followed, _ = followed_by(plain)
    with followed, replaced(model, optimizer=optimizer, train_function=None):
        model.make_train_function(force=True)
        return optimizer, model.train_function


def watch_batch(model, statistics, functions, data):
    """Measures what a training step on `data` would give the optimizer. The model and its metrics are not changed."""
    key = ("batch", model.optimizer.built)
    if key not in functions:
        functions[key] = _make(model, (statistics,), updates=False)
    optimizer, function = functions[key]
    statistics.arm()
    with _preserved(model), replaced(model, optimizer=optimizer, train_function=function):
        model.train_on_batch(*data)


def steps_taken(optimizer):
    """Returns how often the optimizer was applied: once per micro-batch of gradient accumulation, not when it skips."""
    iteration = iteration_of(optimizer)
    return 0 if iteration is None else int(ops.convert_to_numpy(iteration))


@contextlib.contextmanager
def _preserved(model):
    """Restores what a training step changes besides the weights: moving averages, metrics and random numbers."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    values = [ops.copy(variable) for variable in variables]
    random_numbers = random_state(model)
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        set_random_state(model, random_numbers)
