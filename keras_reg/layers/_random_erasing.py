from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_reg._renamed import renamed
from keras_reg._typing import Boxes, Config, DataFormat, Kind, Pair, StrengthLike, Tensor
from keras_reg._validation import (
    check_choice,
    check_integer_or_pair,
    check_number,
    check_range,
    check_ratio,
    fail,
    is_integer,
    is_number,
    native,
)
from keras_reg.layers._batch._boxes import FORMATS, check_boxes, drop_erased
from keras_reg.layers._batch._fill_values import check_channels, check_fill_of_maps
from keras_reg.layers._batch._moving import check_masks, check_no_boxes_within
from keras_reg.layers._batch._shapes import static
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.layers._pixels._contents import Constant
from keras_reg.layers._pixels._filling import Filling
from keras_reg.layers._pixels._kernels import kernels_for
from keras_reg.layers._pixels._random_boxes import RandomBoxes

MOST_BOXES = 256  # each box needs its own draw and its own pass
NOISE = ("channel_noise", "pixel_noise")


@keras.saving.register_keras_serializable(package="keras_reg")
class RandomErasing(BatchAugmentation):
    """Erases boxes of random area, aspect ratio and position, and fills them with a constant or with noise.

    Each image is erased with probability `rate`. All other images, and all pixels outside the boxes, are unchanged. The
    area is uniform in `scale`, and the aspect ratio is log-uniform in the part of `ratio` at which a box of this area
    fits into the image. The corner is uniform over the positions at which the box lies inside the image. In a video,
    the boxes are the same in all frames. In a signal, they are intervals, `scale` is a share of the length, and `ratio`
    is ignored. In inference, the layer is the identity.

    Args:
        rate: Probability that an image is erased, in [0, 1], or a `keras_reg.Strength`.
        scale: Least and most erased area as a share of the image, both in [0, 1]. Areas at which no aspect ratio in
            `ratio` fits are excluded. A box has at least one pixel.
        ratio: Least and most aspect ratio, width / height in pixels, both > 0. (1, 1) erases squares, as Cutout does.
        count: Number of boxes, which share the area: an integer from 1 to 256, or a pair (least, most), from
            which the number is drawn per image. Boxes may overlap.
        fill: Content of the boxes: a number or one number per channel, in the units of the images, which their dtype
            must be able to hold; "channel_noise" (one random color per box); or "pixel_noise" (one random color per
            pixel; the images of a batch share one tile of noise, which is shifted at random for each image).
        value_range: Range (least, most) of the pixels. With `None`, noise is N(0, 1), which suits standardized
            images. Otherwise, noise is uniform in this range. Noise in integer images requires a range that their dtype
            can hold, within 2^24 of 0.
        mask_fill: The value that fills the boxes in segmentation masks and in labels that are dense maps. With `None`,
            they are not changed.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes are not moved. Boxes that are erased completely get class -1.
        kind: Kind of sample: "image", "video", "signal", or `None`, which treats inputs with four axes as images
            and inputs with five axes as videos. Signals need "signal", since three axes may also be one image.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, which are not changed, except dense maps with `mask_fill`.
        sample_weight: Weights, which are not changed.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), videos (batch, time, height, width, channels), or with `kind="signal"`
        signals (batch, time, channels). With "channels_first", the channels are the second axis. A single sample
        without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers.

    Raises:
        ValueError: For arguments out of range, numbers that the dtype of the images or masks cannot hold, and images of
            a known size in which no box fits.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import RandomErasing
    >>> images = RandomErasing(rate=1, scale=(0.25, 0.25), ratio=(1, 1), seed=0)(np.ones((2, 8, 8, 3)))
    >>> float(np.asarray(images).mean())
    0.75

    References:
        - [Random Erasing Data Augmentation](https://arxiv.org/abs/1708.04896) (Zhong et al., 2020) draws area and
          aspect ratio again until the box fits, and thus prefers small boxes. This layer only draws boxes that fit.
        - [Improved Regularization of Convolutional Neural Networks with Cutout](https://arxiv.org/abs/1708.04552)
          (DeVries and Taylor, 2017) erases squares that may extend beyond the image.
    """

    keeps_integers = True
    moves_pixels = False
    kinds = ("image", "video", "signal")

    _selects = True
    _makes_images = True
    _works_on_host = True
    _one_pass = True

    @renamed(value="fill", fill_mode="fill", fill_value="fill", mask_fill_value="mask_fill")
    def __init__(
        self,
        rate: StrengthLike = 0.5,
        scale: Pair = (0.02, 0.33),
        ratio: Pair = (0.3, 3.3),
        count: int | Sequence[int] = 1,
        fill: float | Sequence[float] | Literal["channel_noise", "pixel_noise"] = 0.0,
        value_range: Pair | None = None,
        mask_fill: float | None = None,
        bounding_box_format: str = "xyxy",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        scale, ratio = check_range("scale", scale, 0, 1), check_ratio("ratio", ratio)
        count, fill = self._check_count(count), self._check_fill(fill)
        bounding_box_format = check_choice("bounding_box_format", bounding_box_format, FORMATS)
        value_range = None if value_range is None else check_range("value_range", value_range)
        if mask_fill is not None:
            mask_fill = check_number("mask_fill", mask_fill)
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.scale, self.ratio, self.count = scale, ratio, count
        self.fill, self.value_range, self.mask_fill = fill, value_range, mask_fill
        self.bounding_box_format = bounding_box_format
        self.supports_masking = True  # an erased step stays a step

    @staticmethod
    def _check_count(count):
        count = check_integer_or_pair("count", count, low=1, high=MOST_BOXES)
        if not is_integer(count) and count[0] > count[1]:
            fail("`count` must be an integer, or a pair (least, most) with least <= most.", count=count)
        return count

    @staticmethod
    def _check_fill(fill):
        fill = native(fill)
        numbers = fill if isinstance(fill, (tuple, list)) and fill else [fill]
        if not (isinstance(fill, str) and fill in NOISE) and not all(map(is_number, numbers)):
            fail('`fill` must be a number, one number per channel, "channel_noise" or "pixel_noise".', fill=fill)
        return fill

    @property
    def uniform_numbers(self) -> int:  # type: ignore[override]
        return self._boxes.uniform_numbers

    @property
    def _boxes(self):
        least, most = (self.count, self.count) if is_integer(self.count) else tuple(self.count)
        return RandomBoxes(self.scale, self.ratio, least, most)

    def _check(self, batch):
        if batch.boxes is not None:
            check_boxes(batch, self.bounding_box_format)
        images = batch.images
        check_channels("fill", self.fill, batch, self.data_format, type(self).__name__)
        dtype = self._dtype_of_pixels(batch.images, batch)
        check_fill_of_maps(self.mask_fill, batch, self.data_format)
        self.filling.check(dtype)
        check_no_boxes_within(batch.labels, type(self).__name__)
        if self.mask_fill is not None:
            check_masks(batch, self.data_format)
        axes = (-3, -2) if self.data_format == "channels_last" else (-2, -1)
        height, width = (static(images, axis) for axis in axes)
        if batch.is_signal:
            return  # an interval of any length fits
        if height and width and self.scale[0] > self._boxes.largest_area(height, width) / (height * width) + 1e-6:
            fail(
                f"No box with an area in `scale` and an aspect ratio in `ratio` fits into {height} x {width} pixels.",
                scale=self.scale, ratio=self.ratio,
            )  # fmt: skip

    def _draw_noise(self, batch, key):
        return None if self._is_plain("rate", 0) else self.filling.draw(batch, self._boxes.most, key)

    @property
    def _draws_pixels(self):
        return self.fill == "pixel_noise"

    @property
    def filling(self) -> Any:
        mode = self.fill if self.fill in NOISE else "constant"
        return Filling(mode, self.fill, self.value_range, self.data_format)

    def get_random_transformation(self, batch: Any, random: Any) -> Any:
        """Returns boxes and the noise for them. A box is (top, left, height, width) in whole pixels, each (batch,)."""
        return self._boxes.draw(batch, random.uniform, random.selected, self.data_format), random.normal

    def transform_images(self, images: Tensor, transformation: Any, batch: Any) -> Tensor:
        boxes, noise = transformation
        content = self.filling.content(batch, noise)
        return kernels_for(batch, self.data_format).fill(images, boxes, content, batch.fresh)

    def transform_segmentation_masks(self, segmentation_masks: Tensor, transformation: Any, batch: Any) -> Tensor:
        if self.mask_fill is None:
            return segmentation_masks
        kernels = kernels_for(batch, self.data_format)
        return kernels.fill(segmentation_masks, transformation[0], Constant(self.mask_fill))

    def transform_bounding_boxes(self, bounding_boxes: Boxes, transformation: Any, batch: Any) -> Boxes:
        for box in transformation[0]:
            batch = drop_erased(batch, box, self.bounding_box_format, self.data_format)
        return batch.boxes

    def get_config(self) -> Config:
        names = (
            "scale", "ratio", "count", "fill", "value_range", "mask_fill",
            "bounding_box_format",
        )  # fmt: skip
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
