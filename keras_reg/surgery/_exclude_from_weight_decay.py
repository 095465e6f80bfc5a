import keras

from keras_reg._validation import fail

ENDINGS = ("bias", "gamma", "beta")


def exclude_from_weight_decay(optimizer, model):
    """Keeps biases and normalization parameters out of an optimizer's weight decay.

    Decayed are kernels and embeddings: everything of two or more dimensions but what is named a bias, gamma or beta.

    Args:
        optimizer: A `keras.optimizers.Optimizer` that has not been built: call this before the first training step.
            What was excluded before is forgotten. The inner optimizer of a `LossScaleOptimizer` is found.
        model: A built model or layer.

    Returns:
        `optimizer`, to be given to `compile`.

    Raises:
        ValueError: If `optimizer` is no optimizer or is built, or `model` has no weights.

    Example:

    >>> import keras, keras_reg
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> optimizer = keras.optimizers.AdamW(weight_decay=0.01)
    >>> model.compile(keras_reg.surgery.exclude_from_weight_decay(optimizer, model), "mse")
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        fail("`optimizer` must be a `keras.optimizers.Optimizer`.", optimizer=optimizer)
    if not isinstance(model, keras.layers.Layer) or not model.weights:
        fail("`model` must be a model or layer that is built: without weights nothing can be excluded.", model=model)
    inner = optimizer
    while isinstance(getattr(inner, "inner_optimizer", None), keras.optimizers.Optimizer):
        inner = inner.inner_optimizer
    if inner.built:
        fail("`optimizer` must not be built yet: its weight decay is settled.", optimizer=optimizer)
    inner.exclude_from_weight_decay(var_list=[v for v in model.trainable_weights if not _decays(v)])
    return optimizer


def _decays(variable):
    name = variable.name
    return name.endswith("kernel") or (len(variable.shape) > 1 and not name.endswith(ENDINGS))
