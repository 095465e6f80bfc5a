import keras

from keras_reg._validation import check_flag, fail, is_integer, native
from keras_reg.transfer._layers import inside, is_normalization, own_weights, select
from keras_reg.transfer._trainable import TrainableMap, set_trainable


def freeze(layers):
    """Stops weights from training: all of a layer or model, or of each in a list.

    A frozen batch normalization uses its moving averages, also in training, and does not update them. Weights that were
    frozen individually are remembered: `unfreeze` leaves them frozen.

    Compile after it: Keras trains what was trainable when `compile` was called, or fails, each backend in its own way.
    `TransferLearner` does so by itself.

    Args:
        layers: A layer, a model, or a list of them (`model.layers[:-4]`).

    Raises:
        ValueError: If there is something else among them.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> keras_reg.transfer.freeze(model.layers[0])
    >>> [weight.path.split("/")[-1] for weight in model.trainable_weights], len(model.layers[0].trainable_weights)
    (['kernel', 'bias'], 0)
    """
    given = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    if not given or not all(isinstance(layer, keras.layers.Layer) for layer in given):
        fail("`layers` must be a layer, a model or a list of them.", layers=layers)
    for layer in given:
        set_trainable(layer, set())


def unfreeze(backbone, layers="all", batch_norm=False):
    """Lets weights train again: all, the last layers, or those that a pattern names. What trains already goes on.

    Unlike `backbone.trainable = True`, it leaves every batch normalization in inference mode: batches of new data
    would replace the averages that the pretrained weights were made for. A weight that was frozen individually stays
    frozen, such as the pretrained kernel after `enable_lora`, or one whose `trainable` you set to `False` while its
    layer was trainable. Nested models, and layers inside layers, are reached.

    Compile after it: Keras trains what was trainable when `compile` was called, or fails, each backend in its own way.
    `TransferLearner` does so by itself.

    Args:
        backbone: A layer or model.
        layers: "all"; n for the last n layers, those inside of nested models counted one by one; or a glob, or a list
            of globs, on names ("block5_*") or paths ("encoder/block_11/*") of layers. A layer comes with all that is
            in it.
        batch_norm: Whether batch normalizations among them train and use the statistics of batches. Else all in
            `backbone` are frozen.

    Raises:
        ValueError: If no weight of `backbone` is meant. Then everything stays as it was.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    >>> keras_reg.transfer.freeze(model)
    >>> keras_reg.transfer.unfreeze(model, "all")
    >>> [layer.trainable for layer in model.layers]
    [True, False]
    """
    if not isinstance(backbone, keras.layers.Layer):
        fail("`backbone` must be a layer or model.", backbone=backbone)
    open_layers(backbone, check_layers("layers", layers), check_flag("batch_norm", batch_norm))


def open_layers(backbone, layers, batch_norm, closed=frozenset()):
    """`unfreeze`, which leaves layers whose ids are in `closed` frozen unless a glob names them."""
    chosen = select(backbone, layers, closed)
    before = TrainableMap(backbone)
    names = sorted({layer.name for layer in inside(backbone) if own_weights(layer)})
    training = [layer for layer in inside(backbone) if any(w.trainable for w in own_weights(layer))]
    kept = [layer for layer in [*training, *chosen] if batch_norm or not is_normalization(layer)]
    set_trainable(backbone, {id(layer) for layer in kept})
    if any(weight.trainable for layer in chosen for weight in own_weights(layer)):
        return
    before.restore()
    if not chosen and not closed:
        fail(f"`layers` must name layers of {backbone.name!r}; with weights it has {_some(names)}.", layers=layers)
    hints = [] if batch_norm else ["batch normalizations stay frozen unless `batch_norm=True`"]
    hints += ["layers that were frozen before stay frozen unless a glob names them"] if closed else []
    hint = f" ({', and '.join(hints)})" if hints else ""
    fail(f"`layers` must have weights to train{hint}; {backbone.name!r} has {_some(names)}.", layers=layers)


def check_layers(name, layers):
    """ "all", a number of last layers, or a list of globs."""
    which = native(layers)
    if (isinstance(which, str) and which == "all") or (is_integer(which) and which > 0):
        return which
    globs = [which] if isinstance(which, str) else which
    if not isinstance(globs, (list, tuple)) or not globs or not all(isinstance(g, str) and g for g in globs):
        fail(f'`{name}` must be "all", a number of last layers of at least 1, or globs.', **{name: layers})
    return list(globs)


def _some(names):
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
