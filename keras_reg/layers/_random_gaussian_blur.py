import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_reg._typing import Config, DataFormat, Kind, StrengthLike, Tensor
from keras_reg._validation import check_integer, check_number, check_range, fail, is_number, native
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._blur import gaussian_weights
from keras_reg.layers._pixels._kernels import kernels_for

LARGEST_SIGMA = 100
REACH = 3  # how many standard deviations the kernel reaches to each side, by default


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomGaussianBlur(BatchAugmentation):
    """Blurs random images with a Gaussian kernel.

    The standard deviation of each image is drawn uniformly from its range. Images are mirrored at their border, without
    repeating it. The mean brightness stays about the same. In a video, all frames are blurred alike. In inference, the
    layer is the identity.

    Args:
        sigma: Standard deviation of the kernel in pixels, in [0, 100]: a number, or a range (least, most) from which a
            number is drawn per image. 0 does not change the image.
        kernel_size: Height and width of the kernel in pixels, an odd integer from 3 to 601. With `None`, the kernel
            reaches 3 standard deviations to each side, for the largest `sigma`.
        rate: Probability that an image is blurred, in [0, 1], or a `keras_reg.Strength`.
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
        The shape of the input. Integer images stay integers, and their values are rounded.

    Raises:
        ValueError: For arguments out of range.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomGaussianBlur
    >>> image = np.zeros((1, 5, 5, 1), "uint8")
    >>> image[0, 2, 2, 0] = 100
    >>> np.asarray(RandomGaussianBlur(sigma=1.0, rate=1.0)(image))[0, 2, :, 0].tolist()
    [4, 10, 16, 10, 4]

    References:
        - [A Simple Framework for Contrastive Learning of Visual Representations](https://arxiv.org/abs/2002.05709)
          (Chen et al., 2020), appendix A, with sigma from 0.1 to 2.0, a rate of 0.5, and a kernel of a tenth of the
          height of the image.
    """

    uniform_numbers = 1
    keeps_integers = True
    moves_pixels = False
    kinds = ("image", "video")

    _selects = True
    _makes_images = True
    _works_on_host = True

    def __init__(
        self,
        sigma: float | Sequence[float] = (0.1, 2.0),
        kernel_size: int | None = None,
        rate: StrengthLike = 0.5,
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check = check_number if is_number(native(sigma)) else check_range
        sigma = check("sigma", sigma, 0, LARGEST_SIGMA)
        kernel_size = check_integer("kernel_size", kernel_size, 3, optional=True, high=2 * REACH * LARGEST_SIGMA + 1)
        if kernel_size is not None and kernel_size % 2 == 0:
            fail("`kernel_size` must be an odd integer or None.", kernel_size=kernel_size)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.sigma, self.kernel_size = sigma, kernel_size

    @property
    def _range(self):
        return tuple(self.sigma) if isinstance(self.sigma, (tuple, list)) else (self.sigma, self.sigma)

    @property
    def _radius(self):
        """The number of pixels on each side of the center of the kernel."""
        if self.kernel_size is not None:
            return self.kernel_size // 2
        return max(1, math.ceil(REACH * self._range[1]))

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Returns the standard deviation of the kernel of each image, and the weights of the pixels, each (batch,)."""
        low, high = self._range
        sigmas = low + random.uniform[:, 0] * (high - low)
        (sigmas,) = batch.computed_once(batch.ops.where(random.selected, sigmas, 0.0))
        return sigmas, gaussian_weights(sigmas, self._radius, batch.ops)

    def transform_images(self, images: Tensor, drawn: Any, batch: Any) -> Tensor:
        return kernels_for(batch, self.data_format).blur(images, *drawn)

    def get_config(self) -> Config:
        return {**super().get_config(), "sigma": self.sigma, "kernel_size": self.kernel_size}
