import dataclasses
from typing import Any

import keras

from keras_reg._dtypes import dtype_of
from keras_reg._typing import Tensor, Tensors
from keras_reg.layers._batch._content import Batch, each, map_arrays
from keras_reg.layers._batch._forms import Form
from keras_reg.layers._batch._kinds import kind_of, lifted
from keras_reg.layers._batch._shapes import spec_of
from keras_reg.layers._batch._terms import resized_spec


class AugmentationSpecs:
    """The shapes and dtypes of the output, as Keras requests them."""

    def compute_output_spec(
        self,
        data: Tensors,
        labels: Tensors = None,
        sample_weight: Tensors = None,
        training: bool | None = True,
        index: Tensor = None,
    ) -> Any:
        """Returns the specification of the output of a call."""
        form = Form(data, labels, sample_weight, several=self._any_rank)
        batch, single = self._read(form.batch, training)
        spec = self._spec_after(batch, training)
        if single:
            spec = each(spec, lambda array: spec_of(array.shape[1:], dtype_of(array)))
        spec = dataclasses.replace(spec, others=form.batch.others)
        # Unchanged entries become new objects too. Otherwise, a graph could not distinguish input and output.
        return map_arrays(lambda array: keras.KerasTensor(array.shape, array.dtype), form.restore(spec))

    def compute_output_shape(self, input_shape: Any, *args: Any) -> Any:
        """Returns the shape of the output images. All other shapes are unchanged."""
        if isinstance(input_shape, dict):
            return {**input_shape, "images": self.compute_output_shape(input_shape["images"])}
        if isinstance(input_shape[0], (tuple, list)):
            return (self.compute_output_shape(input_shape[0]), *input_shape[1:])
        batch = Batch(images=spec_of(tuple(input_shape), self.compute_dtype))
        kind, single = kind_of(batch, self)
        batch = dataclasses.replace(lifted(batch) if single else batch, kind=kind)
        shape = tuple(self._spec_after(batch).images.shape)
        return shape[1:] if single else shape

    def _spec_after(self, batch, training=True):
        """Returns the specification of a batch of any kind after this layer."""
        folding = self._folding(batch)
        inner = batch if folding is None else folding.fold()
        done = self._inference_spec(inner) if training is False else self._output_spec(inner)
        return done if folding is None else folding.unfold(done)

    def _output_spec(self, batch):
        """Returns the specification of the output in training. Subclasses override it if they change more."""
        done = self._cast_spec(batch)
        if not self._overrides("compute_image_shape"):
            return done
        shape = self.compute_image_shape(tuple(batch.images.shape))
        return resized_spec(batch, spec_of(shape, done.images.dtype), self.data_format)

    def _inference_spec(self, batch):
        """Returns the specification of the output in inference."""
        return self._cast_spec(batch)

    def _cast_spec(self, batch):
        """Returns the specification of the batch with its images in the output dtype."""

        def cast(array):
            return spec_of(tuple(array.shape), self._dtype_of_pixels(array, batch))

        return dataclasses.replace(batch, images=map_arrays(cast, batch.images))
