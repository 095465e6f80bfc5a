"""Layers made of layers: one draw and one key for all of them, Keras' own image layers among them."""

import dataclasses

import keras
from keras import ops as keras_ops

from keras_reg._backend import fold, seed_words
from keras_reg._strength import deserialize
from keras_reg._validation import check_data_format, check_seed, fail
from keras_reg.layers._augmentation import BatchAugmentation
from keras_reg.layers._batch import dtype_of, is_map, leaves, map_arrays, spec_of, spread


class Composite(BatchAugmentation):
    """What `Pipeline`, `RandomChoice` and `RandomApply` share."""

    own_columns = 0
    keeps_size = False  # whether each layer meets some of the images only, so that it must keep their size

    def __init__(self, layers, seed=None, data_format=None, **kwargs):
        check_layers(layers)
        check_seed(seed)
        data_format = agreed_format(layers, data_format)
        seeds = [getattr(layer, "seed", None) for layer in layers if isinstance(layer, BatchAugmentation)]
        derived = seed
        if seed is None and seeds and None not in seeds:
            derived = seed_words(*seeds)  # seeded parts make a seeded whole
        super().__init__(seed=derived, data_format=data_format, **kwargs)
        self.seed = seed
        self.layers = list(layers)

    @property
    def columns(self):
        return self.own_columns + sum(getattr(layer, "columns", 0) for layer in self.layers)

    @property
    def mixes(self):
        return any(getattr(layer, "mixes", False) for layer in self.layers)

    @property
    def works_on_host(self):
        return all(getattr(layer, "works_on_host", False) for layer in self.layers)

    @property
    def blends(self):
        return any(getattr(layer, "blends", not isinstance(layer, BatchAugmentation)) for layer in self.layers)

    def draw_noise(self, batch, key):
        """The key, from which each layer draws when its turn has come."""
        return key

    def is_one_program(self, framework):
        ours = all(isinstance(layer, BatchAugmentation) for layer in self.layers)
        fit = framework.draws_in_programs or not any(layer.draws_pixels for layer in self.walk())
        return ours and fit and all(layer.is_one_program(framework) for layer in self.layers)

    def walk(self):
        return [self, *(x for layer in self.layers if isinstance(layer, BatchAugmentation) for x in layer.walk())]

    def parts(self, batch, u, key):
        """Each layer with the uniform numbers and the key that are its own."""
        start = self.own_columns
        for i, layer in enumerate(self.layers):
            end = start + getattr(layer, "columns", 0)
            yield layer, u[:, start:end], fold(key, i, batch.framework)
            start = end

    def check(self, batch):
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation):
                layer.check(batch)
            after = spec_after(layer, batch, self)
            if self.keeps_size:
                check_same_size(batch.images, after.images)
            batch = after

    def output_spec(self, batch):
        batch = super().output_spec(batch)
        for layer in self.layers:
            batch = spec_after(layer, batch, self)
        return batch

    def inference(self, batch):
        for layer in self.layers:
            batch = (
                layer.inference(batch) if isinstance(layer, BatchAugmentation) else apply_foreign(layer, batch, False)
            )
        return batch

    def get_config(self):
        return {**super().get_config(), "layers": [keras.saving.serialize_keras_object(x) for x in self.layers]}

    @classmethod
    def from_config(cls, config):
        config = {name: deserialize(value) for name, value in config.items()}
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config.pop("layers")]
        return cls(layers=layers, **config)


def check_layers(layers, what="layers"):
    """A list of layers, at least one, that a batch can go through."""
    if not isinstance(layers, (list, tuple)) or not layers:
        fail(f"`{what}` must be a list of at least one layer.", layers=layers)
    for layer in layers:
        if not isinstance(layer, keras.layers.Layer):
            fail(f"`{what}` must hold Keras layers.", layer=layer)
        if type(layer) in (getattr(keras.layers, "MixUp", None), getattr(keras.layers, "CutMix", None)):
            fail("Use the mixers of `keras_reg.layers`, which take all that belongs to a sample.", layer=layer.name)


def agreed_format(layers, data_format):
    """The layout that all layers have: theirs where `data_format` is `None`, and never another one."""
    check_data_format(data_format)
    parts = [layer for layer in layers if isinstance(layer, BatchAugmentation) and "data_format" in layer.arguments]
    formats = {layer.data_format for layer in parts} | ({data_format} - {None})
    if len(formats) > 1:
        received = [f"{layer.name}: {layer.data_format}" for layer in parts]
        fail("Expected `layers` of one `data_format`.", data_format=data_format, layers=received)
    return formats.pop() if formats else None


def transform_part(layer, batch, u, key, select):
    """One layer, ours or Keras' own, on the images of `select` (all where `None`)."""
    if isinstance(layer, BatchAugmentation):
        return layer.apply(batch, u, key, select)
    return keep_unselected(apply_foreign(layer, batch, True), batch, select)


def apply_foreign(layer, batch, training):
    """A layer of Keras on the images, and on masks, label maps and boxes where it can move them."""
    if not hasattr(layer, "transform_segmentation_masks"):
        return dataclasses.replace(batch, images=_back(layer(batch.images, training=training), batch), fresh=False)
    maps = [x for x in leaves(batch.labels) if is_map(x, batch.images, layer.data_format)]
    if maps and (batch.masks is not None or len(maps) > 1 or batch.terms):
        raise ValueError(f"`{layer.name}` moves one dense map along with the images. Received: several")
    mask = batch.masks if not maps else maps[0]
    data = {"images": batch.images}
    if mask is not None:
        lifted = len(mask.shape) == 3
        data["segmentation_masks"] = batch.ops.expand_dims(mask, -1) if lifted else mask
    if batch.boxes is not None:
        data["bounding_boxes"] = batch.boxes
    moved = layer(data, training=training) if len(data) > 1 else {"images": layer(batch.images, training=training)}
    found = {"images": _back(moved["images"], batch)}
    if mask is not None:
        new = _back(moved["segmentation_masks"], batch)
        new = batch.ops.cast(batch.ops.squeeze(new, -1) if lifted else new, dtype_of(mask))
        found["labels" if maps else "masks"] = (
            map_arrays(lambda x: new if x is mask else x, batch.labels) if maps else new
        )
    if batch.boxes is not None:
        found["boxes"] = map_arrays(lambda x: _back(x, batch), moved["bounding_boxes"])
    return dataclasses.replace(batch, fresh=False, **found)


def _back(array, batch):
    """What a layer of Keras made, as an array of the framework that the batch is handled by."""
    return keras_ops.convert_to_numpy(array) if batch.framework.name == "numpy" else array


def keep_unselected(done, batch, select):
    """`done` for the images of `select`, `batch` for the others."""
    if select is None:
        return done
    ops = batch.ops

    def choose(new, old):
        check_same_size(old, new)
        return new if new is old else ops.where(spread(select, new, ops), new, ops.cast(old, dtype_of(new)))

    names = ("images", "labels", "masks", "boxes", "terms", "dominant")
    pairs = {name: (getattr(done, name), getattr(batch, name)) for name in names}
    kept = {name: old if old is None else map_arrays(choose, new, old) for name, (new, old) in pairs.items()}
    return dataclasses.replace(batch, **kept)


def check_same_size(before, after):
    """Every size that is known of both, but that of the batch."""
    pairs = zip(tuple(before.shape)[1:], tuple(after.shape)[1:], strict=False)
    if len(before.shape) != len(after.shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        fail(
            "A layer applied to some images must keep their size.", before=tuple(before.shape), after=tuple(after.shape)
        )


def spec_after(layer, batch, composite):
    """The specification of the batch behind one layer."""
    if isinstance(layer, BatchAugmentation):
        return layer.output_spec(batch)
    shape = layer.compute_output_shape(tuple(batch.images.shape))
    return dataclasses.replace(batch, images=spec_of(shape, composite.compute_dtype))
