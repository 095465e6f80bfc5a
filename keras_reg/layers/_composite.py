"""Layers made of layers: one draw and one key for all of them, Keras' own image layers among them."""

import keras

from keras_reg._backend import fold, seed_words
from keras_reg._strength import deserialize
from keras_reg._validation import check_data_format, check_seed, fail
from keras_reg.layers._augmentation import BatchAugmentation
from keras_reg.layers._foreign import apply_foreign
from keras_reg.layers._foreign_spec import foreign_spec
from keras_reg.layers._terms import check_same_size, keep_unselected


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

    def check_inference(self, batch):
        for layer in self.layers:
            if isinstance(layer, BatchAugmentation):
                layer.check_inference(batch)
            batch = inference_spec_after(layer, batch, self)

    def inference_spec(self, batch):
        for layer in self.layers:
            batch = inference_spec_after(layer, batch, self)
        return batch

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


def spec_after(layer, batch, composite):
    """The specification of the batch behind one layer."""
    if isinstance(layer, BatchAugmentation):
        return layer.output_spec(batch)
    return foreign_spec(layer, batch, composite.compute_dtype)


def inference_spec_after(layer, batch, composite):
    """Likewise where nothing is trained."""
    if isinstance(layer, BatchAugmentation):
        return layer.inference_spec(batch)
    return foreign_spec(layer, batch, composite.compute_dtype, training=False)
