import dataclasses
from typing import Any

import keras

from keras_reg._backend import as_written, is_concrete, place_of
from keras_reg._dtypes import dtype_of
from keras_reg._typing import Tensor, Tensors
from keras_reg._validation import fail
from keras_reg.layers._batch._arrays import accept, check_call, check_weights, set_apart, written_out
from keras_reg.layers._batch._content import arrays_of, each, leaves
from keras_reg.layers._batch._forms import Form, to_tensors
from keras_reg.layers._batch._kinds import kind_of, lifted
from keras_reg.layers._batch._sizes import check_sizes, check_unknown_sizes, warn_of_other_layout, warn_of_other_range


class AugmentationCall:
    """The public call. It accepts every form of a batch, checks the batch, and returns the same form."""

    def __call__(self, data: Tensors, labels: Tensors = None, sample_weight: Tensors = None, **kwargs: Any) -> Tensors:
        """Augments a batch in any of the call forms.

        All checks run here, before Keras converts the arrays or wraps the error messages.
        """
        return as_written(self._checked_call)(data, labels, sample_weight, **kwargs)

    def _checked_call(self, data, labels, sample_weight, index=None, **kwargs):
        form = Form(*map(written_out, (data, labels, sample_weight)), several=self._any_rank)
        accept(form, self._any_rank)
        training, index = check_call(kwargs.get("training"), index)
        arrays = [*arrays_of(form.batch), *leaves(form.batch.others)]
        symbolic = any(isinstance(array, keras.KerasTensor) for array in arrays)
        if symbolic or "training" in kwargs:
            # A model stores `training`. `None` means inference, unless the model is called with `training=True`.
            kwargs["training"] = training
        if index is not None:
            kwargs["index"] = index
        batch, single = self._read(form.batch, bool(training) if "training" in kwargs and not symbolic else training)
        if symbolic:
            self._check_sees_labels(form.batch, training)
        if not self.built:
            self._build_for(batch, single)
        if not symbolic and training is not False:
            self._check_range(form.batch.images)
        if not symbolic and not place_of(arrays).is_native:
            return self.call(*form.arguments(), **kwargs)
        apart = set_apart(form.batch)  # the entries that Keras cannot convert
        done = super().__call__(*form.arguments(), **kwargs)
        return form.put_back(done, apart) if apart else done

    def call(
        self,
        data: Tensors,
        labels: Tensors = None,
        sample_weight: Tensors = None,
        training: bool | None = True,
        index: Tensor = None,
    ) -> Tensors:
        """Augments tensors of one place. Keras calls this method after the checks."""
        form = Form(data, labels, sample_weight, several=self._any_rank)
        batch, training = to_tensors(form.batch), bool(training)
        kind, single = kind_of(batch, self, training=training)
        batch = dataclasses.replace(batch, kind=kind)
        if single:
            batch = each(batch, lambda array: batch.ops.expand_dims(array, 0))
        if training and any(layer._changes_maps() for layer in self._walk()):
            check_unknown_sizes(batch, self.data_format, type(self).__name__)
        batch = self._augment(batch, index) if training else self._infer(batch)
        if single:
            batch = each(batch, lambda array: batch.ops.squeeze(array, 0))
        return form.restore(each(batch, batch.place.returned))

    def _read(self, batch, training=True, called=True):
        """Checks a batch. Returns the batch with its kind and a batch axis, and whether it was a single sample.

        Invalid input raises an error. The batch may hold arrays, tensors or specifications.
        """
        kind, single = kind_of(batch, self, called, training)
        batch = dataclasses.replace(lifted(batch) if single else batch, kind=kind)
        check_sizes(batch)
        check_weights(batch)
        self._check_layout(batch.images)
        self._check_as_images(batch, training)
        if training is not False:
            self._check_compute_dtype(batch)
        return batch, single

    def _build_for(self, batch, single=False):
        """Builds a subclass that has weights."""
        shapes = [(None if single else array.shape[0], *array.shape[1:]) for array in leaves(batch.images)]
        self.build(shapes[0] if len(shapes) == 1 else shapes)

    def _check_layout(self, images):
        if self._knows_layout or not self._has_layout or not hasattr(images, "shape"):
            return
        self._knows_layout = True
        warn_of_other_layout(images, self.data_format, type(self).__name__)

    def _changes_maps(self):
        """Whether this layer, without the layers in it, changes maps such as masks along with the images."""
        fills = getattr(self, "mask_fill", None) is not None
        return ((self._calls_hooks and self.moves_pixels) or self._mixes or fills) and not self._any_rank

    def _check_range(self, images):
        """Warns once if the values of the first images do not fit the ranges of pixels that layers assume."""
        if self._knows_range or not is_concrete(images) or not hasattr(images, "shape"):
            return
        self._knows_range = True
        for layer in self._walk():
            if any(
                not type(part).__module__.startswith("keras_reg.") for part in (layer, *getattr(layer, "layers", ()))
            ):
                return  # a layer of Keras, or of the user, may change the range
            if layer._has_range and layer.value_range is not None:
                warn_of_other_range(images[:64], layer.value_range, type(layer).__name__)

    def _check_sees_labels(self, batch, training):
        """Refuses a mixer inside a model: the labels go directly to the loss, so it would mix only the images."""
        if not self._mixes or training is False:
            return
        if all(part is None for part in (batch.labels, batch.masks, batch.boxes)):
            fail(
                f"`{type(self).__name__}` needs the labels too, but layers inside a model only get images. Pass it to "
                "`keras_reg.training.RegularizedModel`, alone or in a `keras.Sequential` without `keras.Input`, or map "
                "it over the dataset.",
                layer=self.name, labels=None,
            )  # fmt: skip

    def _check_compute_dtype(self, batch):
        """Refuses an integer compute dtype, in which every pixel would be rounded."""
        if not self.keeps_integers and not keras.backend.is_float_dtype(self.compute_dtype):
            fail(
                f"`{type(self).__name__}` computes with pixel values and needs a float dtype.",
                dtype=self.compute_dtype, images=[dtype_of(array) for array in leaves(batch.images)],
            )  # fmt: skip
