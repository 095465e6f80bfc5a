"""Layers that contain other layers, including Keras' own image layers. All of them share one draw and one key."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_reg._backend import makes_no_values, outside_of_graphs, seed_words
from keras_reg._typing import Config, DataFormat, Kind, Shape, StrengthLike
from keras_reg._validation import check_seed
from keras_reg.layers._augmentation._parts import (
    agreed_format,
    agreed_kind,
    check_layers,
    inference_spec_after,
    layers_of_config,
    spec_after,
    transform_part,
)
from keras_reg.layers._batch._foreign import apply_foreign, is_image_layer, moves
from keras_reg.layers._batch._kinds import SHAPES
from keras_reg.layers._batch._terms import check_same_size
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._fused import FusedMovers


def moves_pixels(layer):
    """Whether a layer, from this package or from Keras, moves pixels in training."""
    if isinstance(layer, Composite):
        return any(map(moves_pixels, layer.layers))
    if isinstance(layer, BatchAugmentation):
        return layer.moves_pixels and not layer._any_rank
    return moves(layer)


def _is_unbuilt(layer):
    """Whether a layer has a `build` of its own that has not run yet."""
    return not layer.built and type(layer).build is not keras.layers.Layer.build


class Composite(BatchAugmentation):
    """Base class of `Pipeline`, `RandomChoice` and `RandomApply`."""

    _own_columns = 0
    _calls_hooks = False
    keeps_size = False  # whether layers must keep the size of the images, since each is applied to some images only

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
            derived = seed_words(*seeds)  # if all layers have a seed, this one is seeded too
        super().__init__(rate, agreed_kind(layers, kind), data_format, derived, **kwargs)
        self.seed = seed
        self.layers = list(layers)
        self.supports_masking = all(layer.supports_masking for layer in self.layers)
        self.built = not any(map(_is_unbuilt, self.layers))

    def build(self, input_shape: Shape) -> None:
        shape = input_shape
        with outside_of_graphs():
            for number, layer in enumerate(self.layers):
                if _is_unbuilt(layer) and (isinstance(layer, BatchAugmentation) or not makes_no_values()):
                    layer.build(shape)
                if any(map(_is_unbuilt, self.layers[number + 1 :])):
                    shape = layer.compute_output_shape(shape)

    @property
    def _columns(self):
        return self._own_columns + sum(getattr(layer, "_columns", 0) for layer in self.layers)

    @property
    def _mixes(self):
        return any(getattr(layer, "_mixes", False) for layer in self.layers)

    @property
    def _one_pass(self):
        return all(getattr(layer, "_one_pass", False) for layer in self.layers)

    @property
    def _works_on_host(self):
        return all(getattr(layer, "_works_on_host", False) for layer in self.layers)

    @property
    def _any_rank(self):
        ours = [layer._any_rank for layer in self.layers if isinstance(layer, BatchAugmentation)]
        return all(ours) and not any(map(is_image_layer, self.layers))

    @property
    def _folds(self):
        """Each inner layer folds its own input."""
        return False

    def _all_kinds(self):
        kinds = [layer._all_kinds() for layer in self.layers if isinstance(layer, BatchAugmentation)]
        kinds += [("image", "video") for layer in self.layers if is_image_layer(layer)]
        return tuple(name for name in SHAPES if all(name in known for known in kinds))

    @property
    def keeps_integers(self):
        return all(isinstance(layer, BatchAugmentation) and layer.keeps_integers for layer in self.layers)

    def _keeps_integers_of(self, batch):
        return all(isinstance(layer, BatchAugmentation) and layer._keeps_integers_of(batch) for layer in self.layers)

    def _draw_noise(self, batch, key):
        """Returns the key. Each layer draws its own noise from it."""
        return key

    @property
    def _draws_pixels_inside(self):
        return any(layer._draws_pixels for layer in self._walk())

    def _is_one_program(self):
        return all(isinstance(layer, BatchAugmentation) and layer._is_one_program() for layer in self.layers)

    def _walk(self):
        return [self, *(x for layer in self.layers if isinstance(layer, BatchAugmentation) for x in layer._walk())]

    def parts(self, batch, u, key):
        """Yields each part with its uniform numbers and its key, which do not depend on how layers are joined."""
        start, number = self._own_columns, 0
        for part in self._parts():
            end = start + getattr(part, "_columns", 0)
            yield part, u[:, start:end], batch.place.fold(key, number)
            start, number = end, number + (part.joined if isinstance(part, FusedMovers) else 1)

    def _in_turn(self, batch, u, key, select):
        """Returns the batch after one part after another. `select` returns the selection for the part of a number."""
        before = None
        for i, (layer, numbers, part_key) in enumerate(self.parts(batch, u, key)):
            if before is not None and not all(getattr(part, "_one_pass", False) for part in (before, layer)):
                batch = batch.with_images_computed_once()
            batch, before = transform_part(layer, batch, numbers, part_key, select(i)), layer
        return batch

    def _parts(self):
        """Returns the layers, or joined layers, in the order in which they are applied."""
        return self.layers

    def within(self, batch):
        """Returns the batch for the inner layers, which compute in the dtype of this layer."""
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

    def _check_values(self, batch):
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation):
                layer._check_values(batch)

    def _check_inference(self, batch):
        batch = self.within(batch)
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation):
                layer._check_as_images(batch, False)
            batch = inference_spec_after(layer, batch)

    def _cast_spec(self, batch):
        """Returns the specification of the batch before the first layer."""
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
        """Creates a layer from its config."""
        return cls(**layers_of_config(config, "layers"))
