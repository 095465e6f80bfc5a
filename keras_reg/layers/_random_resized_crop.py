from collections.abc import Sequence
from typing import Any

import keras

from keras_reg._typing import Config, DataFormat, Pair, Shape
from keras_reg._validation import check_choice, check_integer_or_pair, check_range, check_ratio, usable_ratio
from keras_reg.layers._augmentation._hooks import apply_hooks
from keras_reg.layers._batch._boxes import FORMATS
from keras_reg.layers._batch._shapes import height_width
from keras_reg.layers._mover import Mover
from keras_reg.layers._pixels._crop import Crop

LEAST_AREA = 1e-12  # of a crop, in pixels; below it, float32 cannot distinguish positions in an image


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomResizedCrop(Mover):
    """Crops a box of random area and aspect ratio from each image and resizes it to a fixed size.

    The area is uniform in `scale`, and the aspect ratio is log-uniform in the part of `ratio` at which a crop of this
    area fits. The corner is uniform over the positions at which the crop lies inside the image. All are fractions of
    pixels. Resizing is bilinear, with antialiasing if the crop shrinks. Masks and dense label maps take the nearest
    pixel, and bounding boxes move with the images. A pixel that is infinite or NaN makes the new pixels NaN that are
    interpolated from it. In inference, the whole image is resized, so the size is the same.

    Args:
        size: Height and width of the output, a pair of integers from 1 to 2^16, or one integer for both.
        scale: Least and most area of the crop as a share of the image, both in (0, 1].
        ratio: Least and most aspect ratio, width / height as in torchvision and the Inception papers, both > 0.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes are clipped. Boxes that are cut off completely get class -1.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, which are not changed, except dense maps.
        sample_weight: Weights, which are not changed, except those of shape (batch, height, width), which move with the
            images.
        training: `False` resizes the whole image. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), or (batch, channels, height, width) with "channels_first".
        A single image without the batch axis is accepted. Integer images become floats of the layer's compute dtype,
        also in inference.

    Output shape:
        (batch, *size, channels), or (batch, channels, *size) with "channels_first".

    Raises:
        ValueError: For arguments out of range, and for entries with positions in the images that cannot be moved,
            such as `landmarks`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomResizedCrop
    >>> images = RandomResizedCrop((4, 6), scale=(0.5, 1), seed=0)(np.ones((2, 9, 8, 3)))
    >>> images.shape[1:3] == (4, 6) and bool(np.allclose(np.asarray(images), 1))
    True

    References:
        - [Going Deeper with Convolutions](https://arxiv.org/abs/1409.4842) (Szegedy et al., 2015). torchvision draws
          up to ten times until the crop fits. This layer only draws crops that fit.
    """

    uniform_numbers = 4
    kinds = ("image", "video")
    keeps_integers = False
    interpolation = "bilinear"

    _has_rate = False
    _selects = False
    _makes_images = False
    _works_on_host = False

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Pair = (0.08, 1.0),
        ratio: Pair = (3 / 4, 4 / 3),
        bounding_box_format: str = "xyxy",
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        size = check_integer_or_pair("size", size, low=1, high=2**16)
        scale = check_range("scale", scale, 0, 1, open_low=True)
        ratio = check_ratio("ratio", ratio)
        bounding_box_format = check_choice("bounding_box_format", bounding_box_format, FORMATS)
        super().__init__(data_format=data_format, seed=seed, **kwargs)
        self.size, self.scale, self.ratio, self.bounding_box_format = size, scale, ratio, bounding_box_format

    @property
    def sizes(self) -> tuple[int, int]:
        """The height and width of the output."""
        return tuple(self.size) if isinstance(self.size, (tuple, list)) else (self.size, self.size)

    def compute_image_shape(self, image_shape: Shape) -> Shape:
        if self.data_format == "channels_last":
            return (image_shape[0], *self.sizes, image_shape[3])
        return (*image_shape[:2], *self.sizes)

    def _check_inference(self, batch):
        self._check(batch)
        self._check_compute_dtype(batch)

    def _inference_spec(self, batch):
        return self._output_spec(batch)

    def _inference(self, batch):
        """Resizes the whole image."""
        ops = batch.ops
        batch = self._cast_images(batch)
        height, width = (ops.cast(n, "float32") for n in height_width(batch.images, self.data_format, ops))
        ones = ops.ones_like(ops.cast(ops.arange(0, batch.size(), dtype="int32"), "float32"))
        return apply_hooks(self, batch, Crop(0.0 * ones, 0.0 * ones, height * ones, width * ones, self.sizes), None)

    def geometry(self, batch: Any, random: Any) -> Crop:
        """Returns the box to crop from each image."""
        ops, u = batch.ops, random.uniform
        height, width = (ops.cast(n, "float32") for n in height_width(batch.images, self.data_format, ops))
        # The largest area of a crop that lies inside the image and has an aspect ratio in `ratio`.
        ratio = usable_ratio(self.ratio)
        limit = ops.minimum(height * width, ops.minimum(height * height * ratio[1], width * width / ratio[0]))
        limit = ops.minimum(limit, self.scale[1] * height * width)
        first = ops.minimum(self.scale[0] * height * width, limit)
        area = ops.maximum(first + u[:, 0] * (limit - first), LEAST_AREA)
        low = ops.log(ops.maximum(ratio[0], area / (height * height)))
        high = ops.log(ops.minimum(ratio[1], width * width / area))
        log_aspect = low + u[:, 1] * ops.maximum(high - low, 0.0)
        tall = ops.minimum(ops.sqrt(area * ops.exp(-log_aspect)), height)
        wide = ops.minimum(ops.sqrt(area * ops.exp(log_aspect)), width)
        return Crop(u[:, 2] * (height - tall), u[:, 3] * (width - wide), tall, wide, self.sizes)

    def get_config(self) -> Config:
        names = ("size", "scale", "ratio", "bounding_box_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
