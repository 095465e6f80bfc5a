from typing import Any, Literal

import keras
from keras import ops

from keras_reg._typing import Config, DataFormat, Tensor, Tensors
from keras_reg._validation import check_choice, check_data_format, fail
from keras_reg.inference._inference_model import InferenceModel, check_one_array, infer
from keras_reg.inference._merging import merged
from keras_reg.inference._view_kinds import RandomViews, Views
from keras_reg.inference._views import checked_views
from keras_reg.layers._batch._shapes import spatial_axes

MERGES = ("mean", "logits", "vote", "max")


@keras.saving.register_keras_serializable(package="keras_reg")
class TestTimeAugmentation(InferenceModel):
    """Merges the predictions for several views of each image, such as its mirror image or ten crops.

    The output has the form of the output of `model`: logits stay logits, so the same loss and metrics apply. If `model`
    is compiled, this model is compiled with the same loss and metrics. The weights are shared. `model` runs in
    inference mode, so its statistics and seeds are not changed.

    All views of the same size run as one batch. If memory is short, pass a smaller `batch_size` to `predict`.

    If the outputs have positions (batch, height, width, classes), as in segmentation, flips are undone before the
    outputs are merged. Crops, sizes and layers that move pixels are refused.

    Args:
        model: A trained `keras.Model` with images as its only input, and one output.
        views: `flips()`, `five_crop(size)`, `ten_crop(size)`, `multi_scale(sizes)`, or a layer that augments images: an
            image layer of Keras, or a layer of `keras_reg.layers` that does not mix images.
        merge: "mean" averages probabilities, or the numbers of a regression. "logits" averages logits, which is the
            normalized geometric mean of the probabilities. "vote" gives the share of the views that predict a class.
            "max" gives the largest probability, normalized for classes that exclude each other.
        samples: Number of views if `views` is a layer.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        **kwargs: Further arguments of `keras.Model`, such as `name`.

    Call arguments:
        inputs: Images, or the dict or list of them that `model` accepts. With crops or sizes, they may differ in size
            from the inputs of `model`.

    Input shape:
        (batch, height, width, channels), or (batch, channels, height, width) with "channels_first". A layer as `views`
        accepts what the layer and the model accept.

    Output shape:
        The output shape of `model`.

    Raises:
        ValueError: If an argument is invalid; when the model is called, if crops are larger than the images, if views
            cannot be undone for outputs with positions, or if it is not known whether the outputs are logits.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import inference
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    >>> averaged = inference.TestTimeAugmentation(model, inference.flips())
    >>> x = np.random.default_rng(0).random((5, 8, 8, 1))
    >>> np.allclose(averaged.predict(x, verbose=0), averaged.predict(x[:, :, ::-1], verbose=0), atol=1e-6)
    True

    References:
        - [ImageNet Classification with Deep Convolutional Neural Networks](
          https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks)
          (Krizhevsky et al., 2012), section 4.1, which averages the probabilities of ten crops.
    """

    __test__ = False  # not a test class, whatever its name begins with

    def __init__(
        self,
        model: keras.Model,
        views: Views | keras.layers.Layer,
        merge: Literal["mean", "logits", "vote", "max"] = "mean",
        samples: int | None = None,
        from_logits: bool | None = None,
        data_format: DataFormat = None,
        **kwargs: Any,
    ) -> None:
        found = checked_views(views, samples)
        merge = check_choice("merge", merge, MERGES)
        data_format = check_data_format(data_format)
        super().__init__(model, from_logits, **kwargs)
        inputs = getattr(self.network, "inputs", None) or [None]
        if len(inputs) != 1:
            fail("`model` must have images as its only input.", inputs=len(inputs))
        self.views, self.samples, self.merge = views, samples, merge
        self.data_format = data_format or keras.config.image_data_format()
        self._all_views = found
        self._layer_of_views = getattr(found, "layer", None)  # tracked, since it draws random numbers
        if getattr(self.network, "outputs", None):
            self._axes_of_maps(inputs[0], self.network.outputs[0])
            if len(inputs[0].shape) == 4 and None not in inputs[0].shape[1:]:
                self._all_views.spec(inputs[0], self._axes_of(inputs[0]))

    def compute_output_spec(self, inputs: Tensors, training: bool | None = None) -> Any:
        images = _only(inputs)
        output = self._output(self._all_views.spec(images, self._axes_of(images)), inputs)
        self._axes_of_maps(images, output)
        return keras.KerasTensor(output.shape, output.dtype)

    def _axes_of(self, images):
        """Returns the axes of the height and of the width."""
        if len(images.shape) != 4 and not isinstance(self._all_views, RandomViews):
            fail("`inputs` must be images with four axes.", shape=tuple(images.shape))
        return spatial_axes(self.data_format)

    def call(self, inputs: Tensors, training: bool | None = None) -> Tensor:
        images = _only(inputs)
        outputs = self._outputs(self._all_views.of(images, self._axes_of(images)), inputs)
        axes_of_maps = self._axes_of_maps(images, outputs[0])
        if axes_of_maps is not None:
            outputs = self._all_views.back(outputs, axes_of_maps)
        return merged(outputs, self.merge, self.distribution(outputs[0]))

    def _output(self, images, inputs):
        """Returns the output of the model for images in the structure of `inputs`."""
        return check_one_array(infer(self.model, keras.tree.pack_sequence_as(inputs, [images])), self.model)

    def _outputs(self, views, inputs):
        """Returns the output of the model for each view. Views of one size are one batch."""
        outputs = [None] * len(views)
        for shape in dict.fromkeys(tuple(view.shape[1:]) for view in views):
            places = [place for place, view in enumerate(views) if tuple(view.shape[1:]) == shape]
            batch = ops.concatenate([views[place] for place in places])
            found = self._output(batch, inputs)
            for place, output in zip(places, ops.split(found, len(places)), strict=True):
                outputs[place] = output
        return outputs

    def _axes_of_maps(self, images, output):
        """Returns the axes of outputs that are positions in the images, or `None` if there are none."""
        rank = len(output.shape)
        if rank <= 2 or (rank == 4 and {output.shape[axis] for axis in spatial_axes(self.data_format)} == {1}):
            return None
        if not self._all_views.moves_back:
            fail("These `views` cannot be undone, so `model` must not have outputs with positions.",
                 views=self.views, output_shape=tuple(output.shape))  # fmt: skip
        if rank == 4:
            return spatial_axes(self.data_format)
        sides = tuple(images.shape[axis] for axis in spatial_axes(self.data_format))
        if isinstance(self._all_views, RandomViews) or (rank == 3 and None not in sides and output.shape[1:] == sides):
            return (1, 2)
        fail("`model` must have outputs (batch, ...), or maps (batch, height, width, ...).", output_shape=output.shape)

    def get_config(self) -> Config:
        own = {"merge": self.merge, "samples": self.samples, "data_format": self.data_format}
        return {**super().get_config(), **own, "views": keras.saving.serialize_keras_object(self.views)}


def _only(inputs):
    """Returns the images from the inputs of a model with one input, which may be in a dict or list."""
    found = keras.tree.flatten(inputs)
    if len(found) != 1:
        fail("`inputs` must be one array of images.", inputs=len(found))
    return found[0]
