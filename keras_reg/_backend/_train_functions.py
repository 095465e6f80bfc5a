"""Train functions and steps that have variables of their own, beside those of the model and its optimizer."""

import keras

from keras_reg._backend._current import BACKEND


def call_train_function(function, own, *args):
    """Calls a train function that uses the variables `own`, which are unknown to the caller, `fit`.

    Under JAX, the state of the optimizer is part of the arguments and results. This function adds the values of `own`
    to the arguments and takes them out of the results.
    """
    if BACKEND != "jax":
        return function(*args)
    (*others, known, metrics), iterator = args
    logs, (*others, known, metrics) = function((*others, [*known, *(v.value for v in own)], metrics), iterator)
    for variable, value in zip(own, known[-len(own) :], strict=True):
        variable.assign(value)
    return logs, (*others, known[: -len(own)], metrics)


def admit_optimizer_variables(model, variables):
    """Lets a train step that pins the layout of its state accept further variables after those of the optimizer.

    Keras 3.10 and 3.11 pin it under JAX, with a list that they make at the start of `fit`. Later versions do not.
    """
    layouts = getattr(model, "_optimizer_variable_shardings", None)
    if layouts:
        known = layouts[: len(model.optimizer.variables)]
        model._optimizer_variable_shardings = [*known, *(v.value.sharding for v in variables)]


def followed_step(model, before, after, own):
    """Returns the train step of a model with something after it, in the same compiled program.

    Args:
        model: The model.
        before: Function that reads variables before the step.
        after: Function that takes the result of `before` after the step. It may assign to `own` only.
        own: Variables, at least one. On JAX, their values come last in the state of the optimizer, where
            `call_train_function` puts them.
    """
    train_step = model.train_step
    if BACKEND == "jax":
        return _followed_stateless_step(model, train_step, before, after, own)

    def step(data):
        begun = before()
        logs = train_step(data)
        after(begun)
        return logs

    return step


def _followed_stateless_step(model, train_step, before, after, own):
    def known(trainable, non_trainable, optimizer, _):
        groups = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
        values = trainable, non_trainable, optimizer
        return [pair for group, of in zip(groups, values, strict=True) for pair in zip(group, of, strict=True)]

    def step(state, data):
        *others, optimizer, metrics = state
        values = optimizer[-len(own) :]
        state = (*others, optimizer[: -len(own)], metrics)
        with keras.StatelessScope(known(*state)):
            begun = before()
        logs, state = train_step(state, data)
        with keras.StatelessScope([*known(*state), *zip(own, values, strict=True)]) as scope:
            after(begun)
        *others, optimizer, metrics = state
        return logs, (*others, [*optimizer, *map(scope.get_current_value, own)], metrics)

    return step
