"""How a single training step gets a recording optimizer, and the model is as it was after it."""

import contextlib

from keras import ops

from keras_reg import _backend
from keras_reg.callbacks._gradient_recorder import RecordingOptimizer


class WatchedStep:
    """Takes the place of a model's train function for one call: the same step, watched.

    The model has its own optimizer and train function at all other times: between steps, while other callbacks run,
    when it is saved, and after an error in the middle of the step. So there is nothing to undo, and the steps that are
    not watched are those of the model without this callback, compiled as they were.
    """

    def __init__(self, model, functions):
        self.model = model
        self.plain = model.train_function
        self.functions = functions
        self.fit = _fit_of(model)
        self.statistics = ()
        self.done = False

    def add(self, statistics, callback):
        """Lets `statistics` watch, too: several callbacks may want the same step."""
        self.statistics += (statistics,)
        key = tuple(map(id, self.statistics))
        if key not in self.functions:
            # Under JAX, `callback.model` brings the state back to the model, which takes a moment.
            self.functions[key] = _make(callback.model, self.statistics)
        self.recorder, self.function = self.functions[key]
        if self.recorder.built:
            _backend.admit_optimizer_variables(self.model, self.recorder.own_variables)

    def __call__(self, *args):
        self.cancel()
        if _fit_of(self.model) is not self.fit:
            return self.plain(*args)  # left over from a `fit` that ended in an error just before this call
        for statistics in self.statistics:
            statistics.arm()
        with replaced(self.model, optimizer=self.recorder):
            result = _backend.call_train_function(self.function, self.recorder, *args)
        self.done = True
        return result

    def cancel(self):
        if self.model.train_function is self:
            self.model.train_function = self.plain


def _fit_of(model):
    """Something that every call of `fit` makes anew."""
    return getattr(model, "history", None)


def watch_next_step(callback, model, statistics, functions):
    """Has the model's next training step watched; `functions` keeps the compiled ones from step to step."""
    step = model.train_function
    if isinstance(step, WatchedStep) and step.fit is not _fit_of(model):
        step.cancel()
    if not isinstance(model.train_function, WatchedStep):
        model.train_function = WatchedStep(model, functions)
    model.train_function.add(statistics, callback)
    return model.train_function


def _make(model, statistics, updates=True):
    """A recording optimizer and a train function that has it."""
    with _strategy_scope(model):
        recorder = RecordingOptimizer(model.optimizer, statistics, updates)
        if model.built:  # under TensorFlow a model may be built in its first step
            recorder.build(model.trainable_variables)
    with replaced(model, optimizer=recorder, train_function=None):
        model.make_train_function(force=True)
        return recorder, model.train_function


def watch_batch(model, statistics, functions, data):
    """Shows what a training step on `data` would give the optimizer; the model and its metrics stay as they are."""
    key = ("batch", model.optimizer.built)
    if key not in functions:
        functions[key] = _make(model, (statistics,), updates=False)
    recorder, function = functions[key]
    statistics.arm()
    with _preserved(model), replaced(model, optimizer=recorder, train_function=function):
        model.train_on_batch(*data)


def steps_taken(optimizer):
    """How often the optimizer was applied: to each micro-batch of gradient accumulation, not to steps it skipped."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return next((int(ops.convert_to_numpy(v.value)) for v in inner.variables if v.name == "iteration"), 0)


@contextlib.contextmanager
def replaced(model, **attributes):
    """The model with other attributes for a while."""
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
    """Puts back afterwards what a training step changes besides the weights: moving averages, seeds and metrics."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    values = [ops.copy(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _strategy_scope(model):
    """Where variables of a model under `tf.distribute` are made; elsewhere, anywhere."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
