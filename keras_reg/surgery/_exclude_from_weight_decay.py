import keras

from keras_reg._inner_layers import NORMALIZATIONS, inside
from keras_reg._optimizers import holds_several, members, unwrapped
from keras_reg._validation import fail

ENDINGS = ("bias", "gamma", "beta")


def exclude_from_weight_decay(
    optimizer: keras.optimizers.Optimizer, model: keras.layers.Layer
) -> keras.optimizers.Optimizer:
    """Keeps biases and normalization parameters out of an optimizer's weight decay.

    Kernels and embeddings are decayed: every weight of two or more dimensions that is not named bias, gamma or beta and
    does not belong to a normalization layer. Frozen weights are treated alike, in case they train again later.

    A `.keras` file does not record which weights are excluded, since an optimizer's config does not. Call this again
    after `load_model`; the optimizer keeps its state.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, new or already used. Earlier exclusions are replaced. The optimizers
            inside a `LossScaleOptimizer` or a `MultiOptimizer` are found.
        model: A built model or layer. If the optimizer has trained already, pass the model that is compiled with it,
            so that its training step is rebuilt. You must recompile a training step that you compiled yourself.

    Returns:
        `optimizer`, to be passed to `compile`.

    Raises:
        ValueError: If `optimizer` is not an optimizer or is an unbuilt `MultiOptimizer`, or `model` has no weights.

    Example:

    >>> import keras, keras_reg
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> optimizer = keras.optimizers.AdamW(weight_decay=0.01)
    >>> model.compile(keras_reg.surgery.exclude_from_weight_decay(optimizer, model), "mse")
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        fail("`optimizer` must be a `keras.optimizers.Optimizer`.", optimizer=optimizer)
    if not isinstance(model, keras.layers.Layer) or not model.weights:
        fail("`model` must be a built model or layer that has weights.", model=model)
    if holds_several(optimizer) and not unwrapped(optimizer).built:
        fail(
            "A `MultiOptimizer` must be built: call `optimizer.build(model.trainable_variables)` first.",
            optimizer=optimizer,
        )
    inner = members(optimizer)
    scales = {id(v) for layer in inside(model) if isinstance(layer, NORMALIZATIONS) for v in layer.weights}
    for member in inner:
        kept = [v for v in model.weights if id(v) in scales or not _decays(v)]
        member.exclude_from_weight_decay(var_list=kept)
    if _has_step(model) and any(member in inner for member in members(model.optimizer)):
        model.make_train_function(force=True)  # the compiled step still decays what it decayed before
    return optimizer


def _has_step(model):
    return isinstance(model, keras.Model) and getattr(model, "train_function", None) is not None


def _decays(variable):
    name = variable.name
    return name.endswith("kernel") or (len(variable.shape) > 1 and not name.endswith(ENDINGS))
