"""Giving a single training step a `WatchingOptimizer`, and the model its own again afterwards."""

import contextlib

from keras import ops

from keras_reg import _backend
from keras_reg._optimizers import iteration_of
from keras_reg.callbacks._gradients._optimizer import WatchingOptimizer


class WatchedStep:
    """Replaces a model's train function for one call, which runs the same step and watches it.

    At all other times the model has its own optimizer and train function: between steps, while other callbacks run,
    when it is saved, and after an error in the middle of the step. So nothing has to be undone, and all other steps are
    those of the model without this callback, compiled as they were.
    """

    def __init__(self, model, functions):
        self.model = model
        self.plain = model.train_function
        self.functions = functions
        self.fit = _current_fit(model)
        self.statistics = ()
        self.done = False

    def add(self, statistics, callback):
        """Adds `statistics` to those that watch this step, since several callbacks may want the same one."""
        self.statistics += (statistics,)
        key = tuple(map(id, self.statistics))
        if key not in self.functions:
            # On JAX, reading `callback.model` copies the state of the step back to the model, which takes time.
            self.functions[key] = _make(callback.model, self.statistics)
        self.optimizer, self.function = self.functions[key]
        if self.optimizer.built:
            _backend.admit_optimizer_variables(self.model, self.optimizer.own_variables)

    def __call__(self, *args):
        self.cancel()
        if _current_fit(self.model) is not self.fit:
            return self.plain(*args)  # left behind by a `fit` that ended in an error just before this call
        for statistics in self.statistics:
            statistics.arm()
        with replaced(self.model, optimizer=self.optimizer):
            result = _backend.call_train_function(self.function, self.optimizer, *args)
        self.done = True
        return result

    def cancel(self):
        if self.model.train_function is self:
            self.model.train_function = self.plain


def _current_fit(model):
    """Returns an object that identifies the running `fit`: its `History`."""
    return getattr(model, "history", None)


def watch_next_step(callback, model, statistics, functions):
    """Makes `statistics` watch the model's next training step; `functions` caches the compiled steps."""
    step = model.train_function
    if isinstance(step, WatchedStep) and step.fit is not _current_fit(model):
        step.cancel()
    if not isinstance(model.train_function, WatchedStep):
        model.train_function = WatchedStep(model, functions)
    model.train_function.add(statistics, callback)
    return model.train_function


def _make(model, statistics, updates=True):
    """Returns a `WatchingOptimizer` and a train function that uses it."""
    with _strategy_scope(model):
        optimizer = WatchingOptimizer(model.optimizer, statistics, updates)
        if model.built:  # on TensorFlow a model may be built in its first step
            optimizer.build(model.trainable_variables)
    with replaced(model, optimizer=optimizer, train_function=None):
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
def replaced(model, **attributes):
    """Sets attributes of the model, and restores them at the end."""
    before = {name: getattr(model, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(model, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)


@contextlib.contextmanager
def _preserved(model):
    """Restores at the end what a training step changes besides the weights: moving averages, seeds and metrics."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    values = [ops.copy(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _strategy_scope(model):
    """Returns the scope in which to create variables for a model: that of its `tf.distribute` strategy, if any."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
