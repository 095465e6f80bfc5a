"""Functions that take the place of a model's train function and do more in each step."""

import contextlib

from keras_reg import _backend


class ReplacedTrainFunction:
    """Takes the place of a model's train function, `plain`, during one `fit`.

    The model has its own train step and optimizer at all other times: between steps, while other callbacks run, when it
    is saved, and after an error in the middle of a step. So nothing has to be undone. A function that is left behind by
    a `fit` that ended in an error calls `plain`.
    """

    def __init__(self, model):
        self.model = model
        self.plain = model.train_function
        self.fit = current_fit(model)

    def __call__(self, *args):
        if self.fit is current_fit(self.model):
            return self.run(*args)
        self.cancel()
        return self.plain(*args)

    def run(self, *args):
        """Takes one step, or `steps_per_execution` of them."""
        raise NotImplementedError

    def cancel(self):
        if self.model.train_function is self:
            self.model.train_function = self.plain


class FollowedStep(ReplacedTrainFunction):
    """Does something after each training step of a `fit`, in the same compiled program.

    Args:
        model: The model.
        before: Function that reads variables before a step.
        after: Function that takes the result of `before` after the step. It may assign to `own` only.
        own: The variables that `after` changes, at least one.
    """

    def __init__(self, model, before, after, own):
        super().__init__(model)
        self.own_variables = list(own)
        self.step = _backend.followed_step(model, before, after, self.own_variables)
        with self.in_place(), replaced(model, train_function=None):
            model.make_train_function(force=True)
            self.function = model.train_function

    def install(self):
        """Takes the place of the model's train function in the running `fit`."""
        self.fit = current_fit(self.model)
        self.model.train_function = self

    def run(self, *args):
        with self.in_place():
            return _backend.call_train_function(self.function, self.own_variables, *args)

    @contextlib.contextmanager
    def in_place(self):
        """Makes the step the train step of the model, which frameworks look up when they compile or run it."""
        before = vars(self.model).get("train_step")
        object.__setattr__(self.model, "train_step", self.step)
        try:
            yield
        finally:
            if before is None:
                object.__delattr__(self.model, "train_step")
            else:
                object.__setattr__(self.model, "train_step", before)


def followed_by(function):
    """Returns (context, variables): what a train function adds to each step, for a function that replaces it."""
    if isinstance(function, FollowedStep):
        return function.in_place(), function.own_variables
    return contextlib.nullcontext(), []


def remove_left_behind(model):
    """Gives the model its own train function again if a `fit` that ended in an error left another one in its place."""
    function = model.train_function
    while isinstance(function, ReplacedTrainFunction) and function.fit is not current_fit(model):
        function.cancel()
        function = model.train_function


def innermost(function):
    """Returns the train function that Keras made, inside the functions that have replaced it."""
    while hasattr(function, "plain"):
        function = function.plain
    return function


def current_fit(model):
    """Returns an object that identifies the running `fit`: its `History`."""
    return getattr(model, "history", None)


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


def strategy_scope(model):
    """Returns the scope in which to create variables for a model: that of its `tf.distribute` strategy, if any."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
