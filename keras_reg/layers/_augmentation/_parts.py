"""Layers inside a layer, from this package or from Keras: checks, common settings, and calls."""

import keras

from keras_reg._strength import deserialize
from keras_reg._validation import check_choice, check_data_format, fail
from keras_reg.layers._augmentation._run import AugmentationRun
from keras_reg.layers._batch._foreign import apply_foreign
from keras_reg.layers._batch._foreign_spec import foreign_spec
from keras_reg.layers._batch._kinds import KINDS
from keras_reg.layers._batch._terms import keep_unselected
from keras_reg.layers._batch_augmentation import BatchAugmentation


def layers_of_config(config, name):
    """Returns the arguments that a config describes, including the layers in it."""
    if not isinstance(config, dict) or name not in config:
        fail(f"Expected a config with the key `{name}`.", config=config)
    config = {key: deserialize(value) for key, value in config.items()}
    several = isinstance(config[name], (list, tuple))
    layers = [_layer_of_config(layer, name) for layer in (config[name] if several else [config[name]])]
    return {**config, name: layers if several else layers[0]}


def _layer_of_config(config, name):
    if isinstance(config, keras.layers.Layer):
        return config
    if not isinstance(config, dict) or not {"class_name", "config"} <= set(config):
        fail(f"Expected a serialized layer in `{name}`.", **{name: config})
    return keras.saving.deserialize_keras_object(config)


def holds_mixer(layer):
    """Whether a Keras layer contains a mixer, which would only get images there."""
    parts = [*getattr(layer, "layers", ()), *filter(None, [getattr(layer, "layer", None)])]
    return any(getattr(part, "_mixes", False) or holds_mixer(part) for part in parts)


def check_layers(layers, what="layers"):
    """Checks and returns a list of at least one layer that can process a batch. A single layer becomes a list."""
    layers = [layers] if isinstance(layers, keras.layers.Layer) else layers
    if not isinstance(layers, (list, tuple)) or not layers:
        fail(f"`{what}` must be a list of at least one layer.", **{what: layers})
    for layer in layers:
        if not isinstance(layer, keras.layers.Layer):
            fail(f"`{what}` must hold Keras layers.", **{what: layer})
        if type(layer) in (getattr(keras.layers, "MixUp", None), getattr(keras.layers, "CutMix", None)):
            fail("Use the mixers of `keras_reg.layers`: Keras' own do not mix sample weights.", layer=layer.name)
        trained = any(hasattr(layer, f"{weights}_initializer") for weights in ("kernel", "depthwise", "embeddings"))
        scaled = hasattr(layer, "gamma_initializer") and (
            getattr(layer, "scale", True) or getattr(layer, "center", True)
        )
        if (trained or scaled) and not isinstance(layer, BatchAugmentation):
            fail(f"`{what}` must hold layers that change data, without weights to train.", **{what: layer})
        if not isinstance(layer, BatchAugmentation) and holds_mixer(layer):
            fail(
                "A mixer inside a model does not get the labels. Pass the layers of the model in a list.",
                layer=layer.name,
            )
    return layers


def check_not_apart(layers, second, name):
    """Refuses layers that are passed one after the other, where the second of them is the argument `name`."""
    if isinstance(second, keras.layers.Layer):
        fail(f"`layers` must be a list: the second argument is `{name}`.", layers=layers, **{name: second})


def agreed_format(layers, data_format):
    """Returns the layout of all layers. Layers with another layout than `data_format`, if given, are refused."""
    data_format = check_data_format(data_format)
    parts = [layer for layer in layers if isinstance(layer, BatchAugmentation) and layer._has_layout]
    formats = {layer.data_format for layer in parts} | ({data_format} - {None})
    if len(formats) > 1:
        received = [f"{layer.name}: {layer.data_format}" for layer in parts]
        fail("All `layers` must have the same `data_format`.", data_format=data_format, layers=received)
    return formats.pop() if formats else None


def agreed_kind(layers, kind):
    """Returns the kind of samples for all layers. Layers with another kind than `kind`, if given, are refused."""
    kind = check_choice("kind", kind, KINDS)
    kinds = {layer.kind for layer in layers if isinstance(layer, BatchAugmentation)} | {kind}
    if len(kinds - {None}) > 1:
        received = [f"{layer.name}: {layer.kind}" for layer in layers if isinstance(layer, BatchAugmentation)]
        fail("All `layers` must have the same `kind`.", kind=kind, layers=received)
    return next(iter(kinds - {None}), None)


def transform_part(layer, batch, u, key, select):
    """Applies one layer, from this package or from Keras, to the selected images. `None` selects all images."""
    if isinstance(layer, AugmentationRun):  # not all are layers: a pipeline joins some
        return layer._apply(batch, u, key, select)
    return keep_unselected(apply_foreign(layer, batch, True), batch, batch.place.sent(select))


def spec_after(layer, batch):
    """Returns the specification of the batch after one layer in training."""
    if isinstance(layer, BatchAugmentation):
        return layer._spec_after(batch)
    return foreign_spec(layer, batch, batch.dtype)


def inference_spec_after(layer, batch):
    """Returns the specification of the batch after one layer in inference."""
    if isinstance(layer, BatchAugmentation):
        return layer._spec_after(batch, False)
    return foreign_spec(layer, batch, batch.dtype, training=False)
