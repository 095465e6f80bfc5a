"""The optimizers that really move weights, behind `LossScaleOptimizer`, `MultiOptimizer` and other wrappers."""


def members(optimizer):
    """The list of optimizers that hold a learning rate: `optimizer` itself, or those that it wraps."""
    if hasattr(optimizer, "inner_optimizer"):
        return members(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):
        return [member for inner in optimizer.optimizers for member in members(inner)]
    return [] if optimizer is None else [optimizer]
