"""Layers made of layers: one draw and one key for all of them, Keras' own image layers among them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_reg._backend import seed_words
from keras_reg._strength import deserialize
from keras_reg._typing import Config, DataFormat, Kind, Shape, StrengthLike
from keras_reg._validation import check_choice, check_data_format, check_seed, fail
from keras_reg.layers._batch._foreign import apply_foreign, is_image_layer
from keras_reg.layers._batch._foreign_spec import foreign_spec
from keras_reg.layers._batch._kinds import KINDS, SHAPES
from keras_reg.layers._batch._terms import check_same_size, keep_unselected
from keras_reg.layers._batch_augmentation import BatchAugmentation


class Composite(BatchAugmentation):
    """What `Pipeline`, `RandomChoice` and `RandomApply` share."""

    _own_columns = 0
    keeps_size = False  # whether each layer meets some of the images only, so that it must keep their size

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        rate: StrengthLike = 1.0,
        **kwargs: Any,
    ) -> None:
        layers = check_layers(layers)
        seed = check_seed(seed)
        data_format = agreed_format(layers, data_format)
        seeds = [getattr(layer, "seed", None) for layer in layers if isinstance(layer, BatchAugmentation)]
        derived = seed
        if seed is None and seeds and None not in seeds:
            derived = seed_words(*seeds)  # seeded parts make a seeded whole
        super().__init__(rate, agreed_kind(layers, kind), data_format, derived, **kwargs)
        self.seed = seed
        self.layers = list(layers)
        self.built = all(layer.built for layer in self.layers if isinstance(layer, BatchAugmentation))

    def build(self, input_shape: Shape) -> None:
        shape = input_shape
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation) and not layer.built:
                layer.build(shape)
            shape = layer.compute_output_shape(shape)

    @property
    def _columns(self):
        return self._own_columns + sum(getattr(layer, "_columns", 0) for layer in self.layers)

    @property
    def _mixes(self):
        return any(getattr(layer, "_mixes", False) for layer in self.layers)

    @property
    def _works_on_host(self):
        return all(getattr(layer, "_works_on_host", False) for layer in self.layers)

    @property
    def _any_rank(self):
        ours = [layer._any_rank for layer in self.layers if isinstance(layer, BatchAugmentation)]
        return all(ours) and not any(map(is_image_layer, self.layers))

    @property
    def _folds(self):
        """Each layer folds what it needs."""
        return False

    def _all_kinds(self):
        kinds = [layer._all_kinds() for layer in self.layers if isinstance(layer, BatchAugmentation)]
        kinds += [("image", "video") for layer in self.layers if is_image_layer(layer)]
        return tuple(name for name in SHAPES if all(name in known for known in kinds))

    @property
    def keeps_integers(self):
        return all(isinstance(layer, BatchAugmentation) and layer.keeps_integers for layer in self.layers)

    def _draw_noise(self, batch, key):
        """The key, from which each layer draws when its turn has come."""
        return key

    @property
    def _draws_pixels_inside(self):
        return any(layer._draws_pixels for layer in self._walk())

    def _is_one_program(self):
        return all(isinstance(layer, BatchAugmentation) and layer._is_one_program() for layer in self.layers)

    def _walk(self):
        return [self, *(x for layer in self.layers if isinstance(layer, BatchAugmentation) for x in layer._walk())]

    def parts(self, batch, u, key):
        """Each layer with the uniform numbers and the key that are its own."""
        start = self._own_columns
        for i, layer in enumerate(self.layers):
            end = start + getattr(layer, "_columns", 0)
            yield layer, u[:, start:end], batch.place.fold(key, i)
            start = end

    def within(self, batch):
        """The batch as the layers meet it, which compute in the dtype of this one."""
        return dataclasses.replace(batch, dtype=batch.dtype or self.compute_dtype)

    def _compute(self, batch, u, noise, select, cast):
        return super()._compute(self.within(batch), u, noise, select, cast)

    def _check(self, batch):
        batch = self._cast_spec(batch)
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation):
                layer._check_as_images(batch)
            after = spec_after(layer, batch)
            if self.keeps_size:
                check_same_size(batch.images, after.images)
            batch = after

    def _check_inference(self, batch):
        batch = self.within(batch)
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation):
                layer._check_as_images(batch, False)
            batch = inference_spec_after(layer, batch)

    def _cast_spec(self, batch):
        """The specification of the batch before the first layer."""
        return super()._cast_spec(self.within(batch))

    def _output_spec(self, batch):
        batch = self._cast_spec(batch)
        for layer in self.layers:
            batch = spec_after(layer, batch)
        return batch

    def _inference(self, batch):
        batch = self._cast_images(self.within(batch))
        for layer in self.layers:
            ours = isinstance(layer, BatchAugmentation)
            batch = layer._infer(batch) if ours else apply_foreign(layer, batch, False)
        return batch

    def _inference_spec(self, batch):
        batch = self.within(batch)
        for layer in self.layers:
            batch = inference_spec_after(layer, batch)
        return batch

    def get_config(self) -> Config:
        return {**super().get_config(), "layers": [keras.saving.serialize_keras_object(x) for x in self.layers]}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The layer again."""
        return cls(**layers_of_config(config, "layers"))


def layers_of_config(config, name):
    """The arguments that a config stands for, those of the layers in it among them."""
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
    """Whether a layer of Keras has a mixer somewhere inside, where it sees images alone."""
    parts = [*getattr(layer, "layers", ()), *filter(None, [getattr(layer, "layer", None)])]
    return any(getattr(part, "_mixes", False) or holds_mixer(part) for part in parts)


def check_layers(layers, what="layers"):
    """A list of layers, at least one, that a batch can go through; one layer is a list of one."""
    layers = [layers] if isinstance(layers, keras.layers.Layer) else layers
    if not isinstance(layers, (list, tuple)) or not layers:
        fail(f"`{what}` must be a list of at least one layer.", **{what: layers})
    for layer in layers:
        if not isinstance(layer, keras.layers.Layer):
            fail(f"`{what}` must hold Keras layers.", **{what: layer})
        if type(layer) in (getattr(keras.layers, "MixUp", None), getattr(keras.layers, "CutMix", None)):
            fail("Mixers must be those of `keras_reg.layers`: Keras' own do not mix sample weights.", layer=layer.name)
        if not isinstance(layer, BatchAugmentation) and holds_mixer(layer):
            fail(
                "A mixer inside a model does not see the labels. Pass the layers of the model in a list.",
                layer=layer.name,
            )
    return layers


def agreed_format(layers, data_format):
    """The layout that all layers have: theirs where `data_format` is `None`, and never another one."""
    data_format = check_data_format(data_format)
    parts = [layer for layer in layers if isinstance(layer, BatchAugmentation) and layer._has_layout]
    formats = {layer.data_format for layer in parts} | ({data_format} - {None})
    if len(formats) > 1:
        received = [f"{layer.name}: {layer.data_format}" for layer in parts]
        fail("Expected `layers` of one `data_format`.", data_format=data_format, layers=received)
    return formats.pop() if formats else None


def agreed_kind(layers, kind):
    """What samples are to the whole: what its layers say where `kind` is `None`, and never anything else."""
    kind = check_choice("kind", kind, KINDS)
    kinds = {layer.kind for layer in layers if isinstance(layer, BatchAugmentation)} | {kind}
    if len(kinds - {None}) > 1:
        received = [f"{layer.name}: {layer.kind}" for layer in layers if isinstance(layer, BatchAugmentation)]
        fail("Expected `layers` of one `kind`.", kind=kind, layers=received)
    return next(iter(kinds - {None}), None)


def transform_part(layer, batch, u, key, select):
    """One layer, ours or Keras' own, on the images of `select` (all where `None`)."""
    if isinstance(layer, BatchAugmentation):
        return layer._apply(batch, u, key, select)
    return keep_unselected(apply_foreign(layer, batch, True), batch, select)


def spec_after(layer, batch):
    """The specification of the batch behind one layer."""
    if isinstance(layer, BatchAugmentation):
        return layer._spec_after(batch)
    return foreign_spec(layer, batch, batch.dtype)


def inference_spec_after(layer, batch):
    """Likewise where nothing is trained."""
    if isinstance(layer, BatchAugmentation):
        return layer._spec_after(batch, False)
    return foreign_spec(layer, batch, batch.dtype, training=False)
