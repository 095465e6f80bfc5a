from collections.abc import Sequence
from typing import Any

import keras

from keras_reg._typing import Config, DataFormat, Kind, Pair, StrengthLike, Tensor
from keras_reg._validation import check_span, span_of
from keras_reg.layers._batch._fill_values import check_has_value_range, check_value_range
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._kernels import kernels_for


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomSharpness(BatchAugmentation):
    """Sharpens or smooths each image at random.

    The layer changes the distance of each pixel from a smoothed image, the weighted mean of 3 x 3 pixels. The change of
    each image is drawn uniformly from its range. The outermost rows and columns are unchanged, as in Pillow and
    torchvision. In a video, all frames change alike. In inference, the layer is the identity.

    Args:
        sharpness: Relative change, in [-1, 9]: -1 smooths the image, 0 does not change it, and 1 doubles the distance
            from the smoothed image. A number x stands for the range from -x to x, and a pair is the range
            (least, most).
        rate: Probability that an image is changed, in [0, 1], or a `keras_reg.Strength`.
        value_range: Range (least, most) of the pixels, to which they are clipped. With `None`, it is (0, 255), which
            only `uint8` images accept.
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
        Images (batch, height, width, channels), or videos (batch, time, height, width, channels). With
        "channels_first", the channels are the second axis. A single sample without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers, and their values are rounded down, as in torchvision.

    Raises:
        ValueError: For arguments out of range, and images that are not `uint8` without a `value_range`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomSharpness
    >>> image = np.full((1, 3, 3, 1), 130, "uint8")
    >>> image[0, 1, 1, 0] = 0
    >>> np.asarray(RandomSharpness(sharpness=(-1, -1))(image))[0, :, :, 0].tolist()
    [[130, 130, 130], [130, 80, 130], [130, 130, 130]]

    References:
        - [AutoAugment: Learning Augmentation Policies from Data](https://arxiv.org/abs/1805.09501) (Cubuk et al.,
          2019), table 6, with changes from -0.9 to 0.9.
    """

    uniform_numbers = 1
    keeps_integers = True
    moves_pixels = False
    kinds = ("image", "video")

    _has_range = True
    _selects = True
    _makes_images = True
    _works_on_host = True

    def __init__(
        self,
        sharpness: float | Sequence[float],
        rate: StrengthLike = 1.0,
        value_range: Pair | None = None,
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        sharpness, value_range = check_span("sharpness", sharpness, -1, 9), check_value_range(value_range)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.sharpness, self.value_range = sharpness, value_range

    def _check(self, batch):
        super()._check(batch)
        check_has_value_range(self.value_range, self._dtype_of_pixels(batch.images, batch))

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Returns the weight of each image itself, (batch,). The smoothed image has the rest."""
        low, high = span_of(self.sharpness)
        factors = 1.0 + low + random.uniform[:, 0] * (high - low)
        return batch.computed_once(batch.ops.where(random.selected, factors, 1.0))[0]

    def transform_images(self, images: Tensor, factors: Any, batch: Any) -> Tensor:
        return kernels_for(batch, self.data_format).sharpen(images, factors, self.value_range or (0, 255))

    def get_config(self) -> Config:
        return {**super().get_config(), "sharpness": self.sharpness, "value_range": self.value_range}
