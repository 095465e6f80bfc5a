from typing import Any, Self

import keras

from keras_reg._typing import Config, DataFormat, Kind, StrengthLike
from keras_reg.layers._augmentation._parts import check_layers, layers_of_config, transform_part
from keras_reg.layers._batch_augmentation import selected
from keras_reg.layers._composite import Composite
from keras_reg.layers._pipeline import taken_apart


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomApply(Composite):
    """Applies a layer to each image with probability `rate`. The other images are unchanged.

    In inference, it behaves like the layer in inference.

    Args:
        layer: A layer of this package or an image layer of Keras that keeps the size of the images; a
            `keras.Sequential` becomes a `Pipeline`. Keras layers run on the whole batch, and only the results of the
            selected images are used.
        rate: Probability that the layer is applied to an image, in [0, 1], or a `keras_reg.Strength`. It is
            multiplied by the rate of the layer, if there is one.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0. With `None`, the seed of the layer is used.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`. All computations use the
            dtype of this layer. The dtype of `layer` is ignored.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, in a form that the layer accepts.
        sample_weight: Weights of shape (batch,), or (batch, height, width), which move with the pixels.
        training: `False` for inference. Defaults to `True`. Inside a model, it defaults to the `training` argument of
            the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Inputs that the layer accepts: any shape (batch, ...) for `MixUp` and `LabelNoise`; images
        (batch, height, width, channels), videos (batch, time, height, width, channels) and signals
        (batch, time, channels) for others. With "channels_first", the channels are the second axis.

    Output shape:
        The output shape of the layer.

    Raises:
        ValueError: For a rate outside [0, 1], an object that is not a layer, and a layer that changes the size.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg.layers import RandomApply
    >>> layer = RandomApply(keras.layers.GaussianNoise(0.1), rate=0.0)
    >>> bool((np.asarray(layer(np.ones((2, 4, 4, 3)))) == 1).all())
    True
    """

    keeps_size = True

    _own_columns = 1

    def __init__(
        self,
        layer: keras.layers.Layer,
        rate: StrengthLike = 0.5,
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        layer = taken_apart(layer)
        check_layers([layer], "layer")
        super().__init__([layer], kind, data_format, seed, rate, **kwargs)

    @property
    def layer(self) -> keras.layers.Layer:
        return self.layers[0]

    def _transform(self, batch, u, key, select=None):
        drawing, u, select = self._drawing(batch, u, select)
        chosen = selected(u[:, 0], self.strength("rate", drawing), select)
        ((layer, numbers, part_key),) = self.parts(batch, u, key)
        return transform_part(layer, batch, numbers, part_key, chosen)

    def get_config(self) -> Config:
        config = super().get_config()
        return {**{name: value for name, value in config.items() if name != "layers"}, "layer": config["layers"][0]}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Creates a layer from its config."""
        return cls(**layers_of_config(config, "layer"))
