import dataclasses
from typing import Any

import keras

from keras_reg._typing import Tensor, Tensors
from keras_reg.layers._batch._forms import Batch, Form, dtype_of, each, map_arrays, spec_of
from keras_reg.layers._batch._moving import with_batch_axis
from keras_reg.layers._batch._terms import resized_spec


class AugmentationSpecs:
    """The shapes and dtypes of what comes out, as Keras asks for them."""

    def compute_output_spec(
        self,
        data: Tensors,
        labels: Tensors = None,
        sample_weight: Tensors = None,
        training: bool | None = True,
        index: Tensor = None,
    ) -> Any:
        """The specification of what a call returns."""
        form = Form(data, labels, sample_weight)
        self._check_batch(form.batch, training)
        spec = self._inference_spec(form.batch) if training is False else self._output_spec(form.batch)
        # New objects even for what passes through: a graph could not tell an input from the output that it is.
        return map_arrays(lambda array: keras.KerasTensor(array.shape, array.dtype), form.restore(spec))

    def compute_output_shape(self, input_shape: Any, *args: Any) -> Any:
        """The shape of the images that come out; what belongs to them keeps its own."""
        if isinstance(input_shape, dict):
            return {**input_shape, "images": self.compute_output_shape(input_shape["images"])}
        if isinstance(input_shape[0], (tuple, list)):
            return (self.compute_output_shape(input_shape[0]), *input_shape[1:])
        images = spec_of(tuple(input_shape), self.compute_dtype)
        return tuple(self._output_spec(Batch(images=images)).images.shape)

    def _output_spec(self, batch):
        """The specification of the batch that training returns; a subclass changes what it changes."""
        shape, dtype = tuple(batch.images.shape), self._dtype_of_pixels(batch)
        if not self._overrides("compute_image_shape"):
            return dataclasses.replace(batch, images=spec_of(shape, dtype))
        whole = with_batch_axis(batch)
        new = self.compute_image_shape(tuple(whole.images.shape))
        done = resized_spec(whole, spec_of(new, dtype), self.data_format)
        return done if len(shape) == 4 else each(done, lambda array: spec_of(array.shape[1:], dtype_of(array)))

    def _inference_spec(self, batch):
        """The specification of the batch that inference returns."""
        images = spec_of(tuple(batch.images.shape), self._dtype_of_pixels(batch))
        return dataclasses.replace(batch, images=images)
