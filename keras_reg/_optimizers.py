"""What is inside an optimizer: the optimizers that it wraps, and their step counters."""

from keras import ops


def unwrapped(optimizer):
    """Returns the optimizer inside a `LossScaleOptimizer` or a similar wrapper; any other is returned as it is."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def holds_several(optimizer):
    """Returns whether this is a `MultiOptimizer`, which may create its members only when it is built."""
    return hasattr(unwrapped(optimizer), "optimizers")


def members(optimizer):
    """Returns the list of optimizers that have a learning rate: `optimizer` itself, or those that it wraps."""
    optimizer = unwrapped(optimizer)
    if holds_several(optimizer):
        return [member for inner in optimizer.optimizers for member in members(inner)]
    return [] if optimizer is None else [optimizer]


def rate_of(optimizer):
    """Returns the learning rate of the present step as a float."""
    return float(ops.convert_to_numpy(optimizer.learning_rate))


def iteration_of(optimizer):
    """Returns the variable that counts the calls of `apply`, or `None` if there is none yet.

    The property `iterations` counts something else: the updates, under gradient accumulation.
    """
    return next((variable for variable in unwrapped(optimizer).variables if variable.name == "iteration"), None)


def updates_of(optimizer):
    """Returns how often each member has changed the weights, as tensors. Micro-steps and skipped steps do not count."""
    return [ops.add(member.iterations, 0) for member in members(optimizer)]
