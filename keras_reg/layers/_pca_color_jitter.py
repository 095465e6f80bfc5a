from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_reg._dtypes import dtype_of
from keras_reg._renamed import renamed
from keras_reg._strength import LARGEST, plain, serialize
from keras_reg._typing import Config, DataFormat, Pair, StrengthLike, Tensor, Tensors
from keras_reg._validation import check_range, fail, native
from keras_reg.layers._batch._fill_values import check_fill
from keras_reg.layers._batch._shapes import number_of_channels
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._strength_weight import given

# For ImageNet pixels in [0, 1], as in common use since Krizhevsky et al. (2012).
IMAGENET_STDDEVS = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


@keras.saving.register_keras_serializable(package="keras_reg")
class PCAColorJitter(BatchAugmentation):
    """Shifts the colors of each image along the principal components of the colors of the data.

    All pixels of an image get the same shift: the sum over all components of eigenvector * a * standard deviation along
    the component, with a ~ N(0, stddev^2) drawn per component and image. The expectation is the image itself. In
    inference, the layer is the identity.

    Args:
        stddev: Standard deviation of a, in [0, 1e30], or a `keras_reg.Strength`.
        rate: Probability that an image is shifted, in [0, 1], or a `keras_reg.Strength`.
        stddevs: Standard deviations of the colors along the components, one per channel, in the units of the images.
            `adapt` can also set them. The default is those of ImageNet, for images in `value_range`, or in [0, 1] if it
            is `None`.
        eigenvectors: Matrix whose columns are the components.
        value_range: Range (least, most) of the pixels, to which they are clipped. With `None`, they are not clipped.
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
        Images (batch, height, width, channels), or (batch, channels, height, width) with "channels_first".
        A single image without the batch axis is accepted. Integer images become floats of the layer's compute dtype,
        also in inference.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: For arguments out of range, or components that do not fit the channels.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import PCAColorJitter
    >>> layer = PCAColorJitter(stddev=0.5, seed=0)
    >>> shift = np.asarray(layer(np.zeros((2, 4, 4, 3))))
    >>> bool((shift == shift[:, :1, :1]).all())
    True

    References:
        - [ImageNet Classification with Deep Convolutional Neural Networks](
          https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks)
          (Krizhevsky et al., 2012). The paper scales by the eigenvalues of the covariance. The published code and
          this layer scale by their square roots, which have the units of the pixels.
    """

    moves_pixels = False

    _has_range = True
    kinds = ("image", "video")

    _draws_apart = False  # the normal numbers are tensors
    _frames_as = "rows"  # the channels of a pixel stay together
    _one_pass = True

    @renamed(eigenvalues="stddevs")
    def __init__(
        self,
        stddev: StrengthLike = 0.1,
        rate: StrengthLike = 1.0,
        stddevs: Sequence[float] | None = None,
        eigenvectors: Sequence[Sequence[float]] | None = None,
        value_range: Pair | None = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        stddev = given("stddev", stddev)
        value_range = None if value_range is None else check_range("value_range", value_range)
        stddevs, eigenvectors = native(stddevs), native(eigenvectors)
        self._check_components(stddevs, eigenvectors, plain(stddev))
        super().__init__(rate, data_format=data_format, seed=seed, **kwargs)
        self.set_strength("stddev", stddev)
        self.stddevs, self.eigenvectors, self.value_range = stddevs, eigenvectors, value_range

    @staticmethod
    def _check_components(values, vectors, stddev):
        if values is None and vectors is None:
            return
        if values is None or vectors is None:
            fail("Expected both `stddevs` and `eigenvectors`, or neither.", stddevs=values, eigenvectors=vectors)
        try:
            deviations, matrix = np.asarray(values, "float64"), np.asarray(vectors, "float64")
        except (TypeError, ValueError, OverflowError):
            deviations = matrix = np.asarray(np.nan)
        n = deviations.size
        right = deviations.shape == (n,) and matrix.shape == (n, n) and np.isfinite(matrix).all()
        if not right or not (np.isfinite(deviations) & (deviations >= 0)).all():
            fail(
                "Expected n `stddevs` of at least 0 and an n x n matrix of `eigenvectors`.",
                stddevs=values, eigenvectors=vectors,
            )  # fmt: skip
        if not stddev * np.abs(matrix).max() * deviations.max() <= LARGEST:
            fail(
                f"Expected shifts of at most {LARGEST}.", stddev=stddev, stddevs=values, eigenvectors=vectors
            )  # fmt: skip

    @property
    def components(self) -> Any:
        """The standard deviations, and the matrix whose columns are the components."""
        if self.stddevs is None:
            low, high = self.value_range or (0, 1)
            deviations = np.float32(high - low) * np.asarray(IMAGENET_STDDEVS, "float32")
            return deviations, np.asarray(IMAGENET_EIGENVECTORS, "float32")
        return np.asarray(self.stddevs, "float32"), np.asarray(self.eigenvectors, "float32")

    def adapt(self, data: Tensors) -> Self:
        """Computes the components from images.

        Args:
            data: Array of images (n, height, width, channels) or videos (n, frames, height, width, channels), or an
                iterable of batches of these, or of tuples that start with them. With `data_format="channels_first"`,
                channels are the second axis.

        Returns:
            The layer itself.
        """
        count, total, product = 0, 0.0, 0.0
        for images in [data] if hasattr(data, "shape") else data:
            if isinstance(images, (tuple, list)):
                images = images[0]
            if isinstance(images, dict):
                images = images["images"]
            images = np.asarray(
                keras.ops.convert_to_numpy(images) if keras.ops.is_tensor(images) else images, "float64"
            )
            if self.data_format == "channels_first":
                images = np.moveaxis(images, -3 if images.ndim == 3 else 1, -1)
            pixels = images.reshape(-1, images.shape[-1])
            count, total, product = count + len(pixels), total + pixels.sum(0), product + pixels.T @ pixels
        if count < 2:
            raise ValueError(f"Expected images with at least 2 pixels. Received: {count} pixels")
        mean = total / count
        values, vectors = np.linalg.eigh(product / count - np.outer(mean, mean))
        self.stddevs = np.sqrt(np.maximum(values[::-1], 0)).tolist()
        self.eigenvectors = vectors[:, ::-1].tolist()
        return self

    def _check(self, batch):
        if number_of_channels(batch, self.data_format, type(self).__name__) not in (None, len(self.components[0])):
            fail(f"Expected images with {len(self.components[0])} channels.", shape=tuple(batch.images.shape))
        if self.value_range is not None:
            check_fill("value_range", self.value_range, self._dtype_of_pixels(batch.images, batch))

    @property
    def normal_numbers(self) -> int:  # type: ignore[override]
        return len(self.components[0])

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Returns the shift of each image, (batch, channels)."""
        deviations, vectors = self.components
        a = random.normal * self.strength("stddev", batch)
        return batch.computed_once(batch.ops.matmul(a, batch.ops.convert_to_tensor((vectors * deviations).T)))[0]

    def transform_images(self, images: Tensor, shift: Any, batch: Any) -> Tensor:
        ops, dtype, channels = batch.ops, dtype_of(images), self.normal_numbers
        wide = batch.place.dtype_of_arithmetic(dtype)
        axes = (-1, 1, 1, channels) if self.data_format == "channels_last" else (-1, channels, 1, 1)
        shifted = ops.cast(images, wide) + ops.cast(ops.reshape(shift, axes), wide)
        shifted = shifted if self.value_range is None else ops.clip(shifted, *map(float, self.value_range))
        return ops.cast(shifted, dtype)

    def _transform(self, batch, u, noise=None, select=None):
        return batch if self._is_plain("stddev", 0) else super()._transform(batch, u, noise, select)

    def get_config(self) -> Config:
        names = ("stddevs", "eigenvectors", "value_range")
        own = {"stddev": serialize(self.stddev), **{name: serialize(getattr(self, name)) for name in names}}
        return {**super().get_config(), **own}
