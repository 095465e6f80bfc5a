from typing import Any

import keras

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg._typing import DataFormat, Kind, StrengthLike, Tensor
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._colors import channel_axis, check_rgb, gray
from keras_reg.layers._pixels._rounding import as_pixels


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomGrayscale(BatchAugmentation):
    """Converts random images to grayscale: all three channels become the brightness of the pixel.

    The brightness is 0.299 red + 0.587 green + 0.114 blue, as in Pillow. Gray pixels keep their values, up to rounding.
    In a video, all frames change alike. In inference, the layer is the identity.

    Args:
        rate: Probability that an image becomes gray, in [0, 1], or a `keras_reg.Strength`.
        kind: Kind of sample: "image", "video", or `None`, which treats inputs with four axes as images and inputs with
            five axes as videos.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images".
        labels: Labels, which are not changed.
        sample_weight: Weights, which are not changed.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, 3), or videos (batch, time, height, width, 3). With "channels_first", the channels
        are the second axis. A single sample without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers.

    Raises:
        ValueError: For arguments out of range, and images that do not have three channels.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomGrayscale
    >>> red = np.array([[[[200, 0, 0]]]], "uint8")
    >>> np.asarray(RandomGrayscale(rate=1.0)(red)).tolist()
    [[[[60, 60, 60]]]]

    References:
        - [A Simple Framework for Contrastive Learning of Visual Representations](https://arxiv.org/abs/2002.05709)
          (Chen et al., 2020), appendix A.
    """

    keeps_integers = True
    moves_pixels = False
    kinds = ("image", "video")

    _frames_as = "rows"  # the channels of a pixel stay together
    _one_pass = True

    def __init__(
        self,
        rate: StrengthLike = 0.1,
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, kind, data_format, seed, **kwargs)

    def _check(self, batch):
        super()._check(batch)
        check_rgb(batch, self.data_format, type(self).__name__)

    def transform_images(self, images: Tensor, transformation: Any, batch: Any) -> Tensor:
        ops, dtype, axis = batch.ops, dtype_of(images), channel_axis(self.data_format)
        found = as_pixels(gray(ops.cast(images, at_least_float32(dtype)), axis), dtype, ops)
        return ops.concatenate([found, found, found], axis=axis)
