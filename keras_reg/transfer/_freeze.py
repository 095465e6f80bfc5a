from collections.abc import Sequence

import keras

from keras_reg._inner_layers import inside
from keras_reg._messages import first_of
from keras_reg._typing import Unfrozen
from keras_reg._validation import as_globs, check_flag, fail, is_integer, native
from keras_reg.transfer._layers import is_normalization, own_weights, select
from keras_reg.transfer._trainable import TrainableMap, set_trainable


def freeze(layers: keras.layers.Layer | Sequence[keras.layers.Layer]) -> None:
    """Freezes all weights of a layer or model, or of each in a list.

    A frozen batch normalization uses its moving averages, also in training, and does not update them. Weights that were
    frozen individually before stay frozen after `unfreeze`.

    Compile the model afterwards. Otherwise Keras trains what was trainable when `compile` was called, or raises an
    error, depending on the backend. `TransferLearner` compiles by itself.

    Args:
        layers: A layer, a model, or a list of them (`model.layers[:-4]`).

    Raises:
        ValueError: If `layers` is or contains anything else.

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


def unfreeze(backbone: keras.layers.Layer, layers: Unfrozen = "all", batch_norm: bool = False) -> None:
    """Makes weights trainable again: all, those of the last layers, or those of layers that match a pattern.

    Weights that already train keep training. Unlike `backbone.trainable = True`, it leaves every batch normalization in
    inference mode: batches of new data would replace the averages with which the pretrained weights were trained. A
    weight that was frozen individually stays frozen, such as the pretrained kernel after `enable_lora`, or one whose
    `trainable` you set to `False` while its layer was trainable. Nested models and layers inside layers are included.

    Compile the model afterwards. Otherwise Keras trains what was trainable when `compile` was called, or raises an
    error, depending on the backend. `TransferLearner` compiles by itself.

    Args:
        backbone: A layer or model.
        layers: "all"; an integer n for the last n layers, where those of nested models count one by one, but not those
            of other layers, such as `Bidirectional`; or a glob, or a list of globs, for names ("block5_*") or paths
            ("encoder/block_11/*") of layers. A layer includes all layers inside it.
        batch_norm: Whether batch normalizations among them train and use the statistics of batches. Otherwise all
            batch normalizations in `backbone` are frozen.

    Raises:
        ValueError: If `layers` matches no weight of `backbone`. Then nothing is changed.

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


def open_layers(backbone, layers, batch_norm, kept_frozen=frozenset()):
    """Does what `unfreeze` does, but leaves layers whose ids are in `kept_frozen` frozen unless a glob matches them."""
    chosen = select(backbone, layers, kept_frozen)
    before = TrainableMap(backbone)
    names = sorted({layer.name for layer in inside(backbone) if own_weights(layer)})
    training = [layer for layer in inside(backbone) if any(w.trainable for w in own_weights(layer))]
    kept = [layer for layer in [*training, *chosen] if batch_norm or not is_normalization(layer)]
    set_trainable(backbone, {id(layer) for layer in kept})
    if any(weight.trainable for layer in chosen for weight in own_weights(layer)):
        return
    before.restore()
    names = first_of(names, 20)
    if not chosen and not kept_frozen:
        fail(
            f"`layers` must match layers of {backbone.name!r}. Those with weights are {names}.",
            layers=layers,
        )
    hints = [] if batch_norm else ["batch normalizations stay frozen unless `batch_norm=True`"]
    hints += ["layers that were frozen before stay frozen unless a glob matches them"] if kept_frozen else []
    hint = f" ({', and '.join(hints)})" if hints else ""
    fail(
        f"`layers` must have weights to train{hint}. Those of {backbone.name!r} with weights are {names}.",
        layers=layers,
    )


def check_layers(name, layers):
    """Checks for "all", a number of last layers, or globs, and returns globs as a list."""
    which = native(layers)
    if (isinstance(which, str) and which == "all") or (is_integer(which) and which > 0):
        return which
    globs = as_globs(which)
    if globs is None:
        fail(f'`{name}` must be "all", an integer of at least 1, a glob or a list of globs.', **{name: layers})
    return globs
